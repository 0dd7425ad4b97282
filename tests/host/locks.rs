//! What waits for whoever has the host's lock, and what does not: a stop.

use std::process::Child;

use super::guest::Then;
use super::host::{Host, LAN, Ran, unit, vm};
use super::machine::Networkd;
use super::until::until;

cases![
    a_stop_does_not_wait_for_a_switch_that_waits_for_a_guest,
    a_vm_whose_turn_comes_later_is_not_started_once_it_was_stopped,
    a_vm_that_is_stopped_in_the_middle_of_its_start_stays_so,
    of_a_start_and_a_stop_that_meet_the_stop_lasts,
    a_stop_waits_for_nobody_who_has_the_lock,
    a_stop_killed_after_each_effect_is_one_or_none,
];

/// A command of nkudo's that goes on while the case does.
pub(super) fn begin(host: &Host, command: &[&str]) -> Child {
    host.machine.spawn(&[&["nkudo"], command].concat())
}

#[track_caller]
pub(super) fn ended(child: Child) -> Ran {
    Ran::of(&child.wait_with_output().unwrap())
}

#[track_caller]
pub(super) fn still_runs(child: &mut Child) {
    assert!(child.try_wait().unwrap().is_none(), "it has ended");
}

#[track_caller]
fn is_in_state(host: &Host, id: &str, wanted: &str) {
    until(&format!("{id} is {wanted}"), || {
        match host.property(id, "ActiveState").as_str() {
            state if state == wanted => Ok(()),
            other => Err(format!("{other}\n{}", host.journal(id))),
        }
    });
}

/// Waits until some nkudo has said this.
#[track_caller]
pub(super) fn is_said(host: &Host, text: &str) {
    until(&format!("{text:?} is said"), || {
        let _ = host.machine.run(&["journalctl", "--sync"]);
        let argv = ["journalctl", "-q", "-o", "cat", "_COMM=nkudo"];
        let said = host.machine.ok(&argv);
        if said.contains(text) {
            Ok(())
        } else {
            Err(said)
        }
    });
}

/// Two VMs whose first does not become ready by itself, and a switch that waits for it.
fn waiting_for_web(host: &Host) -> Child {
    for id in ["web", "db"] {
        host.guest(id, Then::PowerOffWhenAsked);
    }
    let web = vm("web", "ready = \"guest\"\n");
    host.configure(&[LAN, &web, &vm("db", "after = [\"web\"]\n")].concat());
    host.nkudo(&["render"]).done();
    let switch = begin(host, &["switch"]);
    is_in_state(host, "web", "active");
    host.printed("web", 1);
    switch
}

const STOPPED: &str = "it was stopped by somebody meanwhile, and stays so";

fn a_stop_does_not_wait_for_a_switch_that_waits_for_a_guest() {
    let host = Host::boot(Networkd::On);
    let mut switch = waiting_for_web(&host);
    still_runs(&mut switch);
    host.nkudo(&["stop", "web"])
        .done()
        .says("stopped web in")
        .does_not_say("waiting for");
    host.is_gone("web");
    // Others are not held up by it, and it is no failure.
    ended(switch)
        .done()
        .says(&format!("VM web: {STOPPED}; `nkudo start web` starts it"))
        .does_not_say("started web")
        .says("started db")
        .says("switched to generation 1");
    assert_eq!(host.property("db", "ActiveState"), "active");
    host.nkudo(&["switch"]).done().says("nothing to do");
    host.is_gone("web");
    assert_eq!(host.status(&["web"])["held"], true);
    let none = host.machine.ok(&[
        "systemctl",
        "list-units",
        "--all",
        "--no-legend",
        "nkudo-ready@*",
    ]);
    assert_eq!(none, "");
    assert_eq!(host.machine.ok(&["ls", "-A", "/run/nkudo/locks"]), "");
}

fn a_vm_whose_turn_comes_later_is_not_started_once_it_was_stopped() {
    let host = Host::boot(Networkd::On);
    let mut switch = waiting_for_web(&host);
    host.nkudo(&["stop", "db"]).done().says("db does not run");
    still_runs(&mut switch);
    host.nkudo(&["stop", "web"]).done();
    ended(switch)
        .done()
        .says(&format!("VM web: {STOPPED}"))
        .says(&format!("VM db: {STOPPED}"));
    host.is_gone("db");
    assert_eq!(host.exits("db"), Vec::<String>::new(), "it ran");
    host.nkudo(&["switch"]).done().says("nothing to do");
    host.nkudo(&["start", "db"]).done();
    host.tap_is_in("db", "nk-lan");
    // What was asked for this VM alone is another matter.
    let start = begin(&host, &["start", "web"]);
    is_in_state(&host, "web", "active");
    host.nkudo(&["stop", "web"]).done();
    ended(start).ended(4).says(&format!("VM web: {STOPPED}"));
    host.is_gone("web");
}

fn a_vm_that_is_stopped_in_the_middle_of_its_start_stays_so() {
    let host = Host::boot(Networkd::On);
    for id in ["web", "db"] {
        host.guest(id, Then::PowerOffWhenAsked);
    }
    // One whose API never comes, so that its unit is not started.
    let vmm = "#!/usr/bin/sh\ncase \"$*\" in *guests/web*) exec sleep infinity;; esac\nexec cloud-hypervisor \"$@\"\n";
    host.machine.write("/usr/local/bin/sluggish", vmm, 0o755);
    let config = [
        "[host]\nhypervisor = \"sluggish\"\n",
        LAN,
        &vm("web", ""),
        &vm("db", ""),
    ]
    .concat();
    host.configure(&config);
    host.nkudo(&["render"]).done();
    let switch = begin(&host, &["switch"]);
    is_in_state(&host, "web", "activating");
    host.nkudo(&["stop", "web"]).done().says("stopped web in");
    ended(switch)
        .done()
        .says(&format!("VM web: {STOPPED}"))
        .does_not_say("canceled");
    host.is_gone("web");
    host.tap_is_in("db", "nk-lan");
    host.nkudo(&["switch"]).done().says("nothing to do");
    // By systemd itself, it is said as far as it is known.
    let start = begin(&host, &["start", "web"]);
    is_in_state(&host, "web", "activating");
    host.machine.ok(&["systemctl", "stop", &unit("web")]);
    ended(start)
        .ended(4)
        .says("its start was canceled: somebody has stopped or restarted it meanwhile");
}

fn of_a_start_and_a_stop_that_meet_the_stop_lasts() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    host.configure(&[LAN, &vm("web", "")].concat());
    host.nkudo(&["render"]).done();
    for round in 0..12 {
        let switch = begin(&host, &["switch"]);
        // Further and further on its way.
        if round % 3 > 0 {
            until("it has the lock", || {
                let argv = ["flock", "--nonblock", "/run/nkudo/lock", "true"];
                let free = host.machine.run(&argv).status.success();
                if free { Err(String::new()) } else { Ok(()) }
            });
        }
        if round % 3 > 1 {
            until("the VM has a specification", || {
                if host.exists("/run/nkudo/booted/web.json") {
                    Ok(())
                } else {
                    Err(String::new())
                }
            });
        }
        host.nkudo(&["stop", "web"]).done();
        let state = host.property("web", "ActiveState");
        assert!(
            matches!(state.as_str(), "inactive" | "failed"),
            "{state} after the stop has returned"
        );
        let ran = ended(switch).done();
        host.is_gone("web");
        assert_eq!(host.status(&["web"])["held"], true, "{ran}");
        // As if it had never run, nor been stopped.
        host.machine.ok(&[
            "sh",
            "-c",
            "rm -f /run/nkudo/held/web /run/nkudo/booted/web.json",
        ]);
    }
    host.switch_to("").done();
    host.has_nothing();
}

fn a_stop_waits_for_nobody_who_has_the_lock() {
    let host = Host::with_web(Then::PowerOffWhenAsked, "");
    let hold = "echo 1 >/run/nkudo/lock; touch /srv/held; while ! test -e /srv/release; do sleep 0.05; done";
    let holder = host
        .machine
        .spawn(&["flock", "/run/nkudo/lock", "sh", "-c", hold]);
    until("the lock is held", || {
        if host.exists("/srv/held") {
            Ok(())
        } else {
            Err(String::new())
        }
    });
    host.nkudo(&["stop", "web"])
        .done()
        .does_not_say("waiting for");
    host.is_gone("web");
    host.nkudo(&["stop", "web"]).done().says("web does not run");
    // A start changes the host.
    let mut start = begin(&host, &["start", "web"]);
    is_said(&host, "waiting for another nkudo (PID 1) to finish");
    still_runs(&mut start);
    host.is_gone("web");
    host.machine.ok(&["touch", "/srv/release"]);
    ended(holder).done();
    ended(start).done();
    host.tap_is_in("web", "nk-lan");
}

fn a_stop_killed_after_each_effect_is_one_or_none() {
    let host = Host::with_web(Then::PowerOffWhenAsked, "");
    for effect in 1.. {
        let kill = format!("NKUDO_KILL_AFTER={effect}");
        let argv = ["env", &kill, "nkudo", "stop", "web"];
        let killed = Ran::of(&host.machine.run(&argv));
        let held = host.exists("/run/nkudo/held/web");
        let next = host.nkudo(&["switch"]).done();
        if held {
            host.is_gone("web");
        } else {
            assert_eq!(
                host.property("web", "ActiveState"),
                "active",
                "killed after effect {effect}\n{killed}\n{next}"
            );
        }
        let hidden = host
            .machine
            .ok(&["find", "/run/nkudo", "-name", ".nkudo-*"]);
        assert_eq!(hidden, "", "killed after effect {effect}\n{killed}");
        host.nkudo(&["start", "web"]).done();
        host.tap_is_in("web", "nk-lan");
        if killed.code == Some(0) {
            assert!(effect > 3, "only {effect} stops were killed");
            break;
        }
    }
    host.switch_to("").done();
    host.has_nothing();
}
