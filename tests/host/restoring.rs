//! VMs that are put back to a snapshot.

use super::guest::Then;
use super::host::Host;
use super::snapshots::{SNAPSHOTS, booted, web};
use super::until::until;

cases![
    a_restored_vm_goes_on_where_it_was_and_boots_after_a_crash,
    a_restore_is_refused_where_the_vm_is_not_what_it_was,
    a_restore_that_fails_leaves_the_vm_as_it_was,
    the_memory_of_a_snapshot_goes_on_once_whoever_starts_its_unit,
    a_restore_killed_on_its_way_is_done_or_undone_by_the_next_switch,
];

const DATA: &str = "/var/lib/nkudo/vms/web/data.raw";
const OWN: &str = "/srv/own.raw";

impl Host {
    /// Writes to both disks, as the guest would.
    fn write_to_disks(&self, word: &str) {
        for disk in [DATA, OWN] {
            let script = format!("printf '%-16s' '{word}' | dd of={disk} conv=notrunc status=none");
            self.machine.ok(&["sh", "-c", &script]);
        }
    }

    /// What both hold.
    #[track_caller]
    fn on_disks(&self) -> String {
        let [data, own] = [DATA, OWN].map(|disk| self.machine.ok(&["head", "-c", "16", disk]));
        assert_eq!(data, own, "one is another's");
        data.trim_end().to_owned()
    }

    /// Checks that the VM's unit is one like any other.
    #[track_caller]
    fn is_as_any(&self) {
        assert_eq!(self.vmm_state(), "Running");
        let properties = "ActiveState,Restart,NeedDaemonReload,ExecStart,ExecStartPost";
        let unit = super::host::unit("web");
        let shown = self
            .machine
            .ok(&["systemctl", "show", "-p", properties, &unit]);
        for line in [
            "ActiveState=active",
            "Restart=on-failure",
            "NeedDaemonReload=no",
        ] {
            assert!(shown.lines().any(|have| have == line), "{line}\n{shown}");
        }
        let is_any = shown.contains("--kernel") && shown.contains(" unit ready ");
        assert!(is_any && !shown.contains("restore"), "{shown}");
        let taken = self.taken();
        assert!(!taken.contains("restor"), "{taken}");
        let left = self
            .machine
            .run(&["find", "/srv", "/var/lib/nkudo", "-name", ".restore-*"]);
        assert_eq!(String::from_utf8_lossy(&left.stdout), "");
    }
}

fn a_restored_vm_goes_on_where_it_was_and_boots_after_a_crash() {
    let host = booted();
    host.guest("web", Then::PowerOffWhenAsked);
    host.switch_to(&web("")).done();
    host.printed("web", 1);
    host.write_to_disks("then");
    host.nkudo(&["snapshot", "web", "one"]).done();
    host.write_to_disks("later");
    let pid = host.main_pid("web");
    host.nkudo(&["restore", "web", "one"])
        .ended(1)
        .says("there is no terminal to ask on");
    host.nkudo(&["restore", "web", "none", "--yes"])
        .ended(1)
        .says("has no snapshot none");
    assert_eq!(
        (host.main_pid("web"), host.on_disks().as_str()),
        (pid, "later")
    );

    host.nkudo(&["restore", "web", "one", "--yes"])
        .done()
        .says("its memory is lost, and its disks as they are now are kept aside")
        .says("web is as it was when snapshot one was taken")
        .says("a disk as it was before is kept as /srv/own.raw.old-1")
        .says("a disk as it was before is kept as /var/lib/nkudo/vms/web/data.old-1.raw");
    assert_ne!(host.main_pid("web"), pid);
    host.is_as_any();
    assert_eq!(host.on_disks(), "then");
    for old in [
        "/srv/own.raw.old-1",
        "/var/lib/nkudo/vms/web/data.old-1.raw",
    ] {
        assert_eq!(host.machine.ok(&["head", "-c", "5", old]), "later");
    }
    assert!(host.exists("/var/lib/nkudo/vms/web/data.old-1.json"));
    host.tap_is_in("web", "nk-lan");
    host.nkudo(&["switch"]).done().says("nothing to do");
    // It did not boot.
    host.printed("web", 1);
    // And does not go back to the snapshot by itself.
    host.write_to_disks("now");
    let pid = host.main_pid("web");
    host.machine.ok(&["kill", "-KILL", &pid.to_string()]);
    host.active_again("web", pid);
    host.printed("web", 2);
    assert_eq!(host.on_disks(), "now");
    host.nkudo(&["switch"]).done().says("nothing to do");
    // A restored VM can be taken again.
    host.nkudo(&["snapshot", "web", "two"]).done();
    // Of one that was stopped, and with what can change while it runs.
    host.nkudo(&["stop", "web"]).done();
    host.switch_to(&web("limits = { cpu-weight = 200 }")).done();
    host.nkudo(&["restore", "web", "one", "--yes"]).done();
    host.is_as_any();
    assert_eq!(host.on_disks(), "then");
    assert_eq!(host.property("web", "CPUWeight"), "200");
    host.printed("web", 2);
    host.nkudo(&["switch"]).done().says("nothing to do");
    host.nkudo(&["stop", "web"]).done();
    host.is_gone("web");
    assert_eq!(host.machine.ok(&["stat", "-c", "%a", OWN]), "640\n");
}

fn a_restore_is_refused_where_the_vm_is_not_what_it_was() {
    let host = booted();
    host.switch_to(&web("")).done();
    host.write_to_disks("then");
    host.nkudo(&["snapshot", "web", "one"]).done();
    host.write_to_disks("later");
    let pid = host.main_pid("web");
    let refused = |why: &str| {
        host.nkudo(&["restore", "web", "one", "--yes"])
            .ended(1)
            .says("VM web cannot be put back to snapshot one; nothing was changed")
            .says(why);
        assert_eq!(
            (host.main_pid("web"), host.on_disks().as_str()),
            (pid, "later")
        );
    };
    host.switch_to(&web("memory = \"128M\"\non-change = \"defer\""))
        .done();
    refused("memory.size: it was 64M, and 128M is declared");
    host.switch_to(&web("")).done();
    let plugged = "[[vm.web.disk]]\nname = \"more\"\nsize = \"8M\"\n";
    host.switch_to(&web("").replace(
        "[vm.web.cloud-init]",
        &format!("{plugged}[vm.web.cloud-init]"),
    ))
    .done();
    refused("disk.more.path: it was none");
    host.switch_to(&web(""));
    let change = |script: &str| host.machine.ok(&["sh", "-c", script]);
    change("touch /srv/media.raw");
    refused("/srv/media.raw was changed since");
    let manifest = format!("{SNAPSHOTS}/web/one/manifest.json");
    change(&format!(
        "sed -i 's/\"major\": 53/\"major\": 52/' {manifest}"
    ));
    refused("the hypervisor: a snapshot of 52.0 is read by 52.0 alone");
    change(&format!(
        "truncate -s 100 {SNAPSHOTS}/web/one/vmm/memory-ranges"
    ));
    refused("memory-ranges has 100 bytes instead of 67108864");
}

fn a_restore_that_fails_leaves_the_vm_as_it_was() {
    let host = booted();
    host.guest("web", Then::PowerOffWhenAsked);
    host.switch_to(&web("")).done();
    host.write_to_disks("then");
    host.nkudo(&["snapshot", "web", "one"]).done();
    host.write_to_disks("later");
    let state = format!("{SNAPSHOTS}/web/one/vmm/state.json");
    let script = format!("printf '[' | dd of={state} conv=notrunc status=none");
    host.machine.ok(&["sh", "-c", &script]);
    host.nkudo(&["restore", "web", "one", "--yes"])
        .ended(4)
        .says("web could not be put back to snapshot one")
        .says("web boots with its disks as they were before");
    host.is_as_any();
    host.printed("web", 2);
    assert_eq!(host.on_disks(), "later");
    assert!(!host.exists("/srv/own.raw.old-1"));
    host.nkudo(&["switch"]).done().says("nothing to do");
}

fn the_memory_of_a_snapshot_goes_on_once_whoever_starts_its_unit() {
    let host = booted();
    host.guest("web", Then::PowerOffWhenAsked);
    host.switch_to(&web("")).done();
    host.write_to_disks("then");
    host.nkudo(&["snapshot", "web", "one"]).done();
    // Killed once its unit starts: the guest goes on, and nobody has made the unit one like any other.
    let is_restored_one = |host: &Host| {
        let script = "grep -q -- --record= /run/systemd/transient/nkudo-vm@web.service";
        host.machine.run(&["sh", "-c", script]).status.success()
    };
    for effect in 20.. {
        let kill = format!("NKUDO_KILL_AFTER={effect}");
        let argv = ["env", &kill, "nkudo", "restore", "web", "one", "--yes"];
        let killed = super::host::Ran::of(&host.machine.run(&argv));
        assert_ne!(killed.code, Some(0), "no kill fell after the start");
        if is_restored_one(&host) {
            break;
        }
        host.nkudo(&["switch"]).done();
    }
    let went_on = format!("{SNAPSHOTS}/web/restored.json");
    until("the guest goes on", || {
        if host.exists(&went_on) && host.property("web", "ActiveState") == "active" {
            return Ok(());
        }
        Err(host.journal("web"))
    });
    assert_eq!(host.vmm_state(), "Running");
    assert_eq!(host.property("web", "Restart"), "no");
    host.write_to_disks("now");
    let again = ["systemctl", "restart", "nkudo-vm@web.service"];
    assert!(!host.machine.run(&again).status.success());
    let journal = host.journal("web");
    assert!(
        journal.contains("restoring.json cannot be taken"),
        "{journal}"
    );
    assert_ne!(host.property("web", "ActiveState"), "active");
    assert_eq!(host.on_disks(), "now");
    host.nkudo(&["switch"]).done();
    host.is_as_any();
    assert_eq!(host.on_disks(), "now");
}

fn a_restore_killed_on_its_way_is_done_or_undone_by_the_next_switch() {
    let host = booted();
    host.guest("web", Then::PowerOffWhenAsked);
    host.switch_to(&web("")).done();
    host.write_to_disks("then");
    host.nkudo(&["snapshot", "web", "one"]).done();
    let (mut undone, mut done) = (0, 0);
    // Every second one: it takes a start and a stop each time.
    for effect in (1..).step_by(2) {
        host.write_to_disks("later");
        let before = host.main_pid("web");
        let kill = format!("NKUDO_KILL_AFTER={effect}");
        let argv = ["env", &kill, "nkudo", "restore", "web", "one", "--yes"];
        let killed = super::host::Ran::of(&host.machine.run(&argv));
        if host.exists(&format!("{SNAPSHOTS}/web/restoring.json")) {
            host.nkudo(&["purge", "web", "--snapshot", "one", "--yes"])
                .ended(1)
                .says("a restore of web was interrupted");
        }
        let next = host.nkudo(&["switch"]);
        let told = format!("killed after effect {effect}\n{killed}\n--- the next\n{next}");
        assert_eq!(next.code, Some(0), "{told}");
        host.is_as_any();
        match host.on_disks().as_str() {
            "later" => undone += 1,
            "then" => {
                done += 1;
                assert_ne!(host.main_pid("web"), before, "{told}");
            }
            other => panic!("{other}: {told}"),
        }
        if effect % 8 == 1 {
            host.nkudo(&["switch"]).done().says("nothing to do");
        }
        host.machine.ok(&[
            "sh",
            "-c",
            "rm -f /srv/*.old-* /var/lib/nkudo/vms/web/*.old-*",
        ]);
        if killed.code == Some(0) {
            break;
        }
    }
    assert!(
        undone >= 6 && done >= 2,
        "{undone} were undone, {done} done"
    );
}
