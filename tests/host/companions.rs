//! The units beside a VM's own: virtiofsd for its shares, swtpm for its TPM.

use super::guest::Then;
use super::host::{Host, unit, vm_alone};
use super::machine::Networkd;
use super::until::until;

cases![
    companions_live_as_long_as_their_vm,
    companions_are_back_after_a_crash_and_after_a_reboot_of_the_guest,
    what_a_share_needs_is_said_before_the_vm_starts,
];

const SHARE: &str = "nkudo-virtiofsd@web.srv.service";
const READ_ONLY: &str = "nkudo-virtiofsd@web.docs.service";
const TPM: &str = "nkudo-swtpm@web.service";

fn config(more: &str) -> String {
    let shares = "\n[[vm.web.share]]\ntag = \"srv\"\nsource = \"/srv/shared\"\n\
                  \n[[vm.web.share]]\ntag = \"docs\"\nsource = \"/usr/share/doc\"\nread-only = true\n";
    let devices = "tpm = true\nwatchdog = true\npvpanic = true\n";
    vm_alone("web", &format!("{devices}{more}{shares}"))
}

fn property(host: &Host, unit: &str, name: &str) -> String {
    let argv = ["systemctl", "show", "--value", "-p", name, unit];
    host.machine.ok(&argv).trim_end().to_owned()
}

#[track_caller]
fn main_pid(host: &Host, unit: &str) -> u32 {
    until(&format!("{unit} runs"), || {
        let state = property(host, unit, "ActiveState");
        match property(host, unit, "MainPID").parse() {
            Ok(pid) if pid != 0 && state == "active" => Ok(pid),
            _ => Err(format!(
                "{state}\n{}",
                host.machine.ok(&["journalctl", "-u", unit])
            )),
        }
    })
}

#[track_caller]
fn is_gone(host: &Host, unit: &str) {
    until(&format!("{unit} is gone"), || {
        match property(host, unit, "LoadState").as_str() {
            "not-found" => Ok(()),
            other => Err(format!("{other}, {}", property(host, unit, "ActiveState"))),
        }
    });
}

fn companions_live_as_long_as_their_vm() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    host.machine.write("/srv/shared/a", "a", 0o644);
    host.machine.write("/srv/secret", "s", 0o644);
    host.switch_to(&config("")).done();
    host.printed("web", 1);
    let pid = main_pid(&host, SHARE);
    main_pid(&host, READ_ONLY);
    main_pid(&host, TPM);
    // It has the source, and nothing else of the host.
    let inside = |path: &str| format!("/proc/{pid}/root{path}");
    assert_eq!(host.machine.ok(&["ls", &inside("/srv")]), "shared\n");
    assert_eq!(host.machine.ok(&["cat", &inside("/srv/shared/a")]), "a");
    assert!(!host.exists(&inside("/var/lib/nkudo")));
    let status = host.machine.ok(&["cat", &format!("/proc/{pid}/status")]);
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETGID, SETUID.
    assert!(status.contains("CapEff:\t00000000000000db\n"), "{status}");
    // Who is not root does not get to the sockets.
    assert_eq!(
        host.machine
            .ok(&["stat", "-c", "%a", "/run/nkudo/companions"]),
        "700\n"
    );
    // The guest's keys are kept.
    let state = "/var/lib/nkudo/vms/web/tpm";
    assert_eq!(host.machine.ok(&["stat", "-c", "%a", state]), "700\n");
    host.nkudo(&["switch"]).done().says("nothing to do");

    // Another source restarts the VM, and its share with it.
    host.machine.write("/srv/other/b", "b", 0o644);
    let other = config("").replace("/srv/shared", "/srv/other");
    host.switch_to(&other).done();
    let pid = main_pid(&host, SHARE);
    let found = host.machine.ok(&[
        "find",
        &format!("/proc/{pid}/root/srv"),
        "-type",
        "f",
        "-printf",
        "%f",
    ]);
    assert_eq!(found, "b");

    host.machine.ok(&["systemctl", "restart", &unit("web")]);
    main_pid(&host, SHARE);
    host.machine.ok(&["systemctl", "stop", &unit("web")]);
    host.is_gone("web");
    for unit in [SHARE, READ_ONLY, TPM] {
        is_gone(&host, unit);
    }
    host.nkudo(&["start", "web"]).done();
    main_pid(&host, SHARE);
    host.switch_to("").done();
    for unit in [SHARE, READ_ONLY, TPM] {
        is_gone(&host, unit);
    }
    host.has_nothing();
    assert!(host.exists(state), "the state of the TPM went with the VM");
    host.nkudo(&["purge", "web", "--yes"])
        .done()
        .says("removed the state of the TPM of web");
    assert!(!host.exists("/var/lib/nkudo/vms/web"));
    host.nkudo(&["purge", "web", "--yes"]).ended(1);
}

fn companions_are_back_after_a_crash_and_after_a_reboot_of_the_guest() {
    let host = Host::boot(Networkd::On);
    host.machine.write("/srv/shared/a", "a", 0o644);
    host.guest("web", Then::PowerOffWhenAsked);
    host.switch_to(&config("")).done();
    let (vmm, share) = (host.main_pid("web"), main_pid(&host, SHARE));
    host.machine.ok(&["kill", "-KILL", &vmm.to_string()]);
    host.active_again("web", vmm);
    host.printed("web", 2);
    until("virtiofsd serves anew", || {
        let now = main_pid(&host, SHARE);
        if now == share {
            Err("it has the same PID".to_owned())
        } else {
            Ok(())
        }
    });
    host.switch_to("").done();

    // A guest that resets itself is connected again each time.
    host.guest("web", Then::Reset);
    host.switch_to(&config("stop-timeout = \"1s\"\n")).done();
    until("the guest has booted three times", || {
        let journal = host.journal("web");
        let lines = journal
            .lines()
            .filter(|line| line.trim_end() == "hello from web");
        if lines.count() >= 5 {
            Ok(())
        } else {
            Err(journal)
        }
    });
    host.switch_to("").done();
    host.has_nothing();
}

fn what_a_share_needs_is_said_before_the_vm_starts() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    host.switch_to(&config("")).ended(4).says(
        "VM web: cannot start: cannot find the source of its share srv, /srv/shared: No such file",
    );
    host.machine.write("/srv/shared", "a file", 0o644);
    host.nkudo(&["switch"])
        .ended(4)
        .says("the source of its share srv, /srv/shared: it is no directory");
    host.is_gone("web");
    let toml = format!("[host]\nvirtiofsd = \"no-such-virtiofsd\"\n{}", config(""));
    host.configure(&toml);
    host.nkudo(&["render"])
        .ended(1)
        .says("VM web has shares, and there is no `no-such-virtiofsd` on PATH");
}
