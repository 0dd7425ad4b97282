//! Switches from one configuration to the next.

use super::guest::Then;
use super::host::{Host, LAN, same, unit, vm, vm_alone};
use super::machine::Networkd;
use super::until::until;

cases![
    a_second_switch_plans_nothing_and_touches_nothing,
    a_changed_vm_restarts_alone_and_the_reason_is_said,
    a_removal_leaves_nothing_with_networkd,
    a_removal_leaves_nothing_without_networkd,
    what_is_not_nkudos_survives_everything,
    a_vm_that_cannot_start_holds_up_no_other_and_is_named,
    a_vm_that_failed_is_started_by_the_next_switch,
    a_deferred_change_waits_for_the_restart,
    a_transient_unit_of_somebody_elses_is_refused,
    a_switch_of_some_vms_leaves_the_rest,
    fail_fast_leaves_the_rest_and_the_next_switch_does_it,
    a_plan_is_json_too,
    twenty_vms_start_and_stop_at_once,
];

fn a_second_switch_plans_nothing_and_touches_nothing() {
    for networkd in [Networkd::On, Networkd::Off] {
        let host = Host::boot(networkd);
        host.guest("web", Then::PowerOffWhenAsked);
        host.switch_to(&[LAN, &vm("web", "")].concat()).done();
        host.tap_is_in("web", "nk-lan");
        let before = host.snapshot();
        for command in [["diff"].as_slice(), &["switch", "--dry-run"]] {
            let plan = host.nkudo(command).done().says("nothing to do");
            assert_eq!(plan.stdout, "", "{plan}");
        }
        same(&before, &host.snapshot(), &"by asking");
        host.nkudo(&["switch"]).done().says("nothing to do");
        // The link `current` is written again, and all else is as it was.
        let without_current = |snapshot: String| -> String {
            let written = ["/var/lib/nkudo/current ", "/run/nkudo/state-dir "];
            let lines = snapshot.lines();
            let lines = lines.filter(|line| !written.iter().any(|path| line.starts_with(path)));
            lines.fold(String::new(), |text, line| {
                text + line
                    + "
"
            })
        };
        let (before, after) = (without_current(before), without_current(host.snapshot()));
        same(&before, &after, &"by a second switch");
    }
}

fn a_changed_vm_restarts_alone_and_the_reason_is_said() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    host.guest("db", Then::PowerOffWhenAsked);
    let both = |memory: &str| {
        [
            LAN,
            &vm("web", &format!("memory = \"{memory}\"")),
            &vm("db", ""),
        ]
        .concat()
    };
    host.switch_to(&both("64M")).done();
    let (web, db) = (host.main_pid("web"), host.main_pid("db"));
    host.configure(&both("128M"));
    let plan = host.nkudo(&["diff"]).done();
    assert_eq!(
        plan.stdout,
        "VM web: restart: it changed\n    memory.size: 64M → 128M\ndowntime: web\n"
    );
    host.nkudo(&["render"]).done();
    host.nkudo(&["switch"])
        .done()
        .says("VM web: restart: it changed")
        .says("memory.size: 64M → 128M")
        .does_not_say("VM db");
    assert_ne!(host.main_pid("web"), web);
    assert_eq!(host.main_pid("db"), db);
    let argv = host
        .machine
        .ok(&["cat", &format!("/proc/{}/cmdline", host.main_pid("web"))]);
    assert!(argv.contains("size=128M"), "{argv}");
    host.tap_is_in("web", "nk-lan");
}

fn a_removal_leaves_nothing_with_networkd() {
    removal(Networkd::On);
}

fn a_removal_leaves_nothing_without_networkd() {
    removal(Networkd::Off);
}

fn removal(networkd: Networkd) {
    let host = Host::boot(networkd);
    host.guest("web", Then::PowerOffWhenAsked);
    host.guest("db", Then::PowerOffWhenAsked);
    host.guest("held", Then::PowerOffWhenAsked);
    let db = [LAN, &vm("db", "")].concat();
    host.switch_to(&[&db, vm("web", "").as_str(), &vm_alone("held", "")].concat())
        .done();
    host.nkudo(&["stop", "held"]).done();
    let pid = host.main_pid("db");
    host.switch_to(&db)
        .done()
        .says("VM web: stop: it is not declared any more");
    host.is_gone("web");
    assert_eq!(host.main_pid("db"), pid);
    let left: Vec<String> = host.traces();
    let left: Vec<&String> = left
        .iter()
        .filter(|t| t.contains("web") || t.contains("held"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    host.switch_to("").done().says("bridge nk-lan: remove");
    host.has_nothing();
    host.no_nkudo_runs();
}

fn what_is_not_nkudos_survives_everything() {
    let host = Host::boot(Networkd::Off);
    // Bridges with ports and without, TAPs, a TUN: with names as near to nkudo's as can be.
    for command in [
        "ip tuntap add nk mode tap",
        "ip tuntap add nkt-other-0 mode tap",
        "ip link add br-other type bridge",
        "ip tuntap add tap1 mode tap",
        "ip link set tap1 master br-other up",
        "ip addr add 10.9.8.7/24 dev br-other",
        "ip tuntap add tap0 mode tap",
        "ip tuntap add nk-tun mode tun",
        "ip link add nk-other type bridge",
        "ip link set tap0 master nk-other",
    ] {
        host.machine.ok(&command.split(' ').collect::<Vec<_>>());
    }
    let foreign = || -> Vec<String> {
        let links = host.links();
        let foreign = links.iter().filter(|link| {
            let name = link["ifname"].as_str().unwrap();
            name != "nkt-web-0" && name != "nk-lan"
        });
        foreign.map(ToString::to_string).collect()
    };
    let before = foreign();
    assert!(before.len() >= 6, "{before:?}");
    host.guest("web", Then::PowerOffWhenAsked);
    host.switch_to(&[LAN, &vm("web", "")].concat()).done();
    assert_eq!(foreign(), before);
    host.switch_to(&[LAN, &vm("web", "memory = \"128M\"")].concat())
        .done();
    assert_eq!(foreign(), before);
    host.switch_to("").done();
    assert_eq!(foreign(), before);
    // A port of somebody else's in nkudo's bridge keeps that.
    host.switch_to(LAN).done();
    host.machine
        .ok(&["ip", "link", "set", "nk", "master", "nk-lan"]);
    host.switch_to("")
        .done()
        .says("keep, though no network has it any more");
    assert_eq!(host.link("nk").unwrap()["master"], "nk-lan");
}

fn a_vm_that_cannot_start_holds_up_no_other_and_is_named() {
    let host = Host::boot(Networkd::On);
    host.guest("good", Then::PowerOffWhenAsked);
    // /srv/guests/bad is not there.
    let ran = host
        .switch_to(&[LAN, &vm("bad", ""), &vm("good", "")].concat())
        .ended(4)
        .says("VM bad: ")
        .says("cannot find its kernel, /srv/guests/bad: No such file or directory");
    assert!(!ran.stderr.contains("error: VM good"), "{ran}");
    assert_eq!(host.property("good", "ActiveState"), "active");
    host.tap_is_in("good", "nk-lan");
    host.printed("good", 1);
    // It is tried again, and the good one left alone.
    let pid = host.main_pid("good");
    host.nkudo(&["switch"]).ended(4).says("VM bad: ");
    assert_eq!(host.main_pid("good"), pid);
    assert_eq!(
        host.machine.ok(&["readlink", "/var/lib/nkudo/current"]),
        "generations/1\n"
    );
}

fn a_vm_that_failed_is_started_by_the_next_switch() {
    let host = Host::boot(Networkd::On);
    let config = [LAN, &vm("web", "restart = \"no\"")].concat();
    let text = "no kernel\n".repeat(200);
    host.machine.write("/srv/guests/web", text, 0o644);
    host.switch_to(&config).ended(4);
    assert_eq!(host.property("web", "ActiveState"), "failed");
    host.guest("web", Then::PowerOffWhenAsked);
    host.nkudo(&["switch"])
        .done()
        .says("VM web: start: its unit failed");
    assert_eq!(host.property("web", "ActiveState"), "active");
    host.tap_is_in("web", "nk-lan");
}

fn a_deferred_change_waits_for_the_restart() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    // The stand-in is one under this name alone.
    let own = "/usr/local/lib/own/cloud-hypervisor";
    let copy = "install -D \"$(command -v cloud-hypervisor)\" \"$0\"";
    host.machine.ok(&["sh", "-c", copy, own]);
    let config = |memory: &str| {
        let more = format!("on-change = \"defer\"\nmemory = \"{memory}\"");
        let host = format!("[host]\nhypervisor = \"{own}\"\n");
        [&host, LAN, &vm("web", &more)].concat()
    };
    host.switch_to(&config("64M")).done();
    let pid = host.main_pid("web");
    host.switch_to(&config("96M"))
        .done()
        .says("pending until it is restarted");
    assert_eq!(host.main_pid("web"), pid);
    let status = host.nkudo(&["status", "web"]).done();
    assert!(status.stdout.contains("memory.size: 64M → 96M"), "{status}");
    host.nkudo(&["restart", "web"]).done();
    let argv = host
        .machine
        .ok(&["cat", &format!("/proc/{}/cmdline", host.main_pid("web"))]);
    assert!(argv.contains("size=96M"), "{argv}");
    // So does an upgrade of the hypervisor, whatever `on-change` says.
    let pid = host.main_pid("web");
    let newer = "#!/bin/sh\necho cloud-hypervisor v99.0.0\n";
    host.machine.write("/usr/local/bin/newer", newer, 0o755);
    host.machine.ok(&["mv", "/usr/local/bin/newer", own]);
    host.nkudo(&["switch"])
        .done()
        .says("VM web: pending until it is restarted: it runs with the hypervisor");
    assert_eq!(host.main_pid("web"), pid);
    let diff = host.nkudo(&["diff"]).done();
    let status = host.nkudo(&["status", "web"]).done();
    for (said, by) in [(&diff.stdout, &diff), (&status.stdout, &status)] {
        let said = said.contains(&format!("and there is {own} 99.0 now"));
        assert!(said, "{by}");
    }
    let status = host.nkudo(&["status"]).done();
    let remark = "pending until restarted: hypervisor";
    assert!(status.stdout.contains(remark), "{status}");
    let status = host.nkudo(&["status", "--json"]).done();
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    let upgrades = &status["vms"][0]["upgrades"];
    assert_eq!(upgrades[0]["what"], "hypervisor", "{upgrades}");
}

fn a_transient_unit_of_somebody_elses_is_refused() {
    let host = Host::boot(Networkd::Off);
    host.guest("web", Then::PowerOffWhenAsked);
    let name = unit("web");
    host.machine
        .ok(&["systemd-run", "-q", "--unit", &name, "sleep", "1000"]);
    let pid = host.main_pid("web");
    host.switch_to(&[LAN, &vm("web", "")].concat())
        .ended(1)
        .says("is not nkudo's")
        .says("nothing was changed");
    assert_eq!(host.main_pid("web"), pid);
    host.machine.ok(&["systemctl", "stop", &name]);
    host.nkudo(&["switch"]).done();
    host.tap_is_in("web", "nk-lan");
}

fn a_switch_of_some_vms_leaves_the_rest() {
    let host = Host::boot(Networkd::Off);
    let ids = ["web", "db", "old"];
    for id in ids {
        host.guest(id, Then::PowerOffWhenAsked);
    }
    let all = |memory: &str| {
        let key = format!("memory = \"{memory}\"");
        [LAN, &vm("web", &key), &vm("db", &key)].concat()
    };
    host.switch_to(&[&all("64M"), vm("old", "").as_str()].concat())
        .done();
    let (db, old) = (host.main_pid("db"), host.main_pid("old"));
    host.configure(&all("128M"));
    host.nkudo(&["render"]).done();
    host.nkudo(&["switch", "--only", "nobody"])
        .ended(1)
        .says("no VM nobody");
    let web = host.main_pid("web");
    host.nkudo(&["switch", "--only", "web"])
        .done()
        .says("VM web: restart")
        .says("the current generation stays as it was");
    assert_ne!(host.main_pid("web"), web);
    assert_eq!((host.main_pid("db"), host.main_pid("old")), (db, old));
    let current = || host.machine.ok(&["readlink", "/var/lib/nkudo/current"]);
    assert_eq!(current(), "generations/1\n");
    // Two are left, one of which goes.
    host.nkudo(&["switch", "--only", "db,old"]).done();
    assert_eq!(current(), "generations/2\n");
    host.is_gone("old");
    host.nkudo(&["switch"]).done().says("nothing to do");
}

fn fail_fast_leaves_the_rest_and_the_next_switch_does_it() {
    let host = Host::boot(Networkd::Off);
    for id in ["a", "b", "c"] {
        host.guest(id, Then::PowerOffWhenAsked);
    }
    let all = |memory: &str| {
        let key = format!("memory = \"{memory}\"");
        ["a", "b", "c"].map(|id| vm(id, &key)).concat()
    };
    host.switch_to(&[LAN, &all("64M")].concat()).done();
    let c = host.main_pid("c");
    host.configure(&[LAN, &all("128M")].concat());
    host.nkudo(&["render"]).done();
    host.machine
        .ok(&["mv", "/srv/guests/b", "/srv/guests/gone"]);
    host.nkudo(&["switch", "--restart-limit", "1", "--fail-fast"])
        .ended(4)
        .says("error: VM b")
        .says("VM c: left as it was")
        .says("the current generation stays as it was");
    assert_eq!(host.main_pid("c"), c);
    let current = || host.machine.ok(&["readlink", "/var/lib/nkudo/current"]);
    assert_eq!(current(), "generations/1\n");
    host.machine
        .ok(&["mv", "/srv/guests/gone", "/srv/guests/b"]);
    host.nkudo(&["switch"]).done();
    assert_ne!(host.main_pid("c"), c);
    assert_eq!(current(), "generations/2\n");
}

fn a_plan_is_json_too() {
    let host = Host::boot(Networkd::Off);
    host.guest("web", Then::PowerOffWhenAsked);
    host.configure(&[LAN, &vm("web", "")].concat());
    host.nkudo(&["render"]).done();
    for command in [
        ["diff", "--json"].as_slice(),
        &["switch", "--dry-run", "--json"],
    ] {
        let ran = host.nkudo(command).done();
        let plan: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(plan["version"], 1, "{plan}");
        assert_eq!(plan["nothing-to-do"], false, "{plan}");
        assert_eq!(plan["vms"][0]["action"], "start", "{plan}");
        assert_eq!(plan["start"][0][0], "web", "{plan}");
    }
    host.nkudo(&["switch"]).done();
    let ran = host.nkudo(&["diff", "--json"]).done();
    let plan: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(plan["nothing-to-do"], true, "{plan}");
}

fn twenty_vms_start_and_stop_at_once() {
    let host = Host::boot(Networkd::On);
    let ids: Vec<String> = (0..20).map(|number| format!("vm{number}")).collect();
    let mut config = LAN.to_owned();
    for id in &ids {
        host.guest(id, Then::PowerOffWhenAsked);
        config.push_str(&vm(id, ""));
    }
    host.switch_to(&config).done();
    let units = host.units("nkudo-vm@*");
    assert_eq!(units.matches(" active ").count(), 20, "{units}");
    for id in &ids {
        host.tap_is_in(id, "nk-lan");
    }
    until("every guest has printed its line", || {
        let journal = host.messages(&["-u", "nkudo-vm@*"]);
        let lines = journal
            .lines()
            .filter(|line| line.starts_with("hello from vm"))
            .count();
        if lines == 20 {
            Ok(())
        } else {
            Err(format!("{lines} lines"))
        }
    });
    host.switch_to("").done();
    host.has_nothing();
}
