//! What changes while a VM runs.
//!
//! The guest that reacts to the power button takes a plugged vCPU or disk for that: here guests halt.

use serde_json::Value;

use super::guest::Then;
use super::host::{Host, LAN, vm};
use super::machine::Networkd;
use super::until::until;
use super::vmm::Vmm;

cases![
    limits_vcpus_and_memory_change_live_and_a_crash_keeps_them,
    a_balloon_changes_live_and_a_crash_keeps_it,
    a_disk_is_plugged_into_the_sandbox_and_a_crash_keeps_it,
    timeouts_change_live,
    a_set_property_is_put_right,
];

/// The VM with what `more` says.
fn web(more: &str) -> String {
    [LAN, &vm("web", &format!("stop-timeout = \"1s\"\n{more}"))].concat()
}

fn sized(vcpus: u8, size: &str, limits: &str) -> String {
    web(&format!(
        "vcpus = {{ boot = {vcpus}, max = 4 }}\nmemory = {{ size = \"{size}\", max = \"192M\" }}\n\
         limits = {{ {limits} }}\n"
    ))
}

fn info(host: &Host) -> Value {
    let (status, body) = host.ask("web", "GET vm.info");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn has(host: &Host, vcpus: u8, mib: u64) {
    let config = &info(host)["config"];
    assert_eq!(config["cpus"]["boot_vcpus"], vcpus, "{config}");
    let memory = &config["memory"];
    let total = memory["size"].as_u64().unwrap() + memory["hotplugged_size"].as_u64().unwrap_or(0);
    assert_eq!(total, mib << 20, "{config}");
}

fn crash(host: &Host, pid: u32) -> u32 {
    host.machine.ok(&["kill", "-KILL", &pid.to_string()]);
    host.active_again("web", pid)
}

/// Checks that a switch has nothing more to do.
#[track_caller]
fn settled(host: &Host) {
    host.nkudo(&["switch"]).done().says("nothing to do");
}

fn limits_vcpus_and_memory_change_live_and_a_crash_keeps_them() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::Halt);
    host.switch_to(&sized(1, "64M", "cpu-weight = 100, tasks-max = 50"))
        .done();
    let pid = host.main_pid("web");
    let default = host
        .machine
        .ok(&["systemctl", "show", "--value", "-p", "DefaultTasksMax"]);
    let ran = host
        .switch_to(&sized(3, "192M", "cpu-weight = 200, memory-max = \"2G\""))
        .done();
    let ran = ran.says("downtime: none").does_not_say("restart");
    assert!(ran.stderr.contains("changed web"), "{ran}");
    let check = |host: &Host| {
        assert_eq!(host.property("web", "CPUWeight"), "200");
        assert_eq!(host.property("web", "MemoryMax"), (2_u64 << 30).to_string());
        assert_eq!(host.property("web", "TasksMax"), default.trim());
        has(host, 3, 192);
    };
    check(&host);
    assert_eq!(host.main_pid("web"), pid);
    assert_eq!(host.property("web", "NeedDaemonReload"), "no");
    settled(&host);
    // systemd starts it again without nkudo: it is the declared one still.
    let pid = crash(&host, pid);
    check(&host);
    settled(&host);
    // What was plugged in can be taken out, also after that.
    host.switch_to(&sized(1, "64M", "cpu-weight = 200, memory-max = \"2G\""))
        .done()
        .says("downtime: none");
    assert_eq!(host.main_pid("web"), pid);
    has(&host, 1, 64);
    settled(&host);
}

fn a_balloon_changes_live_and_a_crash_keeps_it() {
    let host = Host::boot(Networkd::Off);
    host.guest("web", Then::Halt);
    let with = |size: &str, balloon: &str, more: &str| {
        web(&format!(
            "memory = {{ size = \"{size}\", max = \"192M\", balloon = {balloon} }}\n{more}"
        ))
    };
    let has = |host: &Host, mib: u64| {
        let config = &info(host)["config"];
        assert_eq!(config["balloon"]["size"], mib << 20, "{config}");
    };
    host.switch_to(&with("64M", "true", "")).done();
    has(&host, 0);
    let pid = host.main_pid("web");
    host.switch_to(&with("64M", "{ size = \"32M\" }", ""))
        .done()
        .says("memory.balloon.size: 0 → 32M")
        .says("downtime: none");
    has(&host, 32);
    settled(&host);
    let pid = crash(&host, pid);
    has(&host, 32);
    settled(&host);
    // Also together with the memory, and with a unit's text that was written anew.
    let always = "restart = \"always\"\n";
    host.switch_to(&with("192M", "{ size = \"48M\" }", always))
        .done()
        .says("downtime: none");
    has(&host, 48);
    let pid = crash(&host, pid);
    has(&host, 48);
    settled(&host);
    // The memory at boot is what a VMM compares a balloon with.
    host.switch_to(&with("192M", "{ size = \"128M\" }", always))
        .done()
        .says("restart: it changed");
    assert_ne!(host.main_pid("web"), pid);
    has(&host, 128);
    settled(&host);
}

fn a_disk_is_plugged_into_the_sandbox_and_a_crash_keeps_it() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::Halt);
    for name in ["root", "data"] {
        let script = format!("truncate -s 8M /srv/{name}.raw && chmod 600 /srv/{name}.raw");
        host.machine.ok(&["sh", "-c", &script]);
    }
    let disk =
        |name: &str| format!("[[vm.web.disk]]\nname = \"{name}\"\npath = \"/srv/{name}.raw\"\n");
    let one = [web(""), disk("root")].concat();
    let two = [one.clone(), disk("data")].concat();
    host.switch_to(&one).done();
    let pid = host.main_pid("web");
    host.switch_to(&two)
        .done()
        .says("disk.data.path: /srv/data.raw is new")
        .says("downtime: none");
    assert_eq!(host.main_pid("web"), pid);
    let serials = |host: &Host| -> Vec<String> {
        let info = info(host);
        let disks = info["config"]["disks"].as_array().unwrap();
        disks
            .iter()
            .map(|disk| disk["serial"].as_str().unwrap().to_owned())
            .collect()
    };
    assert!(serials(&host).contains(&"data".to_owned()));
    settled(&host);
    let acl = |host: &Host| host.machine.ok(&["getfacl", "-pn", "/srv/data.raw"]);
    assert!(acl(&host).contains("user:6"), "{}", acl(&host));
    let pid = crash(&host, pid);
    assert!(serials(&host).contains(&"data".to_owned()));
    settled(&host);
    let unplugged = host.switch_to(&one);
    assert_eq!(host.main_pid("web"), pid);
    if matches!(Vmm::chosen(), Vmm::StandIn(_)) {
        unplugged.done();
        assert!(!acl(&host).contains("user:6"), "{}", acl(&host));
        settled(&host);
    } else {
        // The tests' guest of a few instructions lets go of nothing, and that is said.
        unplugged.ended(4).says("did not let go of it");
        host.nkudo(&["restart", "web"]).done();
        settled(&host);
    }
    assert!(!serials(&host).contains(&"data".to_owned()));
}

fn timeouts_change_live() {
    let host = Host::boot(Networkd::Off);
    host.guest("web", Then::Halt);
    let slow = vm("web", "stop-timeout = \"60s\"\nrestart = \"no\"\n");
    host.switch_to(&[LAN, &slow].concat()).done();
    let pid = host.main_pid("web");
    host.switch_to(&web("restart = \"on-failure\"\n"))
        .done()
        .says("daemon-reload")
        .says("downtime: none");
    assert_eq!(host.main_pid("web"), pid);
    assert_eq!(host.property("web", "TimeoutStopUSec"), "16s");
    assert_eq!(host.property("web", "Transient"), "yes");
    settled(&host);
    // The TAP outlives it, and so does what systemd does after a crash.
    let pid = crash(&host, pid);
    host.tap_is_in("web", "nk-lan");
    assert_ne!(pid, 0);
    let begun = std::time::Instant::now();
    host.nkudo(&["stop", "web"]).done();
    assert!(begun.elapsed().as_secs() < 15, "{:?}", begun.elapsed());
    host.is_gone("web");
    let left = host.machine.ok(&["find", "/run/systemd/transient"]);
    assert!(!left.contains("nkudo"), "{left}");
}

fn a_set_property_is_put_right() {
    let host = Host::boot(Networkd::Off);
    host.guest("web", Then::PowerOffWhenAsked);
    host.switch_to(&web("limits = { cpu-weight = 100 }\n"))
        .done();
    let pid = host.main_pid("web");
    let set = |what: &str| {
        let argv = ["systemctl", "set-property", "nkudo-vm@web.service", what];
        host.machine.ok(&argv);
    };
    set("CPUWeight=7");
    set("MemoryMax=300M");
    let diff = host.nkudo(&["diff"]).done();
    assert!(diff.stdout.contains("limits.cpu-weight: 7 → 100"), "{diff}");
    assert!(diff.stdout.contains("limits.memory-max"), "{diff}");
    host.nkudo(&["switch"]).done();
    assert_eq!(host.property("web", "CPUWeight"), "100");
    until("there is no MemoryMax", || {
        match host.property("web", "MemoryMax").as_str() {
            "infinity" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    assert_eq!(host.main_pid("web"), pid);
    settled(&host);
}
