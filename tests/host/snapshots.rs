//! Snapshots of VMs that run.

use serde_json::Value;

use super::guest::Then;
use super::host::{Host, LAN, vm};
use super::machine::Networkd;
use super::stand_in::snapshot::BEHAVIOUR;
use super::until::until;
use super::vmm::Vmm;

/// Also where the VMM cannot take any.
pub(crate) const REFUSED: &[super::Case] = &[
    super::Case {
        name: concat!(
            module_path!(),
            "::a_refused_snapshot_leaves_the_guest_running_and_nothing_behind"
        ),
        run: a_refused_snapshot_leaves_the_guest_running_and_nothing_behind,
    },
    super::Case {
        name: concat!(
            module_path!(),
            "::a_snapshot_that_does_not_fit_is_refused_before_the_guest_stands_still"
        ),
        run: a_snapshot_that_does_not_fit_is_refused_before_the_guest_stands_still,
    },
];

cases![
    a_snapshot_has_memory_devices_and_disks_and_the_guest_goes_on,
    a_vmm_that_dies_while_it_writes_a_snapshot_is_restarted_and_that_is_said,
    a_snapshot_killed_after_each_effect_leaves_the_guest_running_and_no_half_of_it,
];

/// Why the VMM that the cases run on cannot take snapshots, if it cannot.
pub(crate) fn cannot() -> Option<&'static str> {
    let asked = std::env::var_os("NKUDO_TEST_SNAPSHOTS").is_some();
    match Vmm::chosen() {
        Vmm::StandIn(_) => None,
        Vmm::Real(_) if asked => None,
        Vmm::Real(_) => Some(
            "cloud-hypervisor needs KVM_GET_NESTED_STATE for them, which nested KVMs may lack; \
             NKUDO_TEST_SNAPSHOTS=1 runs them nevertheless, NKUDO_TEST_VMM=stand-in on the stand-in",
        ),
    }
}

/// The same, said.
pub(crate) fn are_ignored(arguments: &libtest_mimic::Arguments) -> bool {
    let why = cannot();
    if let Some(why) = why.filter(|_| !arguments.list) {
        eprintln!("host: the cases that take snapshots are ignored: {why}");
    }
    why.is_some()
}

pub(super) const SNAPSHOTS: &str = "/var/lib/nkudo/snapshots";

/// A VM with a disk of nkudo's, one of somebody's, one that it reads, and a seed.
pub(super) fn web(more: &str) -> String {
    let keys = format!("stop-timeout = \"1s\"\n{more}");
    let disks = "[[vm.web.disk]]\nname = \"data\"\nsize = \"16M\"\n\
                 [[vm.web.disk]]\nname = \"own\"\npath = \"/srv/own.raw\"\n\
                 [[vm.web.disk]]\nname = \"media\"\npath = \"/srv/media.raw\"\nread-only = true\n\
                 [vm.web.cloud-init]\nhostname = \"web\"\n";
    [LAN, &vm("web", &keys), disks].concat()
}

pub(super) fn booted() -> Host {
    let host = Host::boot(Networkd::Off);
    host.guest("web", Then::Halt);
    let script = "for name in own media; do truncate -s 8M /srv/$name.raw; echo $name | dd of=/srv/$name.raw conv=notrunc status=none; done
                  chmod 640 /srv/own.raw";
    host.machine.ok(&["sh", "-c", script]);
    host
}

impl Host {
    pub(super) fn vmm_state(&self) -> String {
        let (status, body) = self.ask("web", "GET vm.info");
        assert_eq!(status, 200, "{body}");
        let info: Value = serde_json::from_str(&body).unwrap();
        info["state"].as_str().unwrap().to_owned()
    }

    /// What is mounted in the VMM's sandbox.
    pub(super) fn mounts(&self) -> String {
        let pid = self.main_pid("web");
        self.machine.ok(&["cat", &format!("/proc/{pid}/mountinfo")])
    }

    /// Everything that snapshots have, with modes and owners.
    pub(super) fn taken(&self) -> String {
        let found = self
            .machine
            .run(&["find", SNAPSHOTS, "-printf", "%P %m %U %s\n"]);
        String::from_utf8_lossy(&found.stdout).into_owned()
    }

    /// Has the stand-in do something else than take a snapshot.
    pub(super) fn behaves(&self, how: &str) {
        let path = "/etc/systemd/system/nkudo-vm@web.service.d/test.conf";
        let text = format!("[Service]\nEnvironment=\"{BEHAVIOUR}={how}\"\n");
        self.machine
            .ok(&["mkdir", "-p", "/etc/systemd/system/nkudo-vm@web.service.d"]);
        self.machine.write(path, text, 0o644);
        self.machine.ok(&["systemctl", "daemon-reload"]);
    }
}

fn a_snapshot_has_memory_devices_and_disks_and_the_guest_goes_on() {
    let host = booted();
    host.switch_to(&web("")).done();
    host.printed("web", 1);
    let pid = host.main_pid("web");
    host.nkudo(&["snapshot", "web", "one"])
        .done()
        .says("took snapshot one of web: 64M of memory")
        .says("the guest stood still for");
    assert_eq!(host.vmm_state(), "Running");
    assert_eq!(host.main_pid("web"), pid);
    let taken = host.taken();
    for line in [
        "web 700 0 ",
        "web/one 700 0 ",
        "web/one/manifest.json 600 0 ",
        "web/one/vmm/config.json 444 0 ",
        "web/one/vmm/memory-ranges 444 0 67108864",
        "web/one/disks/data.raw 600 0 16777216",
        "web/one/disks/data.json 600 0 ",
        "web/one/disks/own.raw 600 0 8388608",
        "web/one/seed.img 600 0 ",
    ] {
        assert!(
            taken.lines().any(|have| have.starts_with(line)),
            "{line}\n{taken}"
        );
    }
    assert!(!taken.contains("media"), "{taken}");
    let copy = format!("{SNAPSHOTS}/web/one/disks/own.raw");
    host.machine.ok(&["cmp", "/srv/own.raw", &copy]);
    // What it was written to is not the VMM's any more.
    assert!(!host.mounts().contains(" /snapshot "), "{}", host.mounts());
    assert!(!host.exists("/run/nkudo/root/web/snapshot"));
    assert!(!host.exists("/run/nkudo/paused/web"));

    host.nkudo(&["snapshot", "web", "one"])
        .ended(1)
        .says("there is a snapshot one of it already");
    host.nkudo(&["snapshot", "web", "../two"]).ended(2);
    host.nkudo(&["snapshot", "other", "one"])
        .ended(1)
        .says("VM other does not run");
    // One that is paused stays so.
    host.nkudo(&["pause", "web"]).done();
    host.nkudo(&["snapshot", "web", "two"])
        .done()
        .says("it was paused before, and still is");
    assert_eq!(host.vmm_state(), "Paused");
    host.nkudo(&["resume", "web"]).done();

    let listed = host.nkudo(&["snapshots"]).done().stdout;
    assert_eq!(listed.lines().count(), 3, "{listed}");
    let json = host.nkudo(&["snapshots", "web", "--json"]).done().stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["snapshots"][0]["snapshot"], "one");
    assert_eq!(json["snapshots"][0]["memory"], 64 << 20);
    let status = host.nkudo(&["status", "web"]).done().stdout;
    assert!(status.contains("snapshot    two"), "{status}");

    host.nkudo(&["purge", "web", "--snapshot", "one", "--yes"])
        .done()
        .says("removed snapshot one of web");
    assert!(!host.taken().contains("web/one"), "{}", host.taken());
    host.nkudo(&["purge", "web", "--yes"])
        .ended(1)
        .says("VM web is declared");
    host.nkudo(&["switch"]).done().says("nothing to do");
    host.switch_to(LAN).done();
    host.nkudo(&["purge", "web", "--yes"])
        .done()
        .says("removed snapshot two of web");
    assert_eq!(host.machine.ok(&["ls", SNAPSHOTS]), "");
}

fn a_refused_snapshot_leaves_the_guest_running_and_nothing_behind() {
    let host = booted();
    host.behaves("refuses");
    host.switch_to(&web("")).done();
    let pid = host.main_pid("web");
    let ran = host.nkudo(&["snapshot", "web", "one"]);
    if cannot().is_none() && !matches!(Vmm::chosen(), Vmm::StandIn(_)) {
        ran.done();
        return;
    }
    ran.ended(1)
        .says("cannot take a snapshot of web: the guest goes on, and there is no snapshot")
        .says("GetNestedState");
    assert_eq!(host.vmm_state(), "Running");
    assert_eq!(host.main_pid("web"), pid);
    assert_eq!(host.machine.ok(&["ls", "-A", SNAPSHOTS]), "");
    assert!(!host.mounts().contains(" /snapshot "), "{}", host.mounts());
    assert!(!host.exists("/run/nkudo/paused/web"));
}

fn a_snapshot_that_does_not_fit_is_refused_before_the_guest_stands_still() {
    let host = booted();
    let script = "truncate -s 48M /srv/small.img; mkfs.ext4 -q /srv/small.img; mkdir /srv/small";
    host.machine.ok(&["sh", "-c", script]);
    host.machine.mount_loop("/srv/small.img", "/srv/small");
    let toml = format!("[host]\nstate-dir = \"/srv/small\"\n{}", web(""));
    host.switch_to(&toml).done();
    host.nkudo(&["--state-dir", "/srv/small", "snapshot", "web", "one"])
        .ended(1)
        .says("of memory and what its disks hold; /srv/small/snapshots/web has");
    assert_eq!(host.vmm_state(), "Running");
    let events = host.machine.ok(&[
        "sh",
        "-c",
        &format!(
            "cat /proc/{}/root/tmp/cloud-hypervisor.events",
            host.main_pid("web")
        ),
    ]);
    assert!(!events.contains("paus"), "{events}");
    assert_eq!(host.machine.ok(&["ls", "-A", "/srv/small/snapshots"]), "");
}

fn a_vmm_that_dies_while_it_writes_a_snapshot_is_restarted_and_that_is_said() {
    let host = booted();
    host.behaves("crashes");
    host.switch_to(&web("")).done();
    let pid = host.main_pid("web");
    host.nkudo(&["snapshot", "web", "one"])
        .ended(1)
        .says("its VMM ended, and there is no snapshot");
    host.active_again("web", pid);
    host.printed("web", 2);
    assert!(!host.taken().contains("one"), "{}", host.taken());
    assert!(!host.exists("/run/nkudo/paused/web"));
}

/// The guest goes on by itself, and the next snapshot is as any.
fn a_snapshot_killed_after_each_effect_leaves_the_guest_running_and_no_half_of_it() {
    let host = booted();
    host.switch_to(&web("")).done();
    let mut kills = 0;
    for effect in 1.. {
        let kill = format!("NKUDO_KILL_AFTER={effect}");
        let argv = ["env", &kill, "nkudo", "snapshot", "web", "one"];
        let killed = super::host::Ran::of(&host.machine.run(&argv));
        until("the guest goes on", || match host.vmm_state().as_str() {
            "Running" => Ok(()),
            other => Err(format!("{other}, killed after effect {effect}\n{killed}")),
        });
        let whole = host.exists(&format!("{SNAPSHOTS}/web/one"));
        if killed.code == Some(0) {
            assert!(whole);
            break;
        }
        kills += 1;
        if whole {
            host.nkudo(&["purge", "web", "--snapshot", "one", "--yes"])
                .done();
        }
    }
    assert!(kills >= 10, "only {kills} snapshots were killed");
    let left = host.taken();
    assert!(!left.contains(".nkudo-"), "{left}");
    assert_eq!(
        host.machine.ok(&["ls", "-A", &format!("{SNAPSHOTS}/web")]),
        "one\n"
    );
    assert!(!host.mounts().contains(" /snapshot "), "{}", host.mounts());
    host.printed("web", 1);
}
