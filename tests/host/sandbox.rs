//! What a VM may use of the host, and its unit as systemd has it.

use std::collections::BTreeSet;

use super::Case;
use super::guest::Then;
use super::machine::{Machine, Networkd};

pub(super) const CASES: &[Case] = &[
    (
        "a_vmm_has_no_rights_no_network_and_no_files_but_its_own",
        a_vmm_has_no_rights_no_network_and_no_files_but_its_own,
    ),
    (
        "a_disk_is_the_vms_only_while_the_vm_runs",
        a_disk_is_the_vms_only_while_the_vm_runs,
    ),
    (
        "the_live_unit_is_the_rendered_text_also_after_a_daemon_reload",
        the_live_unit_is_the_rendered_text_also_after_a_daemon_reload,
    ),
];

const TWO: &str = r#"
[network.lan]
[vm.one]
memory = "64M"
kernel = "/srv/one"
stop-timeout = "100ms"
limits = { cpu-weight = 200, cpu-quota = "150%", memory-max = "512M", tasks-max = 99 }
[[vm.one.nic]]
network = "lan"
[[vm.one.disk]]
name = "data"
path = "/root/disks/one,1.raw"
[vm.two]
memory = "64M"
kernel = "/srv/two"
cmdline = "console=ttyS0 a=\"$HOME\" 100%"
stop-timeout = "100ms"
[[vm.two.disk]]
name = "data"
path = "/srv/two.raw"
"#;

fn with_two_vms() -> Machine {
    let machine = Machine::boot(Networkd::On);
    machine.guest("one", Then::Halt);
    machine.guest("two", Then::Halt);
    machine.write("/root/disks/one,1.raw", vec![0; 1 << 20], 0o600);
    machine.write("/srv/two.raw", vec![0; 1 << 20], 0o666);
    machine.switch(TWO).exits(0);
    machine
}

fn a_vmm_has_no_rights_no_network_and_no_files_but_its_own() {
    let machine = with_two_vms();
    let security = machine.ok(&["systemd-analyze", "security", "--no-pager", "nkudo-vm@one"]);
    let score = security.lines().last().and_then(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.iter().find_map(|word| word.parse::<f32>().ok())
    });
    assert!(score.is_some_and(|score| score <= 0.6), "{security}");

    let pid = machine.main_pid("one");
    let status = machine.ok(&["cat", &format!("/proc/{pid}/status")]);
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or("")
            .split_whitespace()
            .next()
            .unwrap_or("")
            .to_owned()
    };
    let uid: u32 = field("Uid:").parse().unwrap();
    assert!((61184..=65519).contains(&uid), "the VMM's user is {uid}");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2");
    let network = |pid: &str| machine.ok(&["readlink", &format!("/proc/{pid}/ns/net")]);
    assert_ne!(network(&pid), network("1"));

    // As the VMM sees it: the other VM's world-writable disk is not there, nor are the host's files.
    let sees = |path: &str| machine.exists(&format!("/proc/{pid}/root{path}"));
    for path in ["/root/disks/one,1.raw", "/srv/one", "/dev/kvm", "/usr"] {
        let needs_kvm = path == "/dev/kvm" && !machine.exists("/dev/kvm");
        assert!(sees(path) || needs_kvm, "it does not see {path}");
    }
    for path in [
        "/srv/two.raw",
        "/srv/two",
        "/etc/shadow",
        "/home",
        "/dev/net/tun",
        "/run/nkudo/vms/two",
    ] {
        assert!(!sees(path), "it sees {path}");
    }
}

fn a_disk_is_the_vms_only_while_the_vm_runs() {
    let machine = with_two_vms();
    let acl = || machine.ok(&["getfacl", "-cnp", "/root/disks/one,1.raw"]);
    let pid = machine.main_pid("one");
    let uid = machine.ok(&["stat", "-c", "%u", &format!("/proc/{pid}")]);
    assert!(
        acl().contains(&format!("user:{}:rw-", uid.trim())),
        "{}",
        acl()
    );
    // The VMM has it open for writing.
    let open = machine.ok(&[
        "sh",
        "-c",
        &format!("ls -l /proc/{pid}/fd; cat /proc/{pid}/fdinfo/*"),
    ]);
    assert!(open.contains("one,1.raw"), "{open}");
    // The rights survive what the VM survives.
    machine.ok(&["kill", "-KILL", &pid]);
    machine.until("another VMM runs", || {
        let now = machine.property("one", "MainPID");
        now != "0" && now != pid && machine.property("one", "SubState") == "running"
    });
    assert!(
        acl().contains(&format!("user:{}:rw-", uid.trim())),
        "{}",
        acl()
    );
    machine.nkudo(&["stop", "one"]).exits(0);
    assert_eq!(acl().trim(), "user::rw-\ngroup::---\nother::---");
    let mode = machine.ok(&["stat", "-c", "%a %U", "/root/disks/one,1.raw"]);
    assert_eq!(mode.trim(), "600 root");
}

/// Every line of the text, against what `systemctl cat` and `systemctl show` say of the live unit.
fn the_live_unit_is_the_rendered_text_also_after_a_daemon_reload() {
    let machine = with_two_vms();
    for id in ["one", "two"] {
        let unit = format!("nkudo-vm@{id}.service");
        let shown = || {
            let shown = machine.ok(&["systemctl", "show", &unit]);
            let changing = [
                "CPUUsageNSec",
                "Memory",
                "IO",
                "Tasks",
                "IP",
                "EffectiveTasksMax",
                "ExecMainHandoff",
                "TimeoutStartUSec=",
                "StateChange",
                "ControlGroupId",
            ];
            shown
                .lines()
                .filter(|line| !changing.iter().any(|name| line.starts_with(name)))
                .map(normal)
                .collect::<BTreeSet<_>>()
        };
        let before = shown();
        machine.ok(&["systemctl", "daemon-reload"]);
        let after = shown();
        let differing: Vec<_> = before.symmetric_difference(&after).collect();
        assert!(
            differing.is_empty(),
            "{id}: a daemon-reload changed {differing:#?}"
        );

        // The same text as a unit file of another name: systemd has to read the same out of it.
        let text = machine.ok(&["cat", &format!("/var/lib/nkudo/generations/1/units/{unit}")]);
        let twin = format!("twin-{id}.service");
        machine.write(&format!("/run/systemd/system/{twin}"), &text, 0o644);
        machine.ok(&["systemctl", "daemon-reload"]);
        let verified = machine.run(&["systemd-analyze", "verify", &twin]);
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(!said.contains(&twin), "{said}");
        let mut differing = Vec::new();
        for line in text.lines() {
            let Some((key, _)) = line.split_once('=') else {
                continue;
            };
            // `Sec` in a file is `USec` on D-Bus.
            let property = match key {
                "CPUQuota" => "CPUQuotaPerSecUSec".to_owned(),
                "RestartMaxDelaySec" => "RestartMaxDelayUSec".to_owned(),
                key if key.starts_with("Exec") => format!("{key}Ex"),
                key => key
                    .strip_suffix("Sec")
                    .map_or(key.to_owned(), |key| format!("{key}USec")),
            };
            let value = |unit: &str| {
                let value = machine.ok(&["systemctl", "show", "-p", &property, unit]);
                normal(value.trim())
            };
            let (live, read) = (value(&unit), value(&twin));
            // Of capabilities there are none.
            if read.ends_with('=') && key != "CapabilityBoundingSet" {
                differing.push(format!("{key}: systemd shows nothing of it"));
            } else if live != read && key != "After" {
                differing.push(format!("{key}:\n  live {live}\n  text {read}"));
            }
        }
        assert!(differing.is_empty(), "{id}:\n{}", differing.join("\n"));
    }
}

/// A line of `systemctl show` without what has no meaning: the order of words, and what became of a
/// command so far.
fn normal(line: &str) -> String {
    let said = line.split(" ; start_time=").next().unwrap_or("");
    let (key, value) = said.split_once('=').unwrap_or((said, ""));
    let mut words: Vec<&str> = value.split_whitespace().collect();
    // Commands have an order.
    if !key.starts_with("Exec") {
        words.sort_unstable();
    }
    format!("{key}={}", words.join(" "))
}
