//! `[host] machined`: what `machinectl` knows of VMs, and what its verbs do to them.

use super::guest::Then;
use super::host::{Host, LAN, unit, vm};
use super::machine::Networkd;
use super::until::until;

cases![
    machinectl_lists_a_vm_at_each_of_its_starts,
    machined_learns_of_vms_that_run_and_none_restarts,
    machinectl_terminate_stops_and_poweroff_pulls_the_plug,
    a_host_without_machined_runs_its_vms_and_says_so,
    a_machine_of_somebody_elses_is_left_alone,
];

const MACHINED: &str = "[host]\nmachined = true\n";

fn registering(more: &str) -> Host {
    let toml = [MACHINED, LAN, &vm("web", more)].concat();
    Host::switched_to(Then::PowerOffWhenAsked, &toml)
}

fn listed(host: &Host) -> String {
    host.machine
        .ok(&["machinectl", "list", "--no-legend", "--no-pager"])
}

fn shown(host: &Host, property: &str) -> String {
    let argv = ["machinectl", "show", "web", "--value", "-p", property];
    host.machine.ok(&argv).trim().to_owned()
}

/// What machined says is what runs.
#[track_caller]
fn is_registered(host: &Host) {
    assert!(listed(host).starts_with("web"), "{}", listed(host));
    assert_eq!(shown(host, "Leader"), host.main_pid("web").to_string());
    assert_eq!(shown(host, "Unit"), unit("web"));
    assert_eq!(shown(host, "Class"), "vm");
    assert_eq!(shown(host, "Service"), "nkudo");
}

#[track_caller]
fn is_forgotten(host: &Host) {
    until("machined has forgotten it", || match listed(host) {
        empty if empty.is_empty() => Ok(()),
        other => Err(other),
    });
}

fn machinectl_lists_a_vm_at_each_of_its_starts() {
    let host = registering("");
    is_registered(&host);
    let id = shown(&host, "Id");
    assert_eq!(id.len(), 32, "{id}");
    let status = host
        .machine
        .ok(&["machinectl", "status", "web", "--no-pager"]);
    assert!(status.contains("Iface: nkt-web-0"), "{status}");
    // After a crash, which leaves the unit there, it is the new VMM that is its leader.
    for restarts in 1..=2 {
        let pid = host.main_pid("web");
        host.machine.ok(&["kill", "-KILL", &pid.to_string()]);
        host.active_again("web", pid);
        is_registered(&host);
        assert_eq!(host.property("web", "NRestarts"), restarts.to_string());
    }
    host.machine.ok(&["systemctl", "restart", &unit("web")]);
    is_registered(&host);
    host.nkudo(&["stop", "web"]).done();
    is_forgotten(&host);
    host.nkudo(&["start", "web"]).done();
    is_registered(&host);
    assert_eq!(shown(&host, "Id"), id);
    assert_eq!(host.ask("web", "PUT vm.power-button").0, 204);
    host.is_gone("web");
    is_forgotten(&host);
}

fn machined_learns_of_vms_that_run_and_none_restarts() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    let without = [LAN, &vm("web", "")].concat();
    host.switch_to(&without).done();
    assert_eq!(listed(&host), "");
    let pid = host.main_pid("web");
    let with = [MACHINED, &without].concat();
    host.switch_to(&with).done();
    assert_eq!(host.main_pid("web"), pid);
    is_registered(&host);
    host.nkudo(&["switch"]).done().says("nothing to do");
    // The unit has the step by now.
    host.machine.ok(&["kill", "-KILL", &pid.to_string()]);
    let pid = host.active_again("web", pid);
    is_registered(&host);
    host.switch_to(&without).done();
    assert_eq!(listed(&host), "");
    host.machine.ok(&["kill", "-KILL", &pid.to_string()]);
    host.active_again("web", pid);
    assert_eq!(listed(&host), "");
}

fn machinectl_terminate_stops_and_poweroff_pulls_the_plug() {
    let host = registering("restart = \"always\"");
    host.machine.ok(&["machinectl", "terminate", "web"]);
    host.is_gone("web");
    is_forgotten(&host);
    // As any stop that is not nkudo's: the power button, and it is held.
    assert_eq!(host.exits("web"), ["stopped"]);
    host.nkudo(&["switch"]).done().says("it is held");
    host.nkudo(&["start", "web"]).done();
    is_registered(&host);
    // As systemd reads it in the unit's text.
    host.machine.ok(&["systemctl", "daemon-reload"]);
    // SIGRTMIN+4 to the VMM: the guest is told nothing, and nobody starts it again.
    host.machine.ok(&["machinectl", "poweroff", "web"]);
    host.is_gone("web");
    is_forgotten(&host);
    assert_eq!(host.exits("web"), ["stopped", "stopped-by-kill"]);
    let failed = host.machine.run(&["systemctl", "is-failed", &unit("web")]);
    assert!(!failed.status.success(), "{failed:?}");
    host.nkudo(&["start", "web"]).done();
    // SIGINT, which a VMM takes as SIGTERM: as if the guest had powered off.
    let pid = host.main_pid("web");
    host.machine.ok(&["machinectl", "reboot", "web"]);
    host.active_again("web", pid);
    is_registered(&host);
    let exits = host.exits("web");
    assert_eq!(exits.last().unwrap(), "powered-off", "{exits:?}");
}

fn a_host_without_machined_runs_its_vms_and_says_so() {
    let host = Host::boot(Networkd::On);
    host.machine.ok(&[
        "rm",
        "/usr/lib/systemd/system/systemd-machined.service",
        "/usr/lib/systemd/system/dbus-org.freedesktop.machine1.service",
        "/usr/share/dbus-1/system-services/org.freedesktop.machine1.service",
    ]);
    host.machine.ok(&["systemctl", "daemon-reload"]);
    host.machine.ok(&["systemctl", "reload", "dbus.service"]);
    host.guest("web", Then::PowerOffWhenAsked);
    host.switch_to(&[MACHINED, LAN, &vm("web", "")].concat())
        .done();
    assert_eq!(host.property("web", "ActiveState"), "active");
    let journal = host.journal("web");
    let said = journal.matches("systemd-machined is not on this host");
    assert_eq!(said.count(), 1, "{journal}");
    let doctor = host.nkudo(&["doctor"]);
    assert!(
        doctor.stdout.contains("warn machined:")
            && doctor.stdout.contains("apt install systemd-container"),
        "{doctor}"
    );
    host.nkudo(&["check"])
        .done()
        .says("systemd-machined is not on this host");
    host.nkudo(&["check", "--strict"]).ended(1);
    host.nkudo(&["check", "--elsewhere", "--strict"]).done();
}

fn a_machine_of_somebody_elses_is_left_alone() {
    let host = Host::boot(Networkd::On);
    host.machine
        .ok(&["systemd-run", "-q", "--unit=other", "sleep", "3600"]);
    let argv = ["systemctl", "show", "--value", "-p", "MainPID", "other"];
    let other = host.machine.ok(&argv).trim().to_owned();
    host.machine.ok(&[
        "busctl",
        "-q",
        "call",
        "org.freedesktop.machine1",
        "/org/freedesktop/machine1",
        "org.freedesktop.machine1.Manager",
        "RegisterMachine",
        "sayssus",
        "web",
        "0",
        "somebody",
        "container",
        &other,
        "",
    ]);
    host.guest("web", Then::PowerOffWhenAsked);
    let without = [LAN, &vm("web", "")].concat();
    host.switch_to(&[MACHINED, &without].concat()).done();
    assert_eq!(host.property("web", "ActiveState"), "active");
    let journal = host.journal("web");
    assert!(
        journal.contains("a machine of that name, of the unit other.service, is there already"),
        "{journal}"
    );
    assert_eq!(shown(&host, "Leader"), other);
    host.switch_to(&without).done();
    assert_eq!(shown(&host, "Leader"), other);
}
