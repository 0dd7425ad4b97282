//! What files say of units that run, so that systemd need not be asked for each of them.
//!
//! A host has hundreds of VMs that simply run, and a call for each costs more than all else of a
//! status together. Where the files leave a doubt, there is no answer here, and systemd is asked.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use camino::{Utf8Path, Utf8PathBuf};

use crate::files;
use crate::host::VmId;
use crate::unit::{slice_name, vm_unit_name};

/// Where an administrator's drop-ins are (systemd.unit(5)). Those of the distribution in /usr/lib are
/// nobody's change.
const DROP_INS: [&str; 5] = [
    "/etc/systemd/system",
    "/etc/systemd/system.control",
    "/run/systemd/system",
    "/run/systemd/system.control",
    "/usr/local/lib/systemd/system",
];
/// Whether a drop-in is in one of these places.
pub(super) fn is_administrators(path: &str) -> bool {
    let path = Utf8Path::new(path);
    DROP_INS.iter().any(|root| path.starts_with(root))
}

/// Drop-ins of all VMs.
const SHARED: [&str; 3] = ["nkudo-vm@.service.d", "nkudo-.service.d", "service.d"];
/// Where systemd keeps each unit's invocation, as a link that is made when the unit starts.
const INVOCATIONS: &str = "/run/systemd/units";
/// Where systemd keeps the text of transient units.
const TRANSIENT: &str = "/run/systemd/transient";
const CGROUPS: &str = "/sys/fs/cgroup";

/// What is known of a unit without a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) main_pid: Option<u32>,
    /// Microseconds since 1970.
    pub(super) since: Option<u64>,
    pub(super) restarts: Option<u32>,
}

/// What a VM uses, by its control group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes; `None` where the memory controller is not on.
    pub memory: Option<u64>,
    /// Microseconds of CPU time since its last start.
    pub cpu: Option<u64>,
}

/// What is the same for all units.
#[derive(Debug)]
pub struct Running {
    /// The control group of all VMs.
    slice: Utf8PathBuf,
    /// The names of directories with drop-ins.
    drop_ins: Vec<String>,
}

impl Running {
    pub fn look() -> Self {
        let drop_ins = DROP_INS.iter().flat_map(|root| {
            let names = files::names(Utf8Path::new(root)).unwrap_or_default();
            names
                .into_iter()
                .filter(|name| name.ends_with(".service.d"))
        });
        Self {
            slice: slice(),
            drop_ins: drop_ins.collect(),
        }
    }

    pub(super) fn known(&self, id: &VmId) -> Known {
        let unit = vm_unit_name(id);
        let changed = self.may_have_drop_ins(id);
        let started = modified(&Utf8Path::new(INVOCATIONS).join(format!("invocation:{unit}")));
        let created = modified(&Utf8Path::new(TRANSIENT).join(&unit));
        // systemd waits a second at least before it starts a unit again (RestartSec=), unless a
        // drop-in says otherwise.
        let restarts = match (created, started) {
            (Some(created), Some(started)) if !changed && started.abs_diff(created) < 1_000_000 => {
                Some(0)
            }
            _ => None,
        };
        Known {
            main_pid: self.main_pid(id),
            since: started,
            restarts,
        }
    }

    /// Whether there is a directory of drop-ins for the unit; systemd knows which of its files count.
    pub(super) fn may_have_drop_ins(&self, id: &VmId) -> bool {
        let own = format!("{}.d", vm_unit_name(id));
        self.drop_ins
            .iter()
            .any(|name| *name == own || SHARED.contains(&name.as_str()))
    }

    /// The one process of a unit that runs; with several it is for systemd to say which is the VMM.
    fn main_pid(&self, id: &VmId) -> Option<u32> {
        let processes = self.read(id, "cgroup.procs")?;
        let mut processes = processes.lines();
        let only = processes.next()?.parse().ok()?;
        (processes.next().is_none() && only != 0).then_some(only)
    }

    pub fn usage(&self, id: &VmId) -> Usage {
        let memory = self.read(id, "memory.current");
        let cpu = self.read(id, "cpu.stat");
        Usage {
            memory: memory.and_then(|text| text.trim().parse().ok()),
            cpu: cpu.and_then(|text| {
                let line = text
                    .lines()
                    .find_map(|line| line.strip_prefix("usage_usec "));
                line?.parse().ok()
            }),
        }
    }

    fn read(&self, id: &VmId, file: &str) -> Option<String> {
        let path = self.slice.join(vm_unit_name(id)).join(file);
        fs::read_to_string(path).ok()
    }
}

/// The slice's control group. PID 1 is in `init.scope` of where systemd's own begin, which in a
/// container need not be the root.
fn slice() -> Utf8PathBuf {
    let own = fs::read_to_string("/proc/1/cgroup").unwrap_or_default();
    let root = own
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map_or("", |path| path.trim_end_matches("/init.scope"));
    Utf8Path::new(CGROUPS)
        .join(root.trim_start_matches('/'))
        .join(slice_name())
}

/// When a file or a link itself was changed last, in microseconds since 1970.
fn modified(path: &Utf8Path) -> Option<u64> {
    let metadata = fs::symlink_metadata(path).ok()?;
    let seconds = u64::try_from(metadata.mtime()).ok()?;
    let micros = u64::try_from(metadata.mtime_nsec() / 1000).ok()?;
    Some(seconds * 1_000_000 + micros)
}
