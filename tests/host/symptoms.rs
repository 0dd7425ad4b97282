//! The symptoms of docs/runbook.md, made for real: what `switch`, `status` and `doctor` say, and that the
//! remedy they name is one.

use serde_json::Value;

use super::guest::Then;
use super::host::{Host, LAN, Ran, unit, vm};
use super::machine::Networkd;
use super::until::until;

cases![
    a_healthy_host_has_nothing_wrong,
    there_is_no_kvm,
    kvm_has_the_wrong_permissions,
    the_hypervisor_is_missing,
    the_disk_is_full,
    the_state_directory_is_read_only,
    the_tap_or_the_bridge_is_gone,
    the_api_socket_is_dead,
    the_vmm_hangs_on_stop,
    the_kernel_is_missing_or_not_readable,
    a_template_takes_the_units_name,
];

/// The check of that name that is not ok, out of `nkudo doctor --json`.
#[track_caller]
fn complaint(host: &Host, arguments: &[&str], name: &str, what: &str) -> Value {
    let mut argv = vec!["doctor", "--json"];
    argv.extend(arguments);
    let ran = host.nkudo(&argv).ended(1);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|check| {
        check["name"] == name
            && check["verdict"] == "fail"
            && check["what"].as_str().unwrap().contains(what)
    });
    let found = found.unwrap_or_else(|| panic!("no {name}: {what:?} in\n{ran}"));
    assert!(found["remedy"].is_string(), "{found}");
    found.clone()
}

/// `nkudo doctor` has no complaint of that name.
#[track_caller]
fn no_complaint(host: &Host, name: &str) -> Ran {
    let ran = host.nkudo(&["doctor", "--json"]);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let mut of_name = checks.iter().filter(|check| check["name"] == name);
    assert!(of_name.all(|check| check["verdict"] != "fail"), "{ran}");
    ran
}

fn a_healthy_host_has_nothing_wrong() {
    let host = Host::with_web(Then::PowerOffWhenAsked, "");
    for arguments in [&["doctor"][..], &["doctor", "web"], &["doctor", "--json"]] {
        let before = host.snapshot();
        let ran = host.nkudo(arguments);
        // A machine of the tests may lack a group or a device that a host has.
        if host.exists("/dev/kvm") {
            let ran = ran.done();
            assert!(!ran.stdout.contains("fail "), "{ran}");
        }
        super::host::same(&before, &host.snapshot(), &"doctor");
    }
    host.nkudo(&["doctor", "nonexistent"])
        .ended(1)
        .says("there is no VM nonexistent");
}

fn there_is_no_kvm() {
    let host = Host::boot(Networkd::On);
    host.machine.run(&["umount", "/dev/kvm"]);
    host.machine.ok(&["rm", "-f", "/dev/kvm"]);
    complaint(&host, &[], "kvm", "KVM is not available");
    let ran = host.nkudo(&["doctor"]).ended(1);
    assert!(
        ran.stdout.contains("fail kvm: KVM is not available"),
        "{ran}"
    );
    assert!(ran.stdout.contains("→ "), "{ran}");
}

fn kvm_has_the_wrong_permissions() {
    let host = Host::boot(Networkd::On);
    host.machine.run(&["umount", "/dev/kvm"]);
    // The device itself belongs to all machines; what counts here is who may open it.
    host.machine.ok(&["rm", "-f", "/dev/kvm"]);
    host.machine.write("/dev/kvm", "", 0o600);
    let found = complaint(&host, &[], "kvm", "mode 0600");
    assert!(
        found["remedy"]
            .as_str()
            .unwrap()
            .contains("chgrp kvm /dev/kvm && chmod 0660 /dev/kvm"),
        "{found}"
    );
    host.machine
        .ok(&["sh", "-c", "chgrp kvm /dev/kvm && chmod 0660 /dev/kvm"]);
    no_complaint(&host, "kvm");
}

fn the_hypervisor_is_missing() {
    let host = Host::with_web(Then::PowerOffWhenAsked, "");
    host.machine
        .ok(&["mv", "/usr/local/bin/cloud-hypervisor", "/root/"]);
    complaint(&host, &[], "hypervisor", "command not found");
    // What runs is not touched by it, and what would have to start says so before anything stops.
    host.nkudo(&["restart", "web"]).ended(1);
    assert_eq!(host.property("web", "ActiveState"), "active");
    let pid = host.main_pid("web");
    host.machine.ok(&["kill", "-KILL", &pid.to_string()]);
    until("the status says why it does not run", || {
        let ran = host.nkudo(&["status", "web"]).done();
        if ran.stdout.contains("the hypervisor is not there") {
            Ok(())
        } else {
            Err(ran.to_string())
        }
    });
    host.machine
        .ok(&["mv", "/root/cloud-hypervisor", "/usr/local/bin/"]);
    no_complaint(&host, "hypervisor");
    host.nkudo(&["switch"]).done();
    assert_eq!(host.property("web", "ActiveState"), "active");
}

fn the_disk_is_full() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    host.configure(&[LAN, &vm("web", "")].concat());
    host.machine.ok(&["mkdir", "-p", "/var/lib/nkudo"]);
    host.machine.ok(&[
        "mount",
        "-t",
        "tmpfs",
        "-o",
        "size=16k",
        "tmpfs",
        "/var/lib/nkudo",
    ]);
    host.machine.run(&[
        "dd",
        "if=/dev/zero",
        "of=/var/lib/nkudo/filler",
        "bs=4k",
        "count=4",
    ]);
    host.nkudo(&["render"])
        .ended(1)
        .says("No space left on device")
        .says("`nkudo gc`");
    complaint(&host, &[], "disk-space", "/var/lib/nkudo");
    host.machine.ok(&["umount", "/var/lib/nkudo"]);
    no_complaint(&host, "disk-space");
    host.nkudo(&["render"]).done();
    host.nkudo(&["switch"]).done();
}

fn the_state_directory_is_read_only() {
    let host = Host::with_web(Then::PowerOffWhenAsked, "");
    let state = "/var/lib/nkudo";
    host.machine.ok(&["mount", "--bind", state, state]);
    host.machine.ok(&["mount", "-o", "remount,bind,ro", state]);
    host.configure(&[LAN, &vm("web", "memory = \"96M\"")].concat());
    host.nkudo(&["render"])
        .ended(1)
        .says("Read-only file system")
        .says("VMs that run go on");
    complaint(&host, &[], "disk-space", "/var/lib/nkudo is read-only");
    // What is there already is enough to stop and start.
    host.nkudo(&["restart", "web"]).done();
    host.machine.ok(&["umount", state]);
    no_complaint(&host, "disk-space");
}

fn the_tap_or_the_bridge_is_gone() {
    let host = Host::with_web(Then::PowerOffWhenAsked, "");
    host.machine.ok(&["ip", "link", "set", "nkt-web-0", "down"]);
    complaint(&host, &["web"], "vm web", "its TAP nkt-web-0 is down");
    complaint(&host, &[], "network lan", "the TAP nkt-web-0 is down");
    host.nkudo(&["switch"]).done().says("set nkt-web-0 up");
    no_complaint(&host, "vm web");
    // As NetworkManager leaves one that it has let go of.
    host.machine
        .ok(&["ip", "link", "set", "nkt-web-0", "down", "nomaster"]);
    host.nkudo(&["switch"]).done();
    host.tap_is_in("web", "nk-lan");
    no_complaint(&host, "vm web");
    host.machine
        .ok(&["ip", "link", "set", "nkt-web-0", "nomaster"]);
    complaint(
        &host,
        &["web"],
        "vm web",
        "is in no bridge: the VM has no network",
    );
    host.nkudo(&["switch"]).done();
    host.tap_is_in("web", "nk-lan");
    host.machine.ok(&["ip", "link", "del", "nk-lan"]);
    complaint(&host, &[], "network lan", "the bridge nk-lan is gone");
    host.nkudo(&["switch"]).done();
    host.tap_is_in("web", "nk-lan");
    host.machine
        .ok(&["ip", "addr", "del", "192.168.100.1/24", "dev", "nk-lan"]);
    complaint(&host, &[], "network lan", "lacks 192.168.100.1/24");
    host.machine.ok(&["ip", "link", "del", "nkt-web-0"]);
    complaint(&host, &["web"], "vm web", "its TAP nkt-web-0 is gone");
    host.nkudo(&["switch"]).done();
    host.tap_is_in("web", "nk-lan");
    no_complaint(&host, "vm web");
    no_complaint(&host, "network lan");
}

fn the_api_socket_is_dead() {
    let host = Host::with_web(Then::PowerOffWhenAsked, "");
    host.machine.ok(&["rm", "/run/nkudo/vms/web/api.sock"]);
    let status = host.nkudo(&["status", "web"]).done();
    assert!(status.stdout.contains("silent"), "{status}");
    complaint(
        &host,
        &["web"],
        "vm web",
        "does not answer on its API socket",
    );
    host.nkudo(&["stop", "web", "--force"])
        .done()
        .says("web has stopped");
    host.is_gone("web");
    host.nkudo(&["start", "web"]).done();
    no_complaint(&host, "vm web");
}

fn the_vmm_hangs_on_stop() {
    let host = Host::with_web(Then::PowerOffWhenAsked, "");
    let pid = host.main_pid("web").to_string();
    host.machine.ok(&["kill", "-STOP", &pid]);
    host.machine
        .ok(&["systemctl", "stop", "--no-block", &unit("web")]);
    until("it is stopping", || {
        match host.status(&[])["state"].as_str() {
            Some("stopping") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let shown = host.nkudo(&["status", "web"]).done();
    assert!(
        shown
            .stdout
            .contains("`nkudo stop web --force` does not wait"),
        "{shown}"
    );
    host.nkudo(&["stop", "web", "--force=1"])
        .done()
        .says("SIGTERM to the VMM of web");
    host.is_gone("web");
    assert_eq!(host.exits("web"), ["stopped"]);
    host.nkudo(&["start", "web"]).done();
    assert_eq!(host.status(&[])["state"], "running");
}

fn the_kernel_is_missing_or_not_readable() {
    let host = Host::with_web(Then::PowerOffWhenAsked, "");
    host.nkudo(&["stop", "web"]).done();
    host.machine.ok(&["chmod", "0600", "/srv/guests/web"]);
    let found = complaint(&host, &["web"], "vm web", "cannot be read by everybody");
    assert_eq!(found["remedy"], "`chmod o+r /srv/guests/web`");
    host.machine
        .ok(&["mv", "/srv/guests/web", "/srv/guests/elsewhere"]);
    complaint(
        &host,
        &["web"],
        "vm web",
        "its kernel is not there: /srv/guests/web",
    );
    host.machine
        .ok(&["mv", "/srv/guests/elsewhere", "/srv/guests/web"]);
    host.machine.ok(&["chmod", "o+r", "/srv/guests/web"]);
    no_complaint(&host, "vm web");
    host.nkudo(&["start", "web"]).done();
}

fn a_template_takes_the_units_name() {
    let host = Host::with_web(Then::PowerOffWhenAsked, "");
    let path = "/etc/systemd/system/nkudo-vm@.service";
    host.machine
        .write(path, "[Service]\nExecStart=/bin/true\n", 0o644);
    complaint(&host, &[], "unit-files", "nkudo-vm@.service takes the name");
    host.machine.ok(&["rm", path]);
    no_complaint(&host, "unit-files");
}
