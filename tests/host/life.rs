//! The life of a VM: it starts, stops, ends, fails and comes back.

use super::Case;
use super::guest::Then;
use super::machine::{Machine, Networkd};

pub(super) const CASES: &[Case] = &[
    (
        "a_vm_of_one_file_and_two_commands_runs_and_systemd_owns_it",
        a_vm_of_one_file_and_two_commands_runs_and_systemd_owns_it,
    ),
    (
        "a_killed_vmm_is_restarted_by_systemd_alone_tap_and_all",
        a_killed_vmm_is_restarted_by_systemd_alone_tap_and_all,
    ),
    (
        "a_guest_that_powers_off_ends_its_unit_cleanly_and_leaves_no_tap",
        a_guest_that_powers_off_ends_its_unit_cleanly_and_leaves_no_tap,
    ),
    (
        "systemctl_stop_presses_the_power_button_and_the_guest_reacts",
        systemctl_stop_presses_the_power_button_and_the_guest_reacts,
    ),
    (
        "a_guest_that_ignores_the_power_button_is_ended_after_its_stop_timeout",
        a_guest_that_ignores_the_power_button_is_ended_after_its_stop_timeout,
    ),
    (
        "a_crashed_guest_fails_its_unit_and_is_restarted",
        a_crashed_guest_fails_its_unit_and_is_restarted,
    ),
    (
        "a_guest_that_resets_stays_the_same_unit",
        a_guest_that_resets_stays_the_same_unit,
    ),
    (
        "one_vm_that_cannot_start_does_not_hold_up_the_others",
        one_vm_that_cannot_start_does_not_hold_up_the_others,
    ),
    ("stop_holds_a_vm_until_start", stop_holds_a_vm_until_start),
    (
        "twenty_vms_start_and_stop_at_once",
        twenty_vms_start_and_stop_at_once,
    ),
];

const HELLO: &str = r#"
[network.lan]
address = ["192.168.100.1/24"]
[vm.hello]
memory = "64M"
kernel = "/srv/hello"
stop-timeout = "3s"
[[vm.hello.nic]]
network = "lan"
"#;

fn a_vm_of_one_file_and_two_commands_runs_and_systemd_owns_it() {
    for networkd in [Networkd::On, Networkd::Off] {
        let machine = Machine::boot(networkd);
        machine.guest("hello", Then::Halt);
        let said = machine.switch(HELLO).exits(0);
        assert!(said.contains("VM hello: start: it does not run"), "{said}");

        let pid = machine.main_pid("hello");
        let status = machine.ok(&["systemctl", "status", "--no-pager", "-l", "nkudo-vm@hello"]);
        for text in [
            "/run/systemd/transient/nkudo-vm@hello.service; transient",
            "/nkudo.slice/nkudo-vm@hello.service",
            "/usr/local/bin/cloud-hypervisor --api-socket path=/run/nkudo/vms/hello/api.sock",
        ] {
            assert!(status.contains(text), "{text} is not in\n{status}");
        }
        machine.until("the guest's line is in the journal", || {
            machine.journal("hello").contains("hello lives")
        });
        let by_field = machine.ok(&["journalctl", "-q", "-o", "cat", "NKUDO_VM=hello"]);
        assert!(by_field.contains("hello lives"), "{by_field}");
        assert!(by_field.contains("started hello in"), "{by_field}");

        assert_eq!(machine.links(), ["lo", "nk-lan", "nkt-hello-0"]);
        assert_eq!(machine.master("nkt-hello-0"), "nk-lan");
        let bridge = machine.ok(&["ip", "-br", "address", "show", "nk-lan"]);
        assert!(
            bridge.contains("UP") && bridge.contains("192.168.100.1/24"),
            "{bridge}"
        );

        // Nothing of nkudo runs, and a second switch finds nothing to do.
        assert!(!machine.run(&["pgrep", "-x", "nkudo"]).status.success());
        let said = machine.nkudo(&["switch"]).exits(0);
        assert!(said.contains("nothing to do"), "{said}");
        assert_eq!(machine.main_pid("hello"), pid);

        let status = machine.nkudo(&["status"]);
        status.exits(0);
        let line = status.stdout();
        let line = line.lines().find(|line| line.starts_with("hello")).unwrap();
        assert!(line.contains("running") && line.contains(&pid), "{line}");
        let json = machine.nkudo(&["status", "--json", "hello"]).stdout();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["vms"][0]["state"], "running");
        assert_eq!(json["vms"][0]["main-pid"].to_string(), pid);
    }
}

fn a_killed_vmm_is_restarted_by_systemd_alone_tap_and_all() {
    let machine = Machine::boot(Networkd::On);
    machine.guest("hello", Then::Halt);
    machine.switch(HELLO).exits(0);
    let mut pid = machine.main_pid("hello");
    let index = |machine: &Machine| machine.ok(&["cat", "/sys/class/net/nkt-hello-0/ifindex"]);
    let tap = index(&machine);
    // Also after systemd has read the unit back from its file, and after it has replaced itself.
    for before in ["show-environment", "daemon-reload", "daemon-reexec"] {
        machine.ok(&["systemctl", before]);
        machine.ok(&["kill", "-KILL", &pid]);
        machine.until("another VMM runs", || {
            let now = machine.property("hello", "MainPID");
            now != "0" && now != pid && machine.property("hello", "SubState") == "running"
        });
        pid = machine.main_pid("hello");
        assert_eq!(index(&machine), tap, "after {before}: it is another TAP");
        assert_eq!(machine.master("nkt-hello-0"), "nk-lan");
    }
    let journal = machine.journal("hello");
    assert!(
        journal.contains("VM hello ended: the VMM was killed by SIGKILL"),
        "{journal}"
    );
    // What systemd restarted is what was declared.
    let said = machine.nkudo(&["switch"]).exits(0);
    assert!(said.contains("nothing to do"), "{said}");
}

fn a_guest_that_powers_off_ends_its_unit_cleanly_and_leaves_no_tap() {
    let machine = Machine::boot(Networkd::On);
    machine.guest("hello", Then::PowerOff);
    machine.switch(HELLO).exits(0);
    machine.until("its unit is gone", || machine.vm_units().is_empty());
    assert_eq!(machine.links(), ["lo", "nk-lan"]);
    let journal = machine.journal("hello");
    assert!(
        journal.contains("VM hello ended: the guest powered off"),
        "{journal}"
    );
    assert!(journal.contains("Deactivated successfully"), "{journal}");
    let record = machine.ok(&["journalctl", "-q", "-o", "json", "NKUDO_EXIT=powered-off"]);
    let record: serde_json::Value = serde_json::from_str(record.lines().next().unwrap()).unwrap();
    assert_eq!(record["NKUDO_VM"], "hello");
    assert_eq!(record["MESSAGE_ID"], "bbe3a6f334f74964b9a10ac886373388");
}

fn systemctl_stop_presses_the_power_button_and_the_guest_reacts() {
    let machine = Machine::boot(Networkd::On);
    machine.guest("hello", Then::PowerOffWhenAsked);
    machine.switch(&HELLO.replace("3s", "30s")).exits(0);
    machine.until("the guest has booted", || {
        machine.journal("hello").contains("hello lives")
    });
    machine.ok(&["systemctl", "stop", "nkudo-vm@hello"]);
    let journal = machine.journal("hello");
    assert!(journal.contains("the guest powered off 0."), "{journal}");
    assert!(
        journal.contains("VM hello ended: it was stopped"),
        "{journal}"
    );
    assert_eq!(machine.vm_units(), "");
    assert_eq!(machine.links(), ["lo", "nk-lan"]);
}

fn a_guest_that_ignores_the_power_button_is_ended_after_its_stop_timeout() {
    let machine = Machine::boot(Networkd::On);
    machine.guest("hello", Then::Halt);
    machine.switch(&HELLO.replace("3s", "700ms")).exits(0);
    machine.nkudo(&["stop", "hello"]).exits(0);
    let journal = machine.journal("hello");
    assert!(
        journal.contains("did not react to the power button within 700ms"),
        "{journal}"
    );
    assert!(
        journal.contains("VM hello ended: it was stopped"),
        "{journal}"
    );
    // The unit did not fail for it: its name is free.
    assert_eq!(machine.vm_units(), "");
}

fn a_crashed_guest_fails_its_unit_and_is_restarted() {
    let machine = Machine::boot(Networkd::On);
    machine.guest("hello", Then::Crash);
    let said = machine.switch(HELLO).exits(4);
    assert!(said.contains("error: VM hello: "), "{said}");
    assert!(said.contains("a vCPU failed: the guest crashed"), "{said}");
    machine.until("systemd has tried again", || {
        machine.journal("hello").matches("hello lives").count() >= 2
    });
    // The guest is mended: the next switch does not wait for systemd's next try, which may by now
    // be half a minute away.
    machine.guest("hello", Then::Halt);
    // A start of the broken guest may be under way, and fail yet.
    machine.until("a switch gets through", || machine.nkudo(&["switch"]).is(0));
    machine.main_pid("hello");
}

fn a_guest_that_resets_stays_the_same_unit() {
    let machine = Machine::boot(Networkd::On);
    machine.guest("hello", Then::Reset);
    machine.switch(HELLO).exits(0);
    let pid = machine.main_pid("hello");
    machine.until("the guest has booted again", || {
        machine.journal("hello").matches("hello lives").count() >= 3
    });
    assert_eq!(machine.main_pid("hello"), pid);
    assert_eq!(machine.property("hello", "NRestarts"), "0");
}

fn one_vm_that_cannot_start_does_not_hold_up_the_others() {
    let machine = Machine::boot(Networkd::On);
    machine.guest("hello", Then::Halt);
    let with_broken = format!("{HELLO}[vm.broken]\nmemory = \"64M\"\nkernel = \"/srv/none\"\n");
    let said = machine.switch(&with_broken).exits(4);
    assert!(said.contains("error: VM broken: "), "{said}");
    // Its own last words, indented.
    assert!(
        said.contains("    ") && said.contains("No such file or directory"),
        "{said}"
    );
    assert!(
        said.contains("journalctl -u nkudo-vm@broken.service"),
        "{said}"
    );
    let pid = machine.main_pid("hello");
    // It was switched: the failed VM is what remains to be done.
    let target = machine.ok(&["readlink", "/var/lib/nkudo/current"]);
    assert_eq!(target.trim(), "generations/1");
    machine.nkudo(&["switch"]).exits(4);
    assert_eq!(machine.main_pid("hello"), pid);
}

fn stop_holds_a_vm_until_start() {
    let machine = Machine::boot(Networkd::On);
    machine.guest("hello", Then::PowerOffWhenAsked);
    machine.switch(HELLO).exits(0);
    machine.nkudo(&["stop", "hello"]).exits(0);
    assert_eq!(machine.vm_units(), "");
    let said = machine.nkudo(&["switch"]).exits(0);
    assert!(said.contains("it is held"), "{said}");
    assert_eq!(machine.vm_units(), "");
    machine.nkudo(&["start", "hello"]).exits(0);
    let pid = machine.main_pid("hello");
    machine.nkudo(&["start", "hello"]).exits(0);
    assert_eq!(machine.main_pid("hello"), pid);
    machine.nkudo(&["restart", "hello"]).exits(0);
    assert_ne!(machine.main_pid("hello"), pid);
    // What is not declared is refused, and named.
    let said = machine.nkudo(&["start", "other"]).exits(1);
    assert!(said.contains("has no VM other"), "{said}");
}

fn twenty_vms_start_and_stop_at_once() {
    use std::fmt::Write as _;
    let machine = Machine::boot(Networkd::Off);
    machine.guest("hello", Then::Halt);
    let mut configuration = "[network.lan]\n".to_owned();
    for number in 0..20 {
        let _ = write!(
            configuration,
            "[vm.vm{number}]\nmemory = \"32M\"\nkernel = \"/srv/hello\"\nstop-timeout = \"100ms\"\n\
             [[vm.vm{number}.nic]]\nnetwork = \"lan\"\n"
        );
    }
    machine.switch(&configuration).exits(0);
    let running = machine.vm_units();
    let active = running
        .lines()
        .filter(|line| line.contains(" active running "))
        .count();
    assert_eq!(active, 20, "{running}");
    assert_eq!(machine.links().len(), 22);
    machine.switch("").exits(0);
    assert_eq!(machine.vm_units(), "");
    assert_eq!(machine.links(), ["lo"]);
}
