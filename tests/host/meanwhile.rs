//! While a snapshot is taken: who is about that VM waits for it, and nobody else.

use std::process::Child;

use super::guest::Then;
use super::host::{Host, unit, vm_alone};
use super::locks::{begin, ended, is_said, still_runs};
use super::snapshots::{SNAPSHOTS, booted, web};
use super::stand_in::snapshot::PIPE;
use super::until::until;

cases![
    while_a_snapshot_is_taken_other_vms_are_switched,
    a_switch_that_changes_the_vm_of_a_snapshot_waits_for_it_without_the_lock,
    a_stop_waits_for_a_snapshot_and_a_forced_one_does_not,
    of_two_snapshots_of_a_vm_and_its_purge_one_waits_for_the_other,
    a_vm_that_is_stopped_or_crashes_during_its_snapshot_has_none,
    nobody_waits_for_a_snapshot_that_was_killed,
    a_guest_that_went_on_before_its_disks_were_copied_has_no_snapshot,
];

/// The configuration of `web`, with another VM that has `more` keys.
fn with_db(more: &str) -> String {
    [web("").as_str(), &vm_alone("db", more)].concat()
}

/// A host with two VMs, whose snapshots of `web` wait for the case.
fn host_that_waits() -> Host {
    let host = booted();
    host.guest("web", Then::PowerOffWhenAsked);
    host.guest("db", Then::PowerOffWhenAsked);
    host.behaves("waits");
    host.switch_to(&with_db("")).done();
    host.printed("web", 1);
    host.printed("db", 1);
    host
}

fn pipe(name: &str) -> String {
    format!("{SNAPSHOTS}/web/.nkudo-{name}/vmm/{PIPE}")
}

/// Begins a snapshot, which is being written when this returns.
fn begin_snapshot(host: &Host, name: &str) -> Child {
    let child = begin(host, &["snapshot", "web", name]);
    is_written(host, name);
    child
}

#[track_caller]
fn is_written(host: &Host, name: &str) {
    until("the snapshot is being written", || {
        if host.exists(&pipe(name)) {
            Ok(())
        } else {
            Err(host.taken())
        }
    });
    assert_eq!(host.vmm_state(), "Paused");
}

/// Lets it be written to its end.
fn go(host: &Host, name: &str) {
    let script = format!("echo >{}", pipe(name));
    host.machine.ok(&["sh", "-c", &script]);
}

fn the_lock_is_free(host: &Host) {
    host.machine
        .ok(&["flock", "--nonblock", "/run/nkudo/lock", "true"]);
}

fn nothing_is_left(host: &Host) {
    let taken = host.taken();
    assert!(!taken.contains(".nkudo-"), "{taken}");
    assert!(!host.exists("/run/nkudo/root/web/snapshot"));
    assert!(!host.exists("/run/nkudo/locks/web"));
    until("nobody takes it for paused", || {
        if host.exists("/run/nkudo/paused/web") {
            Err(String::new())
        } else {
            Ok(())
        }
    });
}

fn while_a_snapshot_is_taken_other_vms_are_switched() {
    let host = host_that_waits();
    let pid = host.main_pid("web");
    let mut snapshot = begin_snapshot(&host, "one");
    the_lock_is_free(&host);
    let db = host.main_pid("db");
    host.switch_to(&with_db("vcpus = 2"))
        .done()
        .says("started db")
        .does_not_say("waiting for");
    assert_ne!(host.main_pid("db"), db);
    host.nkudo(&["switch"])
        .done()
        .says("nothing to do")
        .does_not_say("waiting for");
    host.nkudo(&["snapshot", "db", "one"])
        .done()
        .does_not_say("waiting for");
    host.nkudo(&["restart", "db"])
        .done()
        .does_not_say("waiting for");
    host.nkudo(&["image", "gc"]).done();
    host.nkudo(&["gc", "--keep", "1"]).done();
    still_runs(&mut snapshot);
    assert_eq!(host.vmm_state(), "Paused");
    go(&host, "one");
    ended(snapshot).done().says("took snapshot one of web");
    assert_eq!(host.main_pid("web"), pid);
    assert_eq!(host.vmm_state(), "Running");
    nothing_is_left(&host);
    let json = host.nkudo(&["snapshots", "web", "--json"]).done().stdout;
    assert!(json.contains("\"memory\": 67108864"), "{json}");
}

fn a_switch_that_changes_the_vm_of_a_snapshot_waits_for_it_without_the_lock() {
    let host = host_that_waits();
    let pid = host.main_pid("web");
    let mut snapshot = begin_snapshot(&host, "one");
    let by = host.machine.ok(&["cat", "/run/nkudo/locks/web"]);
    let by = by.split(' ').next().unwrap();
    let waits = format!("waiting for nkudo snapshot of web (PID {by}) to finish");
    host.configure(&[web("vcpus = 2").as_str(), &vm_alone("db", "")].concat());
    host.nkudo(&["render"]).done();
    let mut switch = begin(&host, &["switch"]);
    is_said(&host, &waits);
    still_runs(&mut switch);
    // Nobody else waits for the one that waits.
    the_lock_is_free(&host);
    host.nkudo(&["restart", "db"])
        .done()
        .does_not_say("waiting for");
    assert_eq!(host.main_pid("web"), pid);
    still_runs(&mut snapshot);
    go(&host, "one");
    ended(snapshot).done();
    ended(switch).done().says(&waits).says("started web");
    assert_ne!(host.main_pid("web"), pid);
    host.printed("web", 2);
    nothing_is_left(&host);
    assert!(host.exists(&format!("{SNAPSHOTS}/web/one/manifest.json")));
}

fn a_stop_waits_for_a_snapshot_and_a_forced_one_does_not() {
    let host = host_that_waits();
    let snapshot = begin_snapshot(&host, "one");
    let mut stop = begin(&host, &["stop", "web"]);
    is_said(&host, "waiting for nkudo snapshot of web (PID ");
    still_runs(&mut stop);
    assert_eq!(host.vmm_state(), "Paused");
    // Nor is the guest let go on in the middle of it.
    let mut resume = begin(&host, &["resume", "web"]);
    let mut put = begin(&host, &["api", "web", "PUT", "vm.power-button"]);
    until("three wait", || {
        let _ = host.machine.run(&["journalctl", "--sync"]);
        let argv = ["journalctl", "-q", "-o", "cat", "_COMM=nkudo"];
        let said = host.machine.ok(&argv);
        match said.matches("waiting for nkudo snapshot of web").count() {
            3 => Ok(()),
            _ => Err(said),
        }
    });
    for child in [&mut resume, &mut put] {
        still_runs(child);
    }
    host.nkudo(&["stop", "web", "--force"])
        .done()
        .says("pressed the power button of web");
    host.is_gone("web");
    ended(snapshot)
        .ended(1)
        .says("its VMM ended, and there is no snapshot");
    ended(stop).done();
    for child in [resume, put] {
        ended(child).ended(1);
    }
    assert!(!host.exists(&format!("{SNAPSHOTS}/web/one")));
    nothing_is_left(&host);
    host.nkudo(&["snapshot", "web", "one"])
        .ended(1)
        .says("VM web is stopped or is to stop (`nkudo stop`)");
    // One that is waited for is whole.
    host.nkudo(&["start", "web"]).done();
    let snapshot = begin_snapshot(&host, "two");
    let stop = begin(&host, &["stop", "web"]);
    until("it is waited for", || {
        let ran = host.machine.run(&["pgrep", "-f", "nkudo stop web"]);
        if ran.status.success() {
            Ok(())
        } else {
            Err(String::new())
        }
    });
    go(&host, "two");
    ended(snapshot).done();
    ended(stop).done();
    host.is_gone("web");
    nothing_is_left(&host);
    host.nkudo(&["switch"]).done().says("nothing to do");
    host.is_gone("web");
}

fn of_two_snapshots_of_a_vm_and_its_purge_one_waits_for_the_other() {
    let host = host_that_waits();
    let first = begin_snapshot(&host, "one");
    let second = begin(&host, &["snapshot", "web", "two"]);
    is_said(&host, "waiting for nkudo snapshot of web (PID ");
    the_lock_is_free(&host);
    assert!(!host.exists(&pipe("two")));
    go(&host, "one");
    ended(first).done();
    is_written(&host, "two");
    let purge = ["purge", "web", "--snapshot", "one", "--yes"];
    let mut purge = begin(&host, &purge);
    until("two have waited", || {
        let _ = host.machine.run(&["journalctl", "--sync"]);
        let argv = ["journalctl", "-q", "-o", "cat", "_COMM=nkudo"];
        let said = host.machine.ok(&argv);
        match said.matches("waiting for nkudo snapshot of web").count() {
            2 => Ok(()),
            _ => Err(said),
        }
    });
    still_runs(&mut purge);
    the_lock_is_free(&host);
    go(&host, "two");
    ended(second).done();
    ended(purge).done().says("removed snapshot one of web");
    let left = host.machine.ok(&["ls", "-A", &format!("{SNAPSHOTS}/web")]);
    assert_eq!(left, "two\n");
    nothing_is_left(&host);
}

fn a_vm_that_is_stopped_or_crashes_during_its_snapshot_has_none() {
    let host = host_that_waits();
    let snapshot = begin_snapshot(&host, "one");
    host.machine.ok(&["systemctl", "stop", &unit("web")]);
    ended(snapshot)
        .ended(1)
        .says("cannot take a snapshot of web")
        .says("there is no snapshot");
    host.is_gone("web");
    nothing_is_left(&host);
    host.nkudo(&["switch"])
        .done()
        .says("VM web: leave alone: it is held (`systemctl stop`)");
    host.nkudo(&["start", "web"]).done();
    host.printed("web", 2);
    let pid = host.main_pid("web");
    let snapshot = begin_snapshot(&host, "one");
    host.machine.ok(&["kill", "-KILL", &pid.to_string()]);
    ended(snapshot).ended(1).says("there is no snapshot");
    host.active_again("web", pid);
    host.printed("web", 3);
    assert_eq!(host.vmm_state(), "Running");
    nothing_is_left(&host);
    host.nkudo(&["switch"]).done().says("nothing to do");
}

fn nobody_waits_for_a_snapshot_that_was_killed() {
    let host = host_that_waits();
    let mut snapshot = begin_snapshot(&host, "one");
    let by = host.machine.ok(&["cat", "/run/nkudo/locks/web"]);
    let by = by.split(' ').next().unwrap();
    host.machine.ok(&["kill", "-KILL", by]);
    snapshot.wait().unwrap();
    until("the guest goes on", || match host.vmm_state().as_str() {
        "Running" => Ok(()),
        other => Err(other.to_owned()),
    });
    host.nkudo(&["restart", "web"])
        .done()
        .does_not_say("waiting for");
    host.printed("web", 2);
    let snapshot = begin_snapshot(&host, "two");
    go(&host, "two");
    ended(snapshot).done();
    let left = host.machine.ok(&["ls", "-A", &format!("{SNAPSHOTS}/web")]);
    assert_eq!(left, "two\n");
    nothing_is_left(&host);
}

fn a_guest_that_went_on_before_its_disks_were_copied_has_no_snapshot() {
    let host = booted();
    host.behaves("goes on");
    host.switch_to(&web("")).done();
    host.nkudo(&["snapshot", "web", "one"])
        .ended(1)
        .says("somebody let the guest go on before its disks were copied");
    assert_eq!(host.vmm_state(), "Running");
    assert!(!host.exists(&format!("{SNAPSHOTS}/web/one")));
    nothing_is_left(&host);
}
