//! The unit of a VM that starts from a snapshot.
//!
//! It is the VM's unit but for what must happen once only: a second restore of the same memory would run
//! against disks that have changed since. systemd does not restart it by itself, and the step after the start lets the
//! guest go on only if it can take the record of the restore. After that nkudo writes the VM's own text over it.

use std::time::Duration;

use camino::Utf8PathBuf;

use super::setting::{Bind, Exec, Privilege, Setting};
use super::{Unit, runtime_directory};
use crate::booted::Booted;
use crate::host::Size;
use crate::hypervisor::restoring_argv;
use crate::snapshot::NicId;

/// What a VM is put back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restoration {
    /// What the VMM wrote.
    pub source: Utf8PathBuf,
    pub nics: Vec<NicId>,
    /// What says that the guest has not gone on yet.
    pub record: Utf8PathBuf,
    /// The memory that the VM had booted with.
    pub boot_memory: Size,
    /// How long it may take to read all of it, on top of the VM's `start-timeout`.
    pub longer: Duration,
    /// The seed as it was.
    pub seed: Option<Utf8PathBuf>,
}

pub fn restoring(booted: &Booted, restoration: &Restoration) -> Unit {
    let Booted {
        id, programs, vm, ..
    } = booted;
    let Restoration {
        source,
        nics,
        record,
        longer,
        ..
    } = restoration;
    let mut unit = booted.to_unit();
    for (_, key, setting) in &mut unit.settings {
        match (*key, setting) {
            ("ExecStart", Setting::Exec(exec)) => {
                let runtime_directory = runtime_directory(id);
                exec.argv = vec![programs.hypervisor.to_string()];
                exec.argv
                    .extend(restoring_argv(vm, source, nics, &runtime_directory));
            }
            // A guest that says itself when it is ready said so long ago.
            ("ExecStartPost", Setting::Exec(exec)) if is_step(exec, "ready") => {
                let nkudo = programs.nkudo.to_string();
                let id = id.to_string();
                let record = format!("--record={record}");
                *exec = Exec {
                    argv: vec![nkudo, "unit".into(), "restored".into(), id, record],
                    privilege: Privilege::Full,
                };
            }
            ("Restart", Setting::Text(restart)) => "no".clone_into(restart),
            ("TimeoutStartSec", Setting::Span(span)) => *span += *longer,
            ("BindReadOnlyPaths", Setting::Binds(binds)) => {
                binds.push(Bind::same(source.to_string()));
            }
            _ => {}
        }
    }
    unit
}

/// Whether a command is this step of nkudo's.
fn is_step(exec: &Exec, verb: &str) -> bool {
    exec.argv.get(2).is_some_and(|word| word == verb)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, load};
    use crate::hypervisor::Version;
    use crate::unit::Programs;

    #[test]
    fn it_is_the_vms_unit_but_for_what_happens_once() {
        let text = "[network.lan]\n[vm.web]\nkernel = \"/srv/web\"\nvcpus = 2\nstart-timeout = \"1min\"\n\
                    [[vm.web.nic]]\nnetwork = \"lan\"\nqueues = 2\n[[vm.web.nic]]\nnetwork = \"lan\"\n";
        let source = Source {
            name: "nkudo.toml".to_owned(),
            text: text.to_owned(),
        };
        let host = load(&[source]).host.unwrap();
        let id = "web".parse().unwrap();
        let programs = Programs {
            hypervisor: "/usr/bin/cloud-hypervisor".into(),
            hypervisor_version: Version::MINIMUM,
            nkudo: "/usr/bin/nkudo".into(),
            virtiofsd: None,
            swtpm: None,
        };
        let booted = Booted::new(&id, &host.vms[&id], 1, "digest", &programs);
        let nic = |name: &str| NicId::try_from(name.to_owned()).unwrap();
        let restoration = Restoration {
            source: "/var/lib/nkudo/snapshots/web/one/vmm".into(),
            nics: vec![nic("_net1"), nic("_net2")],
            record: "/var/lib/nkudo/snapshots/web/restoring.json".into(),
            boot_memory: host.vms[&id].memory.size,
            longer: Duration::from_secs(30),
            seed: None,
        };
        let (before, after) = (
            booted.to_unit().text(),
            restoring(&booted, &restoration).text(),
        );
        let new: Vec<&str> = after
            .lines()
            .filter(|line| !before.lines().any(|old| old == *line))
            .collect();
        assert_eq!(
            new,
            [
                "ExecStart=:/usr/bin/cloud-hypervisor --api-socket path=/run/nkudo/vms/web/api.sock \
                 --log-file /tmp/cloud-hypervisor.log --event-monitor path=/tmp/cloud-hypervisor.events \
                 --restore source_url=file:///var/lib/nkudo/snapshots/web/one/vmm,net_fds=[_net1@[3,4],_net2@[5]]",
                "ExecStartPost=+:/usr/bin/nkudo unit restored web \
                 --record=/var/lib/nkudo/snapshots/web/restoring.json",
                "Restart=no",
                "TimeoutStartSec=105s",
                "BindReadOnlyPaths=-/usr -/lib -/lib64 -/etc/ld.so.cache -/nix/store -/srv/web \
                 -/var/lib/nkudo/snapshots/web/one/vmm",
            ]
        );
    }
}
