//! `nkudo status`: what it says of VMs, and how that is printed.

use std::collections::BTreeSet;

use serde_json::Value;

use super::guest::Then;
use super::host::{Host, LAN, unit, vm};
use super::machine::Networkd;
use super::until::until;

cases![
    a_status_says_what_a_vm_is_uses_and_has,
    why_a_vm_ended_is_shown_when_it_is_gone,
    a_status_of_vms_that_run_runs_no_program,
    documents_have_the_keys_that_they_are_said_to_have,
];

fn a_status_says_what_a_vm_is_uses_and_has() {
    let host = Host::with_web(Then::PowerOffWhenAsked, "");
    host.tap_is_in("web", "nk-lan");
    host.has_heard("web", "192.168.100.10");
    for arguments in [&[][..], &["web"]] {
        let web = host.status(arguments);
        assert_eq!(web["state"], "running", "{web}");
        assert_eq!(web["main-pid"], host.main_pid("web"));
        assert_eq!(web["restarts"], 0);
        let nic = &web["nics"][0];
        assert_eq!(
            (&nic["tap"], &nic["bridge"]),
            (&"nkt-web-0".into(), &"nk-lan".into())
        );
        assert_eq!(nic["link"], "up");
        assert_eq!(nic["addresses"][0], "192.168.100.10");
        // The same as systemd says, which has it from the same file.
        let cpu: u64 = host.property("web", "CPUUsageNSec").parse().unwrap();
        let shown = web["cpu"].as_u64().unwrap() * 1000;
        assert!(shown <= cpu && cpu - shown < 5_000_000_000, "{shown} {cpu}");
        let started: u64 = {
            let argv = [
                "systemctl",
                "show",
                "--timestamp=unix",
                "--value",
                "-p",
                "InactiveExitTimestamp",
                &unit("web"),
            ];
            host.machine
                .ok(&argv)
                .trim()
                .trim_start_matches('@')
                .parse()
                .unwrap()
        };
        let since = web["since"].as_u64().unwrap() / 1_000_000;
        assert!(since.abs_diff(started) <= 1, "{since} {started}");
    }
    assert_eq!(host.status(&["web"])["vmm"], "running");
    // What systemd does by itself is seen too.
    let pid = host.main_pid("web");
    host.machine.ok(&["kill", "-KILL", &pid.to_string()]);
    host.active_again("web", pid);
    let web = host.status(&[]);
    assert_eq!(web["restarts"], 1, "{web}");
    assert_eq!(web["main-pid"], host.main_pid("web"));
    // And what an administrator changed.
    let path = "/etc/systemd/system/nkudo-vm@web.service.d/mine.conf";
    host.machine
        .write(path, "[Service]\nCPUWeight=200\n", 0o644);
    host.machine.ok(&["systemctl", "daemon-reload"]);
    assert_eq!(host.status(&[])["drop-ins"][0], path);
    // A plan names it, and a switch leaves it alone.
    let named = format!("drop-in {path}: keep it");
    let diff = host.nkudo(&["diff"]).done().says("nothing to do");
    assert!(diff.stdout.contains(&named), "{diff}");
    host.nkudo(&["switch"]).done().says("nothing to do");
    assert!(host.exists(path));
    assert_eq!(host.property("web", "CPUWeight"), "200");
    host.machine.ok(&["ip", "link", "set", "nkt-web-0", "down"]);
    let details = host.nkudo(&["status", "web"]).done();
    assert!(
        details.stdout.contains("nkt-web-0 in nk-lan, down"),
        "{details}"
    );
    host.machine.ok(&["ip", "link", "del", "nkt-web-0"]);
    let details = host.nkudo(&["status", "web"]).done();
    assert!(
        details.stdout.contains("nkt-web-0, which is missing"),
        "{details}"
    );
    // One that systemd does not take leaves no unit that could tell.
    host.machine
        .write(path, "[Service]\nExecStart=/bin/true\n", 0o644);
    host.nkudo(&["restart", "web"])
        .ended(4)
        .says("a drop-in of the administrator's may be why");
    let web = host.status(&[]);
    assert_eq!(web["state"], "failed", "{web}");
    let why = web["obstacle"].as_str().unwrap();
    assert!(why.contains("systemd does not take the unit"), "{web}");
    host.machine.ok(&["rm", path]);
    host.nkudo(&["start", "web"]).done();
    assert_eq!(host.status(&[])["obstacle"], Value::Null);
}

/// A document for programs has the keys that its description has, and no others.
fn documents_have_the_keys_that_they_are_said_to_have() {
    let host = Host::with_web(Then::PowerOffWhenAsked, "");
    host.has_heard("web", "192.168.100.10");
    let status = include_str!("../../docs/status.md");
    let networking = include_str!("../../docs/networking.md");
    for (said, at, arguments) in [
        (status, 0, &["status", "--json"][..]),
        (status, 1, &["doctor", "--json"]),
        (networking, 0, &["status", "--network", "--json"]),
    ] {
        let block = said.split("```json\n").nth(at + 1).unwrap();
        let block = block.split("```").next().unwrap();
        let said: Value = serde_json::from_str(block).unwrap();
        let is: Value = serde_json::from_str(&host.nkudo(arguments).stdout).unwrap();
        assert_same_keys(&said, &is, &arguments.join(" "));
    }
}

/// Of lists the first elements are compared, where both have one; of others than tables nothing is.
#[track_caller]
fn assert_same_keys(said: &Value, is: &Value, place: &str) {
    match (said, is) {
        (Value::Object(said), Value::Object(is)) => {
            let keys = |table: &serde_json::Map<String, Value>| -> BTreeSet<String> {
                table.keys().cloned().collect()
            };
            assert_eq!(keys(said), keys(is), "{place}");
            for (key, said) in said {
                assert_same_keys(said, &is[key], &format!("{place} {key}"));
            }
        }
        (Value::Array(said), Value::Array(is)) => {
            for (said, is) in said.iter().zip(is).take(1) {
                assert_same_keys(said, is, place);
            }
        }
        _ => {}
    }
}

fn why_a_vm_ended_is_shown_when_it_is_gone() {
    let host = Host::with_web(Then::PowerOffWhenAsked, "");
    assert_eq!(host.ask("web", "PUT vm.power-button").0, 204);
    host.is_gone("web");
    until(
        "the journal has it",
        || match host.status(&[])["last-exit"]["why"].as_str() {
            Some("powered-off") => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
    let table = host.nkudo(&["status"]).done();
    assert!(table.stdout.contains("powered-off"), "{table}");
    let details = host.nkudo(&["status", "web"]).done();
    assert!(
        details.stdout.contains("the guest powered off"),
        "{details}"
    );
    // A VMM that refuses what it is given says why, and what to do.
    let text = "no kernel\n".repeat(200);
    host.machine.write("/srv/guests/web", text, 0o644);
    host.nkudo(&["switch"]).ended(4);
    until("the refusal is seen", || {
        let web = host.status(&["web"]);
        if web["last-exit"]["why"] == "vmm-refused" {
            let cause = web["diagnosis"]["cause"].as_str().unwrap_or_default();
            assert!(cause.contains("kernel is not there"), "{web}");
            Ok(())
        } else {
            Err(web.to_string())
        }
    });
    let details = host.nkudo(&["status", "web"]).done();
    assert!(
        details.stdout.contains("remedy      `nkudo doctor web` "),
        "{details}"
    );
}

fn a_status_of_vms_that_run_runs_no_program() {
    let host = Host::boot(Networkd::On);
    let path = "/usr/local/bin/counted";
    let vmm = "#!/usr/bin/sh\n[ \"$1\" = --version ] && echo run >>/root/runs\nexec cloud-hypervisor \"$@\"\n";
    host.machine.write(path, vmm, 0o755);
    host.guest("web", Then::PowerOffWhenAsked);
    let toml = ["[host]\nhypervisor = \"counted\"\n", LAN, &vm("web", "")].concat();
    host.switch_to(&toml).done();
    host.machine.ok(&["rm", "/root/runs"]);
    for program in ["nft", "journalctl"] {
        let counted = format!(
            "#!/usr/bin/sh\necho run >>/root/runs\nPATH=/usr/sbin:/usr/bin exec {program} \"$@\"\n"
        );
        let path = format!("/usr/local/sbin/{program}");
        host.machine.write(&path, counted, 0o755);
    }
    for arguments in [&["status"][..], &["status", "--json"]] {
        host.nkudo(arguments).done();
    }
    assert!(!host.exists("/root/runs"));
    host.machine
        .ok(&["rm", "/usr/local/sbin/nft", "/usr/local/sbin/journalctl"]);
    // Another file has to say for itself, and what it says is pending.
    let newer = "#!/usr/bin/sh\n[ \"$1\" = --version ] && echo cloud-hypervisor v54.0 && exit\nexec cloud-hypervisor \"$@\"\n";
    host.machine.write(path, newer, 0o755);
    let pending = host.status(&[])["upgrades"][0]["what"].clone();
    assert_eq!(pending, "hypervisor");
}
