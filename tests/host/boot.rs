//! The host goes down and comes up again.

use super::guest::Then;
use super::host::{Host, LAN, vm, vm_alone};
use super::machine::Networkd;

cases![
    after_a_reboot_the_current_generation_runs_again_with_networkd,
    after_a_reboot_the_current_generation_runs_again_without_networkd,
    what_fails_one_vm_does_not_fail_the_boot_of_others,
];

fn after_a_reboot_the_current_generation_runs_again_with_networkd() {
    reboot(Networkd::On);
}

fn after_a_reboot_the_current_generation_runs_again_without_networkd() {
    reboot(Networkd::Off);
}

/// What the journal has of the boot before: `web` had ended before `db` was asked to.
fn went_down_in_order(host: &Host, networkd: Networkd) {
    let journal = host.messages(&["-b", "-1"]);
    let at = |text: &str| {
        let place = journal.rfind(text);
        place.unwrap_or_else(|| panic!("no {text:?} in\n{journal}"))
    };
    assert!(at("VM web ended: it was stopped") < at("Stopping nkudo-vm@db.service"));
    if networkd == Networkd::On {
        assert!(at("VM db ended: it was stopped") < at("Stopped target network.target"));
    }
    assert!(!journal.contains("VM db ended: it was stopped, and its VMM had to be killed"));
}

fn reboot(networkd: Networkd) {
    let mut host = Host::boot(networkd);
    // The journal of the boot before is to be read after it.
    host.machine.ok(&["mkdir", "-p", "/var/log/journal"]);
    host.machine.ok(&["journalctl", "--flush"]);
    host.machine
        .ok(&["systemctl", "enable", "nkudo-boot.service"]);
    for id in ["web", "held", "later", "db"] {
        host.guest(id, Then::PowerOffWhenAsked);
    }
    let first = [
        LAN,
        &vm("web", "after = [\"db\"]"),
        &vm("held", ""),
        &vm("db", ""),
    ]
    .concat();
    host.switch_to(&first).done();
    host.printed("web", 1);
    host.nkudo(&["stop", "held"]).done();
    // What was rendered and not switched to waits for its switch, and an edit for its render.
    host.configure(&[LAN, &vm("web", "memory = \"128M\""), &vm("later", "")].concat());
    host.nkudo(&["render"]).done();
    host.configure("nonsense");

    host.machine.reboot();
    went_down_in_order(&host, networkd);
    // And once more: what was started at boot goes down as well.
    host.machine.reboot();
    went_down_in_order(&host, networkd);

    assert_eq!(host.property("web", "ActiveState"), "active");
    host.tap_is_in("web", "nk-lan");
    // A stop lasts until the next boot at most.
    assert_eq!(host.property("held", "ActiveState"), "active");
    host.is_gone("later");
    let argv = host
        .machine
        .ok(&["cat", &format!("/proc/{}/cmdline", host.main_pid("web"))]);
    assert!(argv.contains("size=64M"), "{argv}");
    let current = host.machine.ok(&["readlink", "/var/lib/nkudo/current"]);
    assert_eq!(current, "generations/1\n");
    host.machine
        .ok(&["systemctl", "is-active", "nkudo-boot.service"]);
    host.no_nkudo_runs();
    // The guest was shut down by its power button, while the network was still there.
    let before = host.messages(&["-b", "-1", "-u", "nkudo-vm@web"]);
    assert!(before.contains("the guest powered off"), "{before}");
    assert!(before.contains("VM web ended: it was stopped"), "{before}");
    host.configure(&first);
    host.nkudo(&["switch", "1"]).done().says("nothing to do");
}

/// Holds a lock of the kind that VMMs take, from before the VMs start.
const LOCKER: &str = "[Unit]\nBefore=nkudo-boot.service\n[Service]\nType=notify\nNotifyAccess=all\n\
    ExecStart=python3 -c \"import fcntl, struct, subprocess, time\\n\
    file = open('/srv/lent.raw', 'r+b')\\n\
    fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))\\n\
    subprocess.run(['systemd-notify', '--ready'])\\n\
    time.sleep(100000)\"\n[Install]\nWantedBy=multi-user.target\n";

fn what_fails_one_vm_does_not_fail_the_boot_of_others() {
    let mut host = Host::boot(Networkd::Off);
    for id in ["web", "late", "lent", "share", "pages", "gpu"] {
        host.guest(id, Then::PowerOffWhenAsked);
    }
    host.machine.write("/srv/lent.raw", vec![0; 1 << 20], 0o600);
    host.machine
        .write("/etc/systemd/system/locker.service", LOCKER, 0o644);
    host.machine
        .ok(&["systemctl", "enable", "nkudo-boot", "locker"]);
    host.switch_to(&vm_alone("web", "")).done();
    // As it would be if all that is missing had been there once. "kernel" has none.
    let more = |id: &str, more: &str| vm_alone(id, "") + more;
    let all = [
        vm_alone("web", ""),
        vm_alone("late", "after = [\"kernel\"]"),
        vm_alone("kernel", ""),
        more(
            "lent",
            "[[vm.lent.disk]]\npath = \"/srv/lent.raw\"\nformat = \"raw\"\n",
        ),
        more(
            "share",
            "[[vm.share.share]]\ntag = \"srv\"\nsource = \"/srv/shared\"\n",
        ),
        vm_alone("pages", "memory = { size = \"64G\", hugepages = \"1G\" }"),
        more("gpu", "[[vm.gpu.pci]]\naddress = \"ffff:ff:1f.7\"\n"),
    ]
    .concat();
    host.configure(&all);
    host.nkudo(&["render"]).done();
    host.nkudo(&["switch"])
        .ended(1)
        .says("VM pages cannot start: its memory takes 64 huge pages of 1G")
        .says("nothing was changed");
    let argv = ["ln", "-sfn", "generations/2", "/var/lib/nkudo/current"];
    host.machine.ok(&argv);
    host.machine.reboot();

    for id in ["web", "late"] {
        assert_eq!(host.property(id, "ActiveState"), "active", "{id}");
    }
    let boot = host.machine.run(&["systemctl", "is-failed", "nkudo-boot"]);
    assert_eq!(String::from_utf8_lossy(&boot.stdout), "failed\n");
    let journal = host
        .machine
        .ok(&["journalctl", "-b", "-o", "cat", "-u", "nkudo-boot"]);
    let status = host.machine.ok(&["nkudo", "status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let of = |id: &str| {
        let mut vms = status["vms"].as_array().unwrap().iter();
        vms.find(|vm| vm["id"] == id).unwrap()
    };
    for (id, why) in [
        ("kernel", "cannot find its kernel, /srv/guests/kernel"),
        ("lent", "its disk /srv/lent.raw is in use by process"),
        ("share", "the source of its share srv, /srv/shared"),
        ("pages", "its memory takes 64 huge pages of 1G"),
        ("gpu", "there is no PCI device ffff:ff:1f.7"),
    ] {
        host.is_gone(id);
        let line = format!("VM {id}: cannot start: ");
        let line = journal.lines().find(|one| one.contains(&line));
        assert!(
            line.is_some_and(|line| line.contains(why)),
            "{id}: {journal}"
        );
        let vm = of(id);
        assert_eq!(vm["state"], "failed", "{vm}");
        assert!(vm["obstacle"].as_str().unwrap().contains(why), "{vm}");
    }
    assert_eq!(of("web")["obstacle"], serde_json::Value::Null);
    let table = host.nkudo(&["status"]).done().stdout;
    assert!(
        table.contains("left out by the last switch: cannot start: cannot find its kernel"),
        "{table}"
    );
    let doctor = host.nkudo(&["doctor", "gpu"]).stdout;
    assert!(
        doctor.contains("the last switch left it out: cannot start: there is no PCI"),
        "{doctor}"
    );

    // One by one they are mended.
    host.guest("kernel", Then::PowerOffWhenAsked);
    host.nkudo(&["start", "kernel"]).done();
    assert_eq!(host.property("kernel", "ActiveState"), "active");
    assert!(!host.exists("/run/nkudo/obstacles/kernel"));
    host.machine.ok(&["mkdir", "/srv/shared"]);
    host.machine.ok(&["systemctl", "stop", "locker"]);
    let boot = host.nkudo(&["switch", "--boot"]).ended(4);
    assert!(!boot.stderr.contains("error: VM share: "), "{boot}");
    for id in ["share", "lent"] {
        assert_eq!(host.property(id, "ActiveState"), "active", "{id}");
    }
    host.switch_to("").done();
    host.has_nothing();
}
