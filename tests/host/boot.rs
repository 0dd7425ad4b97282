//! The host goes down and comes up again.

use super::guest::Then;
use super::host::{Host, LAN, vm};
use super::machine::Networkd;

cases![
    after_a_reboot_the_current_generation_runs_again_with_networkd,
    after_a_reboot_the_current_generation_runs_again_without_networkd,
];

fn after_a_reboot_the_current_generation_runs_again_with_networkd() {
    reboot(Networkd::On);
}

fn after_a_reboot_the_current_generation_runs_again_without_networkd() {
    reboot(Networkd::Off);
}

/// What the journal has of the boot before: `web` had ended before `db` was asked to.
fn went_down_in_order(host: &Host, networkd: Networkd) {
    let argv = ["journalctl", "-q", "--no-pager", "-o", "cat", "-b", "-1"];
    let journal = host.machine.ok(&argv);
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
    let argv = [
        "journalctl",
        "-q",
        "--no-pager",
        "-o",
        "cat",
        "-b",
        "-1",
        "-u",
        "nkudo-vm@web",
    ];
    let before = host.machine.ok(&argv);
    assert!(before.contains("the guest powered off"), "{before}");
    assert!(before.contains("VM web ended: it was stopped"), "{before}");
    host.configure(&first);
    host.nkudo(&["switch", "1"]).done().says("nothing to do");
}
