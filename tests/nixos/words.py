# What the VM tests say of their machine; each script begins with it.


def pid(vm):
    """The VMM's process; 0 where the VM does not run."""
    unit = f"nkudo-vm@{vm}.service"
    return int(machine.succeed(f"systemctl show --property MainPID --value {unit}"))


def pids(*vms):
    return {vm: pid(vm) for vm in vms}


def runs(*vms):
    for vm in vms:
        assert pid(vm) != 0, f"{vm} does not run"
        machine.succeed(f"systemctl is-active nkudo-vm@{vm}.service")


def restarted(vm, before):
    """Waits until another process of the VM runs."""
    unit = f"nkudo-vm@{vm}.service"
    machine.wait_until_succeeds(
        f"pid=$(systemctl show --property MainPID --value {unit});"
        f" test $pid != 0 -a $pid != {before}"
    )


def is_in_bridge(vm, bridge="nk-lan"):
    machine.succeed(f"ip -o link show nkt-{vm}-0 | grep -F ' master {bridge} '")


def is_gone(vm):
    state = machine.succeed(f"systemctl show --property LoadState --value nkudo-vm@{vm}.service")
    assert state.strip() == "not-found", state
    machine.fail(f"ip link show nkt-{vm}-0")
    machine.fail(f"test -e /run/nkudo/booted/{vm}.json")


def nothing_is_left():
    machine.fail("ls /sys/class/net | grep '^nk'")
    units = machine.succeed("systemctl list-units --all --plain --no-legend 'nkudo-vm@*'")
    assert units.strip() == "", units


def system(name=None):
    """The machine's own configuration, or one of its specialisations."""
    return "/run/booted-system" + (f"/specialisation/{name}" if name else "")


def switch(name=None):
    return machine.succeed(f"{system(name)}/bin/switch-to-configuration test 2>&1")


def is_up():
    machine.wait_for_unit("multi-user.target")
    machine.wait_for_unit("nkudo-switch.service")
    machine.wait_for_unit("nkudo-boot.service")
