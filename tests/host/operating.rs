//! What somebody does who runs VMs: look, read, pause, stop what is stuck.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::guest::Then;
use super::host::{Host, LAN, unit, vm, vm_alone};
use super::machine::Networkd;
use super::until::until;

cases![
    a_status_says_what_a_vm_is_uses_and_has,
    why_a_vm_ended_is_shown_when_it_is_gone,
    a_vm_is_paused_and_goes_on,
    the_log_has_the_console_and_the_rest_apart,
    any_call_of_the_api_can_be_made,
    a_forced_stop_says_each_step_and_ends_a_vmm_that_is_stuck,
    an_archive_for_whoever_helps_has_everything_but_secrets,
    ssh_goes_to_the_address_that_the_host_knows,
    consoles_attach_to_a_guest_leave_it_and_see_what_was_before,
    what_is_printed_fits_80_columns_and_has_no_colour_where_nobody_wants_it,
];

fn running(then: Then, more: &str) -> Host {
    let host = Host::boot(Networkd::On);
    host.guest("web", then);
    host.switch_to(&[LAN, &vm("web", more)].concat()).done();
    host.printed("web", 1);
    host
}

/// The only VM of `nkudo status --json`.
fn status(host: &Host, arguments: &[&str]) -> Value {
    let mut argv = vec!["status", "--json"];
    argv.extend(arguments);
    let status = host.nkudo(&argv).done();
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    status["vms"][0].clone()
}

fn a_status_says_what_a_vm_is_uses_and_has() {
    let host = running(Then::PowerOffWhenAsked, "");
    host.tap_is_in("web", "nk-lan");
    // As if the guest had spoken to the host.
    let mac = status(&host, &[])["nics"][0]["mac"]
        .as_str()
        .unwrap()
        .to_owned();
    let neighbour = [
        "ip",
        "neigh",
        "add",
        "192.168.100.10",
        "lladdr",
        &mac,
        "dev",
        "nk-lan",
    ];
    host.machine.ok(&neighbour);
    for arguments in [&[][..], &["web"]] {
        let web = status(&host, arguments);
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
    assert_eq!(status(&host, &["web"])["vmm"], "running");
    // What systemd does by itself is seen too.
    let pid = host.main_pid("web");
    host.machine.ok(&["kill", "-KILL", &pid.to_string()]);
    host.active_again("web", pid);
    let web = status(&host, &[]);
    assert_eq!(web["restarts"], 1, "{web}");
    assert_eq!(web["main-pid"], host.main_pid("web"));
    // And what an administrator changed.
    let path = "/etc/systemd/system/nkudo-vm@web.service.d/mine.conf";
    host.machine
        .write(path, "[Service]\nCPUWeight=200\n", 0o644);
    host.machine.ok(&["systemctl", "daemon-reload"]);
    assert_eq!(status(&host, &[])["drop-ins"][0], path);
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
}

fn why_a_vm_ended_is_shown_when_it_is_gone() {
    let host = running(Then::PowerOffWhenAsked, "");
    assert_eq!(host.ask("web", "PUT vm.power-button").0, 204);
    host.is_gone("web");
    until(
        "the journal has it",
        || match status(&host, &[])["last-exit"]["why"].as_str() {
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
    host.machine.ok(&["rm", "/srv/guests/web"]);
    host.nkudo(&["switch"]).ended(4);
    until("the refusal is seen", || {
        let web = status(&host, &["web"]);
        if web["last-exit"]["why"] == "vmm-refused" {
            let cause = web["diagnosis"]["cause"].as_str().unwrap_or_default();
            assert!(cause.contains("kernel is not there"), "{web}");
            Ok(())
        } else {
            Err(web.to_string())
        }
    });
    let details = host.nkudo(&["status", "web"]).done();
    assert!(details.stdout.contains("remedy"), "{details}");
}

fn a_vm_is_paused_and_goes_on() {
    let host = running(Then::PowerOffWhenAsked, "");
    host.nkudo(&["pause", "web"]).done().says("paused web");
    host.nkudo(&["pause", "web"]).done().says("already");
    assert_eq!(status(&host, &[])["state"], "paused");
    assert_eq!(status(&host, &["web"])["state"], "paused");
    host.nkudo(&["resume", "web"]).done();
    assert_eq!(status(&host, &[])["state"], "running");
    // Past nkudo: asked closely, the VMM says so nevertheless.
    assert_eq!(host.ask("web", "PUT vm.pause").0, 204);
    assert_eq!(status(&host, &["web"])["state"], "paused");
    // A guest that is paused powers off as any other.
    let begun = Instant::now();
    host.nkudo(&["stop", "web"]).done();
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    host.is_gone("web");
    let journal = host.journal("web");
    assert!(journal.contains("the guest powered off"), "{journal}");
    host.nkudo(&["pause", "web"]).ended(1).says("does not run");
    host.nkudo(&["resume", "web"]).ended(1).says("does not run");
}

fn the_log_has_the_console_and_the_rest_apart() {
    let host = running(Then::PowerOffWhenAsked, "");
    host.nkudo(&["stop", "web"]).done();
    host.is_gone("web");
    let _ = host.machine.run(&["journalctl", "--sync"]);
    let logs = |more: &[&str]| {
        let mut argv = vec!["logs", "web"];
        argv.extend(more);
        host.nkudo(&argv).done().stdout
    };
    let console = logs(&["--console"]);
    assert!(console.starts_with("hello from web"), "{console}");
    assert_eq!(console.lines().count(), 1, "{console}");
    let rest = logs(&["--no-console"]);
    assert!(!rest.contains("hello from web"), "{rest}");
    // Its steps, systemd, nkudo, and the calls that were made.
    for part in [
        "VM web ended",
        "Started nkudo-vm@web.service",
        "stopped web in",
        "PUT vm.power-button",
    ] {
        assert!(rest.contains(part), "no {part:?} in\n{rest}");
    }
    let all = logs(&[]);
    assert!(
        all.contains("hello from web") && all.contains("VM web ended"),
        "{all}"
    );
    assert_eq!(logs(&["--since", "1h", "-n", "1"]).lines().count(), 1);
    assert_eq!(logs(&["--since", "2099-01-01"]), "");
}

fn any_call_of_the_api_can_be_made() {
    let host = running(Then::PowerOffWhenAsked, "");
    let info = host.nkudo(&["api", "web", "GET", "vm.info"]).done();
    let info: Value = serde_json::from_str(&info.stdout).unwrap();
    assert_eq!(info["state"], "Running");
    assert_eq!(
        host.nkudo(&["api", "web", "put", "vm.pause"]).done().stdout,
        ""
    );
    host.nkudo(&["api", "web", "PUT", "vm.pause"])
        .ended(1)
        .says("the VMM refused vm.pause");
    host.nkudo(&["api", "web", "PUT", "vm.nonsense"])
        .ended(1)
        .says("the VMM refused vm.nonsense");
    host.nkudo(&["api", "web", "GET", "../x"]).ended(2);
    host.nkudo(&["api", "web", "PUT", "vm.resize", "nonsense"])
        .ended(1)
        .says("not JSON");
    host.nkudo(&["api", "db", "GET", "vm.info"])
        .ended(1)
        .says("VM db does not run");
    let _ = host.machine.run(&["journalctl", "--sync"]);
    let journal = host.machine.ok(&[
        "journalctl",
        "-q",
        "-o",
        "cat",
        "NKUDO_VM=web",
        "_COMM=nkudo",
    ]);
    assert!(journal.contains("PUT vm.pause"), "{journal}");
}

fn a_forced_stop_says_each_step_and_ends_a_vmm_that_is_stuck() {
    let host = Host::boot(Networkd::On);
    host.guest("kind", Then::PowerOffWhenAsked);
    host.guest("deaf", Then::Halt);
    let vms = ["kind", "deaf"].map(|id| vm_alone(id, "stop-timeout = \"10min\""));
    host.switch_to(&vms.concat()).done();
    host.nkudo(&["stop", "kind", "--force"])
        .done()
        .says("pressed the power button of kind")
        .does_not_say("SIGTERM");
    host.is_gone("kind");
    // A stop that somebody else waits for, and that holds the lock, is no hindrance.
    let waiting = [
        "systemd-run",
        "-q",
        "--unit=waiting",
        "nkudo",
        "stop",
        "deaf",
    ];
    host.machine.ok(&waiting);
    until("the stop is under way", || {
        match host.property("deaf", "ActiveState").as_str() {
            "deactivating" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    let begun = Instant::now();
    host.nkudo(&["stop", "deaf", "--force=1"])
        .done()
        .says("SIGTERM to the VMM of deaf")
        .does_not_say("SIGKILL");
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    host.is_gone("deaf");
    // One that does not react to SIGTERM either.
    let vmm = "#!/usr/bin/sh\ntrap '' TERM\ncloud-hypervisor \"$@\"\n[ \"$1\" = --version ] || sleep 3600\n";
    host.machine.write("/usr/local/bin/stubborn", vmm, 0o755);
    host.guest("stuck", Then::Halt);
    let stuck = vm_alone("stuck", "stop-timeout = \"10min\"");
    host.switch_to(&["[host]\nhypervisor = \"stubborn\"\n", &vms.concat(), &stuck].concat())
        .done();
    host.nkudo(&["stop", "stuck", "--force=1"])
        .done()
        .says("SIGTERM to the VMM of stuck")
        .says("SIGKILL to all processes of stuck");
    host.is_gone("stuck");
    host.nkudo(&["stop", "stuck", "--force"])
        .done()
        .says("stuck does not run");
    // They are held, as by any stop.
    host.nkudo(&["switch"]).done();
    for id in ["kind", "deaf", "stuck"] {
        assert_eq!(host.property(id, "LoadState"), "not-found");
    }
}

fn what_is_printed_fits_80_columns_and_has_no_colour_where_nobody_wants_it() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    host.guest("a-vm-of-a-long-name", Then::PowerOff);
    let vms = [LAN, &vm("web", ""), &vm("a-vm-of-a-long-name", "")];
    host.switch_to(&vms.concat()).done();
    host.nkudo(&["stop", "web"]).done();
    let on_terminal = |command: &str| {
        let script = format!("stty cols 80 rows 24; {command}");
        host.machine.ok(&["script", "-qec", &script, "/dev/null"])
    };
    for command in ["nkudo status", "nkudo generations", "nkudo doctor || true"] {
        let text = on_terminal(command);
        for line in text.lines() {
            let width = line.trim_end_matches('\r').chars().count();
            assert!(width <= 80, "{command}: {width} columns: {line}");
        }
    }
    let piped = host.nkudo(&["status"]).done();
    assert!(
        !piped.stdout.contains('\x1b') && !piped.stderr.contains('\x1b'),
        "{piped}"
    );
    let quiet = on_terminal("NO_COLOR=1 nkudo status; NO_COLOR=1 nkudo start nonexistent; true");
    assert!(!quiet.contains('\x1b'), "{quiet:?}");
    // A guest's words do not speak to the terminal.
    let logs = on_terminal("nkudo logs web");
    assert!(
        !logs.contains('\x1b') && logs.contains("hello from web"),
        "{logs:?}"
    );
}

fn an_archive_for_whoever_helps_has_everything_but_secrets() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    let cmdline = "cmdline = \"console=ttyS0 db_password=Sesame1 quiet\"";
    host.switch_to(&[LAN, &vm("web", cmdline)].concat()).done();
    host.printed("web", 1);
    // A seed, and what a guest and an administrator may say.
    let seed = "/var/lib/nkudo/generations/1/seeds/web/user-data";
    host.machine
        .write(seed, "#cloud-config\npassword: Sesame2\n", 0o600);
    let said = "echo 'token: Sesame3' | systemd-cat -t nkudo-test; logger --journald <<'X'\nMESSAGE=api_key=Sesame4\nNKUDO_VM=web\nX\n";
    host.machine.ok(&["sh", "-c", said]);
    let _ = host.machine.run(&["journalctl", "--sync"]);
    let ran = host
        .nkudo(&["collect", "--output", "/root/all.tar.zst"])
        .done();
    assert!(ran.stdout.contains("incident nkudo-"), "{ran}");
    let mode = host.machine.ok(&["stat", "-c", "%a", "/root/all.tar.zst"]);
    assert_eq!(mode.trim(), "600");
    let unpack =
        "mkdir /root/all && zstd -dc /root/all.tar.zst | tar -x -C /root/all --strip-components=1";
    host.machine.ok(&["sh", "-c", unpack]);
    for file in [
        "incident.json",
        "doctor.json",
        "status.json",
        "generation/manifest.json",
        "generation/units/nkudo-vm@web.service",
        "vm/web/journal.txt",
        "vm/web/console.txt",
        "vm/web/booted.json",
        "vm/web/unit.txt",
        "network/addresses.txt",
        "host/hypervisor.txt",
    ] {
        assert!(host.exists(&format!("/root/all/{file}")), "no {file}");
    }
    let console = host.machine.ok(&["cat", "/root/all/vm/web/console.txt"]);
    assert!(console.contains("hello from web"), "{console}");
    let manifest = host
        .machine
        .ok(&["cat", "/root/all/generation/manifest.json"]);
    assert!(
        manifest.contains("db_password=[masked] quiet"),
        "{manifest}"
    );
    let found = host.machine.run(&["grep", "-r", "Sesame", "/root/all"]);
    assert!(
        found.stdout.is_empty(),
        "{}",
        String::from_utf8_lossy(&found.stdout)
    );
    let summary: Value =
        serde_json::from_str(&host.machine.ok(&["cat", "/root/all/incident.json"])).unwrap();
    assert_eq!(summary["vms"][0], "web");
    assert_eq!(summary["generation"]["number"], 1);
    host.nkudo(&["collect", "web", "--no-console", "-o", "/root/web.tar.zst"])
        .done();
    let list = host
        .machine
        .ok(&["sh", "-c", "zstd -dc /root/web.tar.zst | tar -t"]);
    assert!(!list.contains("console.txt"), "{list}");
}

fn ssh_goes_to_the_address_that_the_host_knows() {
    let host = running(Then::PowerOffWhenAsked, "");
    host.nkudo(&["ssh", "web"])
        .ended(1)
        .says("the host knows no address of web");
    let mac = status(&host, &[])["nics"][0]["mac"]
        .as_str()
        .unwrap()
        .to_owned();
    for address in ["fe80::1", "192.168.100.10"] {
        host.machine.ok(&[
            "ip", "neigh", "add", address, "lladdr", &mac, "dev", "nk-lan",
        ]);
    }
    let ssh = "#!/bin/sh\nprintf '%s\\n' \"$@\"\nexit 7\n";
    host.machine.write("/usr/local/bin/ssh", ssh, 0o755);
    let ran = host
        .nkudo(&["ssh", "web", "-l", "admin", "--", "uptime", "-p"])
        .ended(7);
    let expected = "-o\nHostKeyAlias=nkudo-web\n-l\nadmin\n--\n192.168.100.10\nuptime\n-p\n";
    assert_eq!(ran.stdout, expected, "{ran}");
    host.nkudo(&["stop", "web"]).done();
    host.nkudo(&["ssh", "web"]).ended(1).says("web is stopped");
}

/// A console on a terminal in the machine: what is typed comes from a pipe, what is shown goes to a file.
struct Console<'a> {
    host: &'a Host,
    name: &'a str,
}

impl<'a> Console<'a> {
    fn attach(host: &'a Host, name: &'a str) -> Self {
        let start = format!(
            "mkfifo /root/{name}.in; \
             systemd-run -q --unit={name} sh -c 'exec 3<>/root/{name}.in; \
             exec script -qfec \"nkudo console web\" /root/{name}.out <&3 >/dev/null 2>&1'"
        );
        host.machine.ok(&["sh", "-c", &start]);
        Self { host, name }
    }

    fn types(&self, text: &str) {
        let path = format!("/root/{}.in", self.name);
        self.host
            .machine
            .ok(&["sh", "-c", &format!("printf '{text}' > {path}")]);
    }

    #[track_caller]
    fn sees(&self, text: &str) {
        let path = format!("/root/{}.out", self.name);
        until(&format!("{} sees {text:?}", self.name), || {
            let seen = self.host.machine.run(&["cat", &path]);
            let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
            if seen.contains(text) {
                Ok(())
            } else {
                Err(seen)
            }
        });
    }

    #[track_caller]
    fn leaves(&self) {
        self.types("\\035");
        let unit = format!("{}.service", self.name);
        until("the console has ended", || {
            let state = self.host.machine.run(&["systemctl", "is-active", &unit]);
            if state.status.success() {
                Err("it is there".to_owned())
            } else {
                Ok(())
            }
        });
    }
}

fn consoles_attach_to_a_guest_leave_it_and_see_what_was_before() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::Echo);
    host.guest("db", Then::PowerOffWhenAsked);
    let more = "serial = \"socket\"\nstop-timeout = \"1s\"";
    host.switch_to(&[vm_alone("web", more), vm_alone("db", "")].concat())
        .done();
    host.nkudo(&["console", "db"])
        .ended(1)
        .says("goes to the journal");
    // What was printed while nobody was there, and what is typed.
    let first = Console::attach(&host, "first");
    first.sees("hello from web");
    first.types("abc");
    first.sees("abc");
    // Another one, with what was before it came.
    let second = Console::attach(&host, "second");
    second.sees("hello from web");
    second.sees("abc");
    second.types("def");
    first.sees("def");
    second.sees("def");
    // The first one leaves, and the other stays.
    first.leaves();
    until("the second is the hub", || {
        second.types("g");
        // A guest that looks for a byte without waiting for its interrupt finds a zero once a client has
        // left cloud-hypervisor's socket.
        let seen = host
            .machine
            .ok(&["cat", "/root/second.out"])
            .replace('\0', "");
        if seen.contains("defg") {
            Ok(())
        } else {
            Err(seen)
        }
    });
    second.leaves();
    host.no_nkudo_runs();
    // After all have gone: what they saw, and the guest runs on.
    let third = Console::attach(&host, "third");
    third.sees("def");
    third.types("xyz");
    third.sees("xyz");
    host.nkudo(&["stop", "web"]).done();
    third.sees("ended");
    host.nkudo(&["console", "web"])
        .ended(1)
        .says("VM web does not run");
}
