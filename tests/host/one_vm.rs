//! Stopping, starting and restarting one VM, and what switches make of it.

use std::time::Duration;

use super::guest::Then;
use super::host::{Host, LAN, Ran, unit, vm, vm_alone};
use super::machine::Networkd;
use super::until::until;

cases![
    a_guest_that_was_not_asked_did_not_power_off,
    a_stopped_vm_is_left_alone_until_it_is_started,
    a_vm_that_cannot_be_stopped_is_not_held,
    systemctl_stop_holds_and_restart_does_not,
    start_and_restart_act_on_one_declared_vm,
    a_vm_can_be_restarted_again_and_again,
    a_restart_waits_until_the_old_tap_is_gone,
];

fn a_vm_that_cannot_be_stopped_is_not_held() {
    let host = Host::with_web(Then::PowerOffWhenAsked, "");
    let no_bus = ["env", "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nowhere", "nkudo"];
    for command in [["stop", "web"].as_slice(), &["stop", "web", "--force"]] {
        Ran::of(&host.machine.run(&[&no_bus, command].concat()))
            .ended(1)
            .says("cannot reach systemd");
        assert!(!host.exists("/run/nkudo/held/web"), "{command:?}");
    }
    host.nkudo(&["switch"]).done().says("nothing to do");
}

fn a_stopped_vm_is_left_alone_until_it_is_started() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    host.guest("db", Then::PowerOffWhenAsked);
    host.switch_to(&[LAN, &vm("web", ""), &vm("db", "")].concat())
        .done();
    host.nkudo(&["stop", "web"]).done();
    host.is_gone("web");
    host.nkudo(&["switch"]).done();
    host.is_gone("web");
    // Also while it changes.
    host.switch_to(&[LAN, &vm("web", "memory = \"128M\""), &vm("db", "")].concat())
        .done();
    host.is_gone("web");
    host.nkudo(&["start", "web"]).done();
    assert_eq!(host.property("web", "ActiveState"), "active");
    host.tap_is_in("web", "nk-lan");
    host.nkudo(&["switch"]).done().says("nothing to do");
}

fn systemctl_stop_holds_and_restart_does_not() {
    let host = Host::boot(Networkd::Off);
    for id in ["web", "db"] {
        host.guest(id, Then::PowerOffWhenAsked);
    }
    host.switch_to(&[LAN, &vm("web", ""), &vm("db", "")].concat())
        .done();
    let pid = host.main_pid("web");
    host.machine.ok(&["systemctl", "restart", &unit("web")]);
    let pid = host.active_again("web", pid);
    host.nkudo(&["switch"]).done().says("nothing to do");
    assert_eq!(host.main_pid("web"), pid);
    // A guest that powers off by itself is no stop of anybody's, also after a restart.
    assert_eq!(host.ask("web", "PUT vm.power-button").0, 204);
    host.is_gone("web");
    host.nkudo(&["switch"]).done().says("VM web: start");
    host.machine.ok(&["systemctl", "stop", &unit("web")]);
    host.is_gone("web");
    host.nkudo(&["switch"])
        .done()
        .says("VM web: leave alone: it is held (`systemctl stop`)");
    host.switch_to(&[LAN, &vm("web", "memory = \"128M\""), &vm("db", "")].concat())
        .done();
    host.is_gone("web");
    let status = host.nkudo(&["status"]).done();
    assert!(status.stdout.contains("held"), "{status}");
    host.nkudo(&["start", "web"]).done();
    host.tap_is_in("web", "nk-lan");
    // nkudo's own stops and restarts hold nothing.
    host.switch_to(&[LAN, &vm("web", ""), &vm("db", "")].concat())
        .done();
    host.nkudo(&["restart", "db"]).done();
    host.nkudo(&["switch"]).done().says("nothing to do");
    assert_eq!(host.machine.ok(&["ls", "/run/nkudo/held"]), "");
    assert_eq!(host.machine.ok(&["ls", "/run/nkudo/stopping"]), "");
}

fn start_and_restart_act_on_one_declared_vm() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    host.guest("db", Then::PowerOffWhenAsked);
    host.nkudo(&["start", "web"]).ended(1).says("nkudo switch");
    let config = [LAN, &vm("web", "autostart = false"), &vm("db", "")].concat();
    host.switch_to(&config).done();
    host.is_gone("web");
    let db = host.main_pid("db");
    host.nkudo(&["start", "web"]).done();
    host.tap_is_in("web", "nk-lan");
    let web = host.main_pid("web");
    host.nkudo(&["start", "web"]).done();
    assert_eq!(host.main_pid("web"), web);
    host.nkudo(&["restart", "web"]).done();
    assert_ne!(host.main_pid("web"), web);
    assert_eq!(host.main_pid("db"), db);
    host.nkudo(&["stop", "db"]).done();
    host.nkudo(&["stop", "db"]).done();
    host.nkudo(&["restart", "db"]).done();
    host.tap_is_in("db", "nk-lan");
    for command in ["start", "restart"] {
        host.nkudo(&[command, "other"])
            .ended(1)
            .says("has no VM other");
    }
    host.nkudo(&["start"]).ended(2);
    host.nkudo(&["start", "No Id"]).ended(2);
}

/// Each start makes the TAP of the name anew, which PID 1 may not have closed yet.
fn a_vm_can_be_restarted_again_and_again() {
    let host = Host::boot(Networkd::Off);
    host.guest("web", Then::PowerOffWhenAsked);
    host.switch_to(&[LAN, &vm("web", "")].concat()).done();
    for _ in 0..15 {
        host.nkudo(&["restart", "web"]).done();
        assert_eq!(host.property("web", "ActiveState"), "active");
    }
    host.tap_is_in("web", "nk-lan");
}

/// systemd closes what a unit held in a process of its own, after the unit is gone: here that takes
/// longer, because somebody else has the TAP open as well.
fn a_restart_waits_until_the_old_tap_is_gone() {
    let host = Host::boot(Networkd::Off);
    host.guest("web", Then::PowerOffWhenAsked);
    host.switch_to(&[LAN, &vm("web", "")].concat()).done();
    let (pid, held) = (host.main_pid("web"), host.machine.tap_of_pid_1("nkt-web-0"));
    let restart = host.machine.spawn(&["nkudo", "restart", "web"]);
    until("the old VMM has ended", || {
        if host.exists(&format!("/proc/{pid}")) {
            Err(String::new())
        } else {
            Ok(())
        }
    });
    std::thread::sleep(Duration::from_millis(300));
    drop(held);
    Ran::of(&restart.wait_with_output().unwrap()).done();
    host.tap_is_in("web", "nk-lan");
}

fn a_guest_that_was_not_asked_did_not_power_off() {
    let host = Host::boot(Networkd::On);
    host.guest("deaf", Then::Halt);
    host.switch_to(&vm_alone("deaf", "stop-timeout = \"10min\""))
        .done();
    // It kills the step that would ask along with the VMM.
    host.nkudo(&["stop", "deaf", "--force=0"]).done();
    host.is_gone("deaf");
    assert_eq!(host.exits("deaf").last().unwrap(), "stopped");
}
