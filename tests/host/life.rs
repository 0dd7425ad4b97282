//! A VM's life under systemd, when no nkudo command runs.

use std::time::{Duration, Instant};

use super::guest::Then;
use super::host::{ENDED, Host, LAN, unit, vm};
use super::machine::Networkd;
use super::until::until;

cases![
    a_killed_vmm_is_restarted_on_the_same_tap,
    a_killed_vmm_is_restarted_after_a_daemon_reload,
    a_killed_vmm_is_restarted_after_a_daemon_reexec,
    a_guest_that_powers_off_is_gone_and_stays_so,
    a_guest_that_powers_off_at_once_is_no_failure,
    a_guest_that_crashes_is_restarted,
    a_guest_that_always_crashes_is_given_up,
    restart_always_brings_a_powered_off_guest_back,
    a_resetting_guest_keeps_its_vmm,
    a_stop_is_a_clean_shutdown_by_the_power_button,
    a_guest_that_ignores_the_button_is_ended_after_its_timeout,
    a_frozen_vmm_does_not_hold_up_a_stop,
    a_vmm_that_ignores_sigterm_is_killed_and_leaves_nothing,
    a_restart_by_systemd_keeps_the_tap,
    a_vm_of_an_earlier_nkudo_restarts_after_a_switch_that_has_nothing_to_do,
    all_vms_stop_with_their_slice,
];

/// A host with one VM that runs.
fn web(then: Then, more: &str) -> Host {
    let host = Host::with_web(then, more);
    host.tap_is_in("web", "nk-lan");
    host.no_nkudo_runs();
    host
}

/// Kills the VMM, and checks that systemd starts it anew with all that it had.
fn survives_a_kill(host: &Host, printed: usize) {
    let pid = host.main_pid("web");
    let tap = host.tap_is_in("web", "nk-lan");
    host.machine.ok(&["kill", "-KILL", &pid.to_string()]);
    host.active_again("web", pid);
    let again = host.tap_is_in("web", "nk-lan");
    assert_eq!(
        (&again["ifindex"], &again["address"]),
        (&tap["ifindex"], &tap["address"])
    );
    host.printed("web", printed + 1);
    let journal = host.journal("web");
    assert!(
        journal.contains("the VMM was killed by SIGKILL"),
        "{journal}"
    );
    host.no_nkudo_runs();
    // It is as declared again, without a word of nkudo's.
    host.nkudo(&["switch"]).done().says("nothing to do");
}

fn a_killed_vmm_is_restarted_on_the_same_tap() {
    let host = web(Then::PowerOffWhenAsked, "");
    survives_a_kill(&host, 1);
    survives_a_kill(&host, 2);
    assert_eq!(host.property("web", "NRestarts"), "2");
}

fn a_killed_vmm_is_restarted_after_a_daemon_reload() {
    let host = web(Then::PowerOffWhenAsked, "");
    let pid = host.main_pid("web");
    host.machine.ok(&["systemctl", "daemon-reload"]);
    assert_eq!(host.main_pid("web"), pid);
    survives_a_kill(&host, 1);
    host.machine.ok(&["systemctl", "stop", &unit("web")]);
    host.is_gone("web");
}

fn a_killed_vmm_is_restarted_after_a_daemon_reexec() {
    let host = web(Then::PowerOffWhenAsked, "");
    let pid = host.main_pid("web");
    host.machine.ok(&["systemctl", "daemon-reexec"]);
    until("systemd is back", || {
        let state = host.machine.run(&["systemctl", "is-active", &unit("web")]);
        if state.status.success() {
            Ok(())
        } else {
            Err(String::new())
        }
    });
    assert_eq!(host.main_pid("web"), pid);
    survives_a_kill(&host, 1);
    host.machine.ok(&["systemctl", "stop", &unit("web")]);
    host.is_gone("web");
}

fn a_guest_that_powers_off_is_gone_and_stays_so() {
    let host = web(Then::PowerOffWhenAsked, "");
    // Past nkudo and systemd, as if the guest had been told from within.
    assert_eq!(host.ask("web", "PUT vm.power-button").0, 204);
    host.is_gone("web");
    assert_eq!(host.exits("web"), ["powered-off"]);
    let ended = ["journalctl", "-q", "-o", "json", ENDED];
    let ended: serde_json::Value = serde_json::from_str(&host.machine.ok(&ended)).unwrap();
    assert_eq!(
        (&ended["NKUDO_VM"], &ended["NKUDO_EXIT"]),
        (&"web".into(), &"powered-off".into())
    );
    assert!(
        !host
            .machine
            .run(&["systemctl", "is-failed", &unit("web")])
            .status
            .success()
    );
    host.no_nkudo_runs();
    let status = host.nkudo(&["status"]).done();
    assert!(status.stdout.contains("stopped"), "{status}");
}

/// Whether the guest is gone before the switch has looked at it, or while it does, or after.
fn a_guest_that_powers_off_at_once_is_no_failure() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOff);
    host.configure(&[LAN, &vm("web", "")].concat());
    host.nkudo(&["render"]).done();
    for times in 1..=8 {
        host.nkudo(&["switch"]).done();
        host.is_gone("web");
        host.printed("web", times);
        assert_eq!(host.exits("web"), vec!["powered-off"; times]);
    }
}

fn a_guest_that_crashes_is_restarted() {
    let host = web(Then::CrashWhenAsked, "");
    let pid = host.main_pid("web");
    assert_eq!(host.ask("web", "PUT vm.power-button").0, 204);
    host.active_again("web", pid);
    host.tap_is_in("web", "nk-lan");
    host.printed("web", 2);
    assert_eq!(host.exits("web"), ["crashed"]);
    assert_eq!(host.property("web", "NRestarts"), "1");
    let journal = host.journal("web");
    assert!(journal.contains("VCPU generated error"), "{journal}");
}

fn a_guest_that_always_crashes_is_given_up() {
    let host = Host::boot(Networkd::On);
    // Five tries a minute; without a drop-in the pauses between them grow.
    let drop_in = "[Service]\nRestartSec=100ms\nRestartSteps=0\n";
    let path = "/etc/systemd/system/nkudo-vm@.service.d/impatient.conf";
    host.machine.write(path, drop_in, 0o644);
    host.guest("web", Then::Crash);
    host.switch_to(&[LAN, &vm("web", "")].concat())
        .ended(4)
        .says("VM web: ")
        .says("a vCPU failed: the guest crashed");
    until("systemd gives up", || {
        match host.property("web", "ActiveState").as_str() {
            "failed" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    host.printed("web", 5);
    // A new guest is tried at once, whatever the old one did.
    host.guest("web", Then::PowerOffWhenAsked);
    host.nkudo(&["switch"]).done();
    assert_eq!(host.property("web", "ActiveState"), "active");
    host.tap_is_in("web", "nk-lan");
}

fn restart_always_brings_a_powered_off_guest_back() {
    let host = web(Then::PowerOffWhenAsked, "restart = \"always\"");
    let pid = host.main_pid("web");
    assert_eq!(host.ask("web", "PUT vm.power-button").0, 204);
    host.active_again("web", pid);
    host.tap_is_in("web", "nk-lan");
    // A stop that somebody asks for is one nevertheless.
    host.machine.ok(&["systemctl", "stop", &unit("web")]);
    host.is_gone("web");
}

fn a_resetting_guest_keeps_its_vmm() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::Reset);
    host.switch_to(&[LAN, &vm("web", "stop-timeout = \"1s\"")].concat())
        .done();
    let pid = host.main_pid("web");
    until("the guest has booted three times", || {
        let journal = host.journal("web");
        let lines = journal
            .lines()
            .filter(|l| l.trim_end() == "hello from web")
            .count();
        if lines >= 3 {
            Ok(())
        } else {
            Err(format!("{lines} lines"))
        }
    });
    assert_eq!(host.main_pid("web"), pid);
    assert_eq!(host.property("web", "NRestarts"), "0");
    host.machine.ok(&["systemctl", "stop", &unit("web")]);
    host.is_gone("web");
}

fn a_stop_is_a_clean_shutdown_by_the_power_button() {
    let host = web(Then::PowerOffWhenAsked, "");
    let begun = Instant::now();
    host.machine.ok(&["systemctl", "stop", &unit("web")]);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    host.is_gone("web");
    let journal = host.journal("web");
    assert!(journal.contains("the guest powered off"), "{journal}");
    assert_eq!(host.exits("web"), ["stopped"]);
    host.no_nkudo_runs();
}

fn a_guest_that_ignores_the_button_is_ended_after_its_timeout() {
    let host = web(Then::Halt, "stop-timeout = \"1s\"");
    let begun = Instant::now();
    host.machine.ok(&["systemctl", "stop", &unit("web")]);
    let took = begun.elapsed();
    assert!((1..8).contains(&took.as_secs()), "{took:?}");
    host.is_gone("web");
    let journal = host.journal("web");
    assert!(
        journal.contains("did not react to the power button within 1s"),
        "{journal}"
    );
    assert_eq!(host.exits("web"), ["stop-timed-out"]);
}

fn a_frozen_vmm_does_not_hold_up_a_stop() {
    let host = web(Then::PowerOffWhenAsked, "stop-timeout = \"1s\"");
    let pid = host.main_pid("web").to_string();
    host.machine.ok(&["kill", "-STOP", &pid]);
    let begun = Instant::now();
    host.switch_to("").done();
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    host.has_nothing();
}

fn a_vmm_that_ignores_sigterm_is_killed_and_leaves_nothing() {
    let host = Host::boot(Networkd::On);
    // For the VMM to ignore it, systemd has to send another signal, which a VMM has no use for.
    let drop_in = "[Service]\nKillSignal=SIGURG\nTimeoutStopSec=3s\n";
    let path = "/etc/systemd/system/nkudo-vm@web.service.d/deaf.conf";
    host.machine.write(path, drop_in, 0o644);
    host.guest("web", Then::Halt);
    host.switch_to(&[LAN, &vm("web", "stop-timeout = \"1s\"")].concat())
        .done();
    host.printed("web", 1);
    // The unit is left failed, with its name and its TAP, until nkudo clears it away.
    host.switch_to("").done();
    host.has_nothing();
    assert_eq!(host.exits("web"), ["stopped-by-kill"]);
}

fn a_restart_by_systemd_keeps_the_tap() {
    let host = web(Then::PowerOffWhenAsked, "");
    let pid = host.main_pid("web");
    let tap = host.tap_is_in("web", "nk-lan");
    host.machine.ok(&["systemctl", "restart", &unit("web")]);
    assert_ne!(host.main_pid("web"), pid);
    assert_eq!(host.tap_is_in("web", "nk-lan")["ifindex"], tap["ifindex"]);
    host.printed("web", 2);
    host.nkudo(&["switch"]).done().says("nothing to do");
}

fn all_vms_stop_with_their_slice() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    host.guest("db", Then::PowerOffWhenAsked);
    host.switch_to(&[LAN, &vm("web", ""), &vm("db", "")].concat())
        .done();
    host.machine.ok(&["systemctl", "stop", "nkudo.slice"]);
    host.is_gone("web");
    host.is_gone("db");
    // A person stopped them: that holds them, as `systemctl stop` of each does.
    host.nkudo(&["switch"]).done().says("it is held");
    for id in ["web", "db"] {
        assert_eq!(host.property(id, "ActiveState"), "inactive");
        host.nkudo(&["start", id]).done();
        assert_eq!(host.property(id, "ActiveState"), "active");
        host.tap_is_in(id, "nk-lan");
    }
}

/// Earlier ones kept specifications from everybody but root, and handed them to the steps as credentials.
fn a_vm_of_an_earlier_nkudo_restarts_after_a_switch_that_has_nothing_to_do() {
    let host = web(Then::PowerOffWhenAsked, "");
    let modes = [
        "stat",
        "--format=%a",
        "/run/nkudo/booted",
        "/run/nkudo/booted/web.json",
    ];
    host.machine.ok(&["chmod", "700", "/run/nkudo/booted"]);
    host.machine
        .ok(&["chmod", "600", "/run/nkudo/booted/web.json"]);
    host.nkudo(&["switch"]).done().says("nothing to do");
    assert_eq!(host.machine.ok(&modes), "755\n644\n");
    survives_a_kill(&host, 1);
}
