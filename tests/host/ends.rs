//! Why VMs end, where it takes more than a guest's own doing: what the journal and `nkudo status` say of it.

use super::guest::Then;
use super::host::{Host, unit, vm_alone};
use super::machine::Networkd;
use super::until::until;

cases![
    a_guest_that_panics_and_ends_is_a_failure,
    a_guest_that_panics_and_runs_on_is_seen,
    a_vmm_that_makes_a_forbidden_system_call_is_told_from_one_that_is_killed,
    a_vmm_that_was_killed_for_memory_is_told_from_one_that_is_killed,
];

/// Waits until that is why it ended last, for the journal and for a status.
#[track_caller]
fn ended(host: &Host, why: &str, message: &str) {
    until("why it ended is known", || {
        let exits = host.exits("web");
        if exits.last().is_some_and(|last| last == why) {
            Ok(())
        } else {
            Err(format!("{exits:?}\n{}", host.journal("web")))
        }
    });
    let shown = host.nkudo(&["status", "web"]).done();
    assert!(
        shown.stdout.contains(message) && shown.stdout.contains(&format!("({why})")),
        "{shown}"
    );
    assert_eq!(host.status(&["web"])["last-exit"]["why"], why);
}

fn a_guest_that_panics_and_ends_is_a_failure() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PanicAndPowerOff);
    // The first end is either before the switch looks again, or after.
    host.switch_to(&vm_alone("web", "pvpanic = true\nrestart = \"no\""));
    ended(&host, "panicked", "the guest panicked");
    let failed = host.machine.run(&["systemctl", "is-failed", &unit("web")]);
    assert!(failed.status.success(), "{failed:?}");
    assert_eq!(host.status(&[])["state"], "failed");
}

fn a_guest_that_panics_and_runs_on_is_seen() {
    let host = Host::with_web(Then::PanicAndHalt, "pvpanic = true\nstop-timeout = \"1s\"");
    until(
        "the panic is seen",
        || match host.status(&["web"])["guest"].as_str() {
            Some("panicked") => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
    let shown = host.nkudo(&["status", "web"]).done();
    assert!(
        shown.stdout.contains("its guest panicked, and runs on"),
        "{shown}"
    );
    let doctor = host.nkudo(&["doctor", "web"]);
    assert!(doctor.stdout.contains("panicked"), "{doctor}");
    // The remedy of the runbook.
    host.guest("web", Then::PowerOffWhenAsked);
    host.nkudo(&["restart", "web"]).done();
    assert!(host.status(&["web"])["guest"].is_null());
}

fn a_vmm_that_makes_a_forbidden_system_call_is_told_from_one_that_is_killed() {
    let host = Host::boot(Networkd::On);
    // Every VMM answers on its socket; the unit's steps only ask.
    let drop_in =
        "[Service]\nSystemCallFilter=~accept accept4\nSystemCallErrorNumber=kill\nRestart=no\n";
    let path = "/etc/systemd/system/nkudo-vm@web.service.d/filter.conf";
    host.machine.write(path, drop_in, 0o644);
    host.guest("web", Then::PowerOffWhenAsked);
    host.switch_to(&vm_alone("web", ""));
    ended(
        &host,
        "seccomp",
        "it made a system call that it may not make",
    );
    host.machine.ok(&["rm", path]);
    host.machine.ok(&["systemctl", "daemon-reload"]);
    host.nkudo(&["start", "web"]).done();
    let pid = host.main_pid("web");
    host.machine.ok(&["kill", "-KILL", &pid.to_string()]);
    ended(&host, "vmm-killed", "the VMM was killed by SIGKILL");
}

/// As systemd-oomd does it (its oomd_cgroup_kill): marks on the control group around a SIGKILL to each process in it. The kernel's
/// own killer needs the memory controller, which the machines of the tests have not.
fn a_vmm_that_was_killed_for_memory_is_told_from_one_that_is_killed() {
    let host = Host::with_web(Then::PowerOffWhenAsked, "");
    let pid = host.main_pid("web");
    let kill = format!(
        "import os\n\
         group = '/sys/fs/cgroup/nkudo.slice/{}'\n\
         os.setxattr(group, 'user.oomd_ooms', b'1')\n\
         for pid in open(group + '/cgroup.procs').read().split(): os.kill(int(pid), 9)\n\
         os.setxattr(group, 'user.oomd_kill', b'1')\n",
        unit("web")
    );
    host.machine.ok(&["python3", "-c", &kill]);
    ended(&host, "out-of-memory", "the VMM ran out of memory");
    // It is a failure, and tried again.
    host.active_again("web", pid);
}
