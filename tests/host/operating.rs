//! What somebody does who runs VMs: look, read, pause, stop what is stuck.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::guest::Then;
use super::host::{Host, LAN, vm, vm_alone};
use super::machine::Networkd;
use super::until::until;

cases![
    a_vm_is_paused_and_goes_on,
    the_log_has_the_console_and_the_rest_apart,
    any_call_of_the_api_can_be_made,
    a_forced_stop_says_each_step_and_ends_a_vmm_that_is_stuck,
    an_archive_for_whoever_helps_has_everything_but_secrets,
];

fn a_vm_is_paused_and_goes_on() {
    let host = Host::with_web(Then::PowerOffWhenAsked, "");
    host.nkudo(&["pause", "web"]).done().says("paused web");
    host.nkudo(&["pause", "web"]).done().says("already");
    assert_eq!(host.status(&[])["state"], "paused");
    assert_eq!(host.status(&["web"])["state"], "paused");
    host.nkudo(&["resume", "web"]).done();
    assert_eq!(host.status(&[])["state"], "running");
    // Past nkudo: asked closely, the VMM says so nevertheless.
    assert_eq!(host.ask("web", "PUT vm.pause").0, 204);
    assert_eq!(host.status(&["web"])["state"], "paused");
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
    let host = Host::with_web(Then::PowerOffWhenAsked, "");
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
    let host = Host::with_web(Then::PowerOffWhenAsked, "");
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
    let journal = host.messages(&["NKUDO_VM=web", "_COMM=nkudo"]);
    assert!(
        journal.lines().any(|line| line == "PUT vm.pause"),
        "{journal}"
    );
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
    // A slip of the pen is not taken for one that is stopped already.
    for command in [["stop", "stcuk"].as_slice(), &["stop", "stcuk", "--force"]] {
        host.nkudo(command).ended(1).says("there is no VM stcuk");
    }
    assert!(!host.exists("/run/nkudo/held/stcuk"));
    // They are held, as by any stop.
    host.nkudo(&["switch"]).done();
    for id in ["kind", "deaf", "stuck"] {
        assert_eq!(host.property(id, "LoadState"), "not-found");
    }
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
