//! What a VM's process may see and do, and that systemd has the unit that was rendered.

use std::collections::BTreeMap;

use super::guest::Then;
use super::host::{Host, LAN, unit, vm, vm_alone};
use super::machine::Networkd;
use super::until::until;

cases![
    a_private_disk_is_opened_and_given_back,
    a_disk_is_given_back_after_a_crash_too,
    the_hosts_random_numbers_are_read_from_and_given_back,
    another_vms_disk_is_not_in_the_sandbox,
    a_disk_of_the_sandboxs_own_directories_is_refused_or_works,
    the_process_has_no_rights,
    the_exposure_level_is_at_most_0_6,
    systemd_has_the_unit_that_was_rendered_before_and_after_a_reload,
    the_rendered_text_is_a_valid_unit,
    a_drop_in_of_the_administrators_applies,
];

fn disk(id: &str, path: &str, more: &str) -> String {
    format!("\n[[vm.{id}.disk]]\npath = \"{path}\"\n{more}\n")
}

/// Writes a disk that only root may use.
fn private(host: &Host, path: &str) {
    host.machine.write(path, vec![0; 1 << 20], 0o600);
}

fn acl(host: &Host, path: &str) -> String {
    let argv = [
        "getfacl",
        "--absolute-names",
        "--numeric",
        "--omit-header",
        path,
    ];
    host.machine.ok(&argv).trim().to_owned()
}

fn uid(host: &Host, id: &str) -> String {
    let status = host
        .machine
        .ok(&["cat", &format!("/proc/{}/status", host.main_pid(id))]);
    let uids = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .unwrap();
    uids.split_whitespace().next().unwrap().to_owned()
}

const ROOTS_ALONE: &str = "user::rw-\ngroup::---\nother::---";

fn a_private_disk_is_opened_and_given_back() {
    for path in [
        "/srv/disks/data.raw",
        "/root/data.raw",
        "/home/somebody/data.raw",
    ] {
        let host = Host::boot(Networkd::On);
        host.guest("web", Then::PowerOffWhenAsked);
        private(&host, path);
        assert_eq!(acl(&host, path), ROOTS_ALONE);
        host.switch_to(&[vm_alone("web", ""), disk("web", path, "")].concat())
            .done();
        host.printed("web", 1);
        let pid = host.main_pid("web");
        let files = host.machine.ok(&["ls", "-l", &format!("/proc/{pid}/fd")]);
        assert!(files.contains(path), "{path} is not open:\n{files}");
        let uid = uid(&host, "web");
        let granted = acl(&host, path);
        assert!(
            granted.contains(&format!("user:{uid}:rw-")),
            "{uid}:\n{granted}"
        );
        let owner = host.machine.ok(&["stat", "-c", "%u:%g", path]);
        assert_eq!(owner, "0:0\n");
        // A crash restart gives it anew.
        host.machine.ok(&["kill", "-KILL", &pid.to_string()]);
        host.active_again("web", pid);
        host.printed("web", 2);
        host.machine.ok(&["systemctl", "stop", &unit("web")]);
        host.is_gone("web");
        let left = acl(&host, path);
        assert!(!left.contains(&uid), "{left}");
        assert_eq!(
            left.replace("mask::---\n", "").replace("mask::rw-\n", ""),
            ROOTS_ALONE
        );
    }
}

fn a_disk_is_given_back_after_a_crash_too() {
    let path = "/srv/disks/data.raw";
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::CrashWhenAsked);
    private(&host, path);
    let vm = vm_alone("web", "restart = \"no\"");
    host.switch_to(&[vm, disk("web", path, "")].concat()).done();
    host.printed("web", 1);
    let uid = uid(&host, "web");
    assert!(acl(&host, path).contains(&uid));
    // The VMM exits with 0 then: it is a step of the unit that fails.
    assert_eq!(host.ask("web", "PUT vm.power-button").0, 204);
    until("the unit has failed", || {
        match host.property("web", "ActiveState").as_str() {
            "failed" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    let left = acl(&host, path);
    assert!(!left.contains(&uid), "{left}");
}

fn another_vms_disk_is_not_in_the_sandbox() {
    let host = Host::boot(Networkd::On);
    for id in ["web", "db"] {
        host.guest(id, Then::PowerOffWhenAsked);
        // Even if everybody may read it.
        host.machine
            .write(&format!("/srv/disks/{id}.raw"), vec![0; 1 << 20], 0o644);
    }
    let config = ["web", "db"].map(|id| {
        [
            vm_alone(id, ""),
            disk(id, &format!("/srv/disks/{id}.raw"), ""),
        ]
        .concat()
    });
    host.switch_to(&config.concat()).done();
    let pid = host.main_pid("web");
    let inside = host
        .machine
        .ok(&["find", &format!("/proc/{pid}/root/srv"), "-type", "f"]);
    let mut inside: Vec<&str> = inside
        .lines()
        .filter_map(|line| line.split("/root/").nth(1))
        .collect();
    inside.sort_unstable();
    assert_eq!(inside, ["srv/disks/web.raw", "srv/guests/web"]);
    // By the mount namespace too, from which the root directory could be left.
    let mounts = host.machine.ok(&["cat", &format!("/proc/{pid}/mountinfo")]);
    assert!(!mounts.contains("db.raw"), "{mounts}");
    // What a VM has nothing to do with, and what it needs.
    for (path, there) in [
        ("etc/shadow", false),
        ("etc/nkudo", false),
        ("var/lib/nkudo", false),
        ("run/nkudo/booted", false),
        ("run/nkudo/vms/db", false),
        ("run/dbus", false),
        ("run/systemd/private", false),
        ("dev/net/tun", false),
        ("dev/null", true),
        ("run/nkudo/vms/web", true),
        ("usr/local/bin/cloud-hypervisor", true),
    ] {
        let path = format!("/proc/{pid}/root/{path}");
        assert_eq!(host.exists(&path), there, "{path}");
    }
}

/// /usr, /tmp and /run are the sandbox's own: a disk there must not be lost silently.
fn a_disk_of_the_sandboxs_own_directories_is_refused_or_works() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    for path in [
        "/usr/share/data.raw",
        "/tmp/data.raw",
        "/run/data.raw",
        "/var/tmp/data.raw",
    ] {
        private(&host, path);
        let toml = [vm_alone("web", ""), disk("web", path, "")].concat();
        host.configure(&toml);
        let checked = host.nkudo(&["check"]);
        if checked.code == Some(3) {
            checked.says(path);
            continue;
        }
        host.nkudo(&["render"]).done();
        let switched = host.nkudo(&["switch"]);
        assert_eq!(switched.code, Some(0), "{path}: {switched}");
        let pid = host.main_pid("web");
        let files = host.machine.ok(&["ls", "-l", &format!("/proc/{pid}/fd")]);
        assert!(files.contains(path), "{path} is not open:\n{files}");
    }
}

fn the_process_has_no_rights() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    host.switch_to(&[LAN, &vm("web", "")].concat()).done();
    let pid = host.main_pid("web");
    let status = host.machine.ok(&["cat", &format!("/proc/{pid}/status")]);
    let field = |name: &str| -> Vec<String> {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap_or_else(|| panic!("no {name} in\n{status}"))
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    };
    for uid in field("Uid") {
        // Dynamic users (systemd.exec(5), DynamicUser=).
        assert!(
            (61184..=65519).contains(&uid.parse::<u32>().unwrap()),
            "{uid}"
        );
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(set), ["0000000000000000"], "{set}");
    }
    assert_eq!(field("NoNewPrivs"), ["1"]);
    assert_eq!(field("Seccomp"), ["2"]);
    for namespace in ["net", "mnt", "user", "ipc"] {
        let of = |pid: &str| {
            host.machine
                .ok(&["readlink", &format!("/proc/{pid}/ns/{namespace}")])
        };
        assert_ne!(of(&pid.to_string()), of("1"), "{namespace}");
    }
    // No device of the host's network but its own loopback.
    let links = host.machine.ok(&["cat", &format!("/proc/{pid}/net/dev")]);
    let links: Vec<&str> = links
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.trim())
        .collect();
    assert_eq!(links, ["lo"]);
}

fn the_exposure_level_is_at_most_0_6() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    private(&host, "/root/data.raw");
    let config = [LAN, &vm("web", ""), &disk("web", "/root/data.raw", "")].concat();
    host.switch_to(&config).done();
    let report = host
        .machine
        .ok(&["systemd-analyze", "security", "--no-pager", &unit("web")]);
    let level = report
        .lines()
        .find_map(|line| line.split("Overall exposure level for ").nth(1))
        .and_then(|line| line.split_whitespace().nth(1))
        .and_then(|level| level.parse::<f64>().ok());
    assert!(level.is_some_and(|level| level <= 0.6), "{report}");
}

/// What differs between a unit that runs and one that does not, and says nothing of its text.
const OF_THE_RUN: &[&str] = &[
    "ActiveEnter",
    "ActiveExit",
    "ActiveState",
    "AssertResult",
    "AssertTimestamp",
    "Can",
    "ConditionResult",
    "ConditionTimestamp",
    "ControlGroup",
    "ControlPID",
    "CPUUsage",
    "Effective",
    "ExecMain",
    "FragmentPath",
    "GID",
    "Id=",
    "InactiveEnter",
    "InactiveExit",
    "InvocationID",
    "IO",
    "IP",
    "Job",
    "LoadState",
    "MainPID",
    "Memory",
    "Names",
    "NeedDaemonReload",
    "NRestarts",
    "RestartUSecNext",
    "Result",
    "StateChange",
    "StatusErrno",
    "SubState",
    "Tasks",
    "TimeoutClean",
    "UID",
    "UnitFile",
    "WatchdogUSec",
    "DropInPaths",
    "FileDescriptorStore",
    "NFileDescriptorStore",
    "ExecStartPreEx",
    "ExecStartPostEx",
    "ExecStopEx",
    "ExecStopPostEx",
];
/// Limits, which begin like what is measured.
const AND_YET: &[&str] = &[
    "MemoryHigh",
    "MemoryMax",
    "MemoryLow",
    "MemoryMin",
    "MemoryDenyWriteExecute",
    "TasksMax",
    "IOWeight",
    "IPAddressDeny",
    "IPAddressAllow",
    "IPAccounting",
    "IOSchedulingClass",
];

/// The properties that a unit's text decides.
fn settings(host: &Host, unit: &str) -> BTreeMap<String, String> {
    let shown = host.machine.ok(&["systemctl", "show", "--all", unit]);
    let mut settings = BTreeMap::<String, String>::new();
    for line in shown.lines() {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let of_the_run = OF_THE_RUN.iter().any(|start| line.starts_with(start))
            && !AND_YET.iter().any(|start| line.starts_with(start));
        // The transient unit has its TAPs, and is one.
        if of_the_run || ["ExtraFileDescriptorNames", "Transient", "SourcePath"].contains(&key) {
            continue;
        }
        // Commands are followed by how they ran.
        let value = value.split(" ; start_time=").next().unwrap_or(value);
        // The order of other units means nothing.
        let of_units = [
            "After",
            "Before",
            "Wants",
            "WantsMountsFor",
            "Requires",
            "RequiresMountsFor",
        ];
        let mut words: Vec<&str> = value.split(' ').collect();
        if of_units.contains(&key) {
            words.sort_unstable();
        }
        let value = words.join(" ");
        // A key may come several times.
        let all = settings.entry(key.to_owned()).or_default();
        all.push_str(&value);
        all.push('\n');
    }
    settings
}

#[track_caller]
fn same(what: &str, left: &BTreeMap<String, String>, right: &BTreeMap<String, String>) {
    let keys = left.keys().chain(right.keys());
    let different: Vec<String> = keys
        .filter(|key| left.get(*key) != right.get(*key))
        .map(|key| format!("{key}:\n  {:?}\n  {:?}", left.get(key), right.get(key)))
        .collect();
    assert!(different.is_empty(), "{what}\n{}", different.join("\n"));
    assert!(left.len() > 150, "too little to compare: {left:?}");
}

fn systemd_has_the_unit_that_was_rendered_before_and_after_a_reload() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    private(&host, "/root/a=b,c%d.raw");
    let more = "vcpus = 1\ncmdline = 'console=ttyS0 a=\"$HOME\" 100%'\nstop-timeout = \"1min 30s\"\n\
         start-timeout = \"1s\"\nready = \"guest\"";
    let limits = "\n[vm.web.limits]\ncpu-weight = 200\ncpu-quota = \"150%\"\nmemory-high = \"1G\"\n\
         memory-max = \"2G\"\nio-weight = 50\ntasks-max = 512\n";
    let config = [
        LAN,
        &vm("web", more),
        &disk("web", "/root/a=b,c%d.raw", ""),
        limits,
    ]
    .concat();
    host.switch_to(&config).done();
    let live = settings(&host, &unit("web"));
    let text = host.machine.ok(&[
        "cat",
        "/var/lib/nkudo/generations/1/units/nkudo-vm@web.service",
    ]);
    // The text as an ordinary unit, so that it is systemd that says what it means.
    host.machine
        .write("/run/systemd/system/rendered.service", &text, 0o644);
    host.machine.ok(&["systemctl", "daemon-reload"]);
    assert_eq!(
        host.machine.ok(&[
            "systemctl",
            "show",
            "--value",
            "-p",
            "LoadState",
            "rendered"
        ]),
        "loaded\n"
    );
    let reloaded = settings(&host, &unit("web"));
    let rendered = settings(&host, "rendered.service");
    same("a daemon-reload changed the unit", &live, &reloaded);
    same("the unit is not what the text says", &live, &rendered);
    // And what was read again still starts.
    let pid = host.main_pid("web");
    host.machine.ok(&["kill", "-KILL", &pid.to_string()]);
    host.active_again("web", pid);
    let argv = |pid: u32| host.machine.ok(&["cat", &format!("/proc/{pid}/cmdline")]);
    let again = argv(host.main_pid("web"));
    assert!(
        again.contains("\0console=ttyS0 a=\"$HOME\" 100%\0"),
        "{again}"
    );
}

fn the_rendered_text_is_a_valid_unit() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    private(&host, "/root/data.raw");
    let vm = vm("web", "ready = { when = \"guest\", on-timeout = \"fail\" }");
    host.configure(&[LAN, &vm, &disk("web", "/root/data.raw", "")].concat());
    host.nkudo(&["render"]).done();
    let units = "/var/lib/nkudo/generations/1/units";
    let verified = host.machine.run(&[
        "systemd-analyze",
        "verify",
        "--man=no",
        &format!("{units}/nkudo-vm@web.service"),
        &format!("{units}/nkudo-ready@web.service"),
    ]);
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(
        verified.status.success() && said.is_empty(),
        "{}\n{said}",
        verified.status
    );
}

fn a_drop_in_of_the_administrators_applies() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    let drop_in = "/etc/systemd/system/nkudo-vm@.service.d/nice.conf";
    host.machine.write(drop_in, "[Service]\nNice=7\n", 0o644);
    host.switch_to(&[LAN, &vm("web", "")].concat()).done();
    assert_eq!(host.property("web", "Nice"), "7");
    let status = host.nkudo(&["status", "web"]).done();
    assert!(status.stdout.contains(drop_in), "{status}");
    host.nkudo(&["switch"]).done().says("nothing to do");
    until("the VMM runs with it", || {
        let pid = host.main_pid("web");
        let nice = host
            .machine
            .ok(&["ps", "-o", "nice=", "-p", &pid.to_string()]);
        if nice.trim() == "7" {
            Ok(())
        } else {
            Err(nice)
        }
    });
}

/// The device is another one, which can be opened wherever the cases run, and which is in no unit's /dev.
fn the_hosts_random_numbers_are_read_from_and_given_back() {
    let host = Host::boot(Networkd::Off);
    host.guest("web", Then::PowerOffWhenAsked);
    let made = std::process::Command::new("mknod")
        .args(["-m", "0600"])
        .arg(host.machine.inside("/dev/hwrng"))
        .args(["c", "10", "200"])
        .status();
    assert!(made.unwrap().success());
    let before = host.machine.ok(&["getfacl", "-cp", "/dev/hwrng"]);
    let config = vm_alone("web", "rng = { source = \"/dev/hwrng\" }");
    host.switch_to(&config).done();
    host.printed("web", 1);
    let pid = host.main_pid("web");
    let fds = host.machine.ok(&["ls", "-l", &format!("/proc/{pid}/fd")]);
    assert!(fds.contains("/dev/hwrng"), "{fds}");
    let access = host.machine.ok(&["getfacl", "-cp", "/dev/hwrng"]);
    assert!(access.contains("user:nkudo-web:r--\n"), "{access}");
    host.nkudo(&["stop", "web"]).done();
    assert_eq!(host.machine.ok(&["getfacl", "-cp", "/dev/hwrng"]), before);
}
