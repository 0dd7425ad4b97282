//! A closer look at VMs, for `nkudo status`: what they use, and what their VMMs say.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::time::Duration;

use camino::Utf8Path;
use rustix::fs::OFlags;

use super::storage::made_disk;
use super::{Observed, Running, UnitState, Usage};
use crate::files;
use crate::host::{Disk, Size, Vm, VmId};
use crate::hypervisor::events::{Events, Guest};
use crate::journal::{self, LastExit};
use crate::link::Netlink;
use crate::network_status::Leases;
use crate::unit::RUNTIME_ROOT;
use crate::vmm::{VmState, Vmm};

/// How long a VMM may take to say how it is.
const LIMIT: Duration = Duration::from_secs(1);
/// How much of the end of the VMM's events is read.
const TAIL: u64 = 16 << 10;
/// The VMM's events, as it sees them.
const EVENTS: &str = "tmp/cloud-hypervisor.events";

/// What only a status asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closer {
    pub usage: BTreeMap<VmId, Usage>,
    /// The addresses that the host has spoken to of late, by Ethernet address.
    pub neighbours: BTreeMap<[u8; 6], BTreeSet<IpAddr>>,
    /// Empty where nobody asked: see `observe::leases`.
    pub leases: Leases,
    pub exits: BTreeMap<VmId, LastExit>,
    pub vmms: BTreeMap<VmId, VmmHealth>,
    pub guests: BTreeMap<VmId, Guest>,
    /// Of the VM that was asked for, by path.
    pub disks: BTreeMap<String, DiskUse>,
    /// The last lines of the VM that was asked for, where it does not run.
    pub lines: Vec<String>,
}

/// How a VMM answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VmmHealth {
    Is(VmState),
    /// It does not, for this reason.
    Silent(String),
}

/// A disk's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskUse {
    /// Bytes that the guest sees; of a block device 0.
    pub size: u64,
    /// Bytes that it takes on its filesystem.
    pub allocated: u64,
}

/// Where a VM that `nkudo pause` paused has an empty file of its name. It is a hint whom to ask: only
/// the VMM knows.
pub fn paused_directory() -> camino::Utf8PathBuf {
    Utf8Path::new(RUNTIME_ROOT).join("paused")
}

/// Looks at one VM from all sides, or at all of them where that costs nothing of note.
pub async fn closer(
    observed: &Observed,
    netlink: &Netlink,
    declared: &BTreeMap<VmId, Vm>,
    only: Option<&VmId>,
) -> anyhow::Result<Closer> {
    let mut closer = Closer {
        neighbours: netlink.neighbours().await?,
        ..Closer::default()
    };
    let running = Running::look();
    let is_up = |id: &VmId| is_up(observed, id);
    for id in observed.units.keys() {
        closer.usage.insert(id.clone(), running.usage(id));
    }
    let wanted = |id: &&VmId| only.is_none_or(|only| only == *id);
    let down = declared.keys().filter(wanted).any(|id| !is_up(id));
    if down || only.is_some() {
        closer.exits = journal::last_exits(only).await?;
    }
    let paused = files::names(&paused_directory())?;
    let paused = paused.iter().filter_map(|name| name.parse::<VmId>().ok());
    let asked: BTreeSet<VmId> = paused
        .filter(|_| only.is_none())
        .chain(only.cloned())
        .filter(|id| is_up(id))
        .collect();
    for id in asked {
        let health = health(&id).await;
        closer.vmms.insert(id, health);
    }
    let Some(id) = only else { return Ok(closer) };
    if let Some(pid) = observed.units.get(id).and_then(|unit| unit.facts.as_ref()) {
        closer.guests.insert(id.clone(), guest(pid.main_pid));
    }
    if let Some(vm) = declared.get(id) {
        for disk in &vm.disks {
            if let Ok(used) = disk_use(disk) {
                closer.disks.insert(disk.path.to_string(), used);
            }
        }
    }
    if !is_up(id) {
        closer.lines = journal::last_lines(id, 12, None).await?;
    }
    Ok(closer)
}

/// What it takes to speak to the guest of a VM: whether its vCPUs run, and the addresses that the host knows.
pub async fn within_reach(
    observed: &Observed,
    netlink: &Netlink,
    id: &VmId,
) -> anyhow::Result<Closer> {
    let mut closer = Closer {
        neighbours: netlink.neighbours().await?,
        ..Closer::default()
    };
    if is_up(observed, id) {
        closer.vmms.insert(id.clone(), health(id).await);
    }
    Ok(closer)
}

fn is_up(observed: &Observed, id: &VmId) -> bool {
    let unit = observed.units.get(id);
    unit.is_some_and(|unit| unit.state == UnitState::Active)
}

fn disk_use(disk: &Disk) -> std::io::Result<DiskUse> {
    let path = disk.path.as_path();
    let file = path.metadata()?;
    // Opening anything but a file may wait for somebody.
    let size = if file.is_file() {
        made_disk(path, disk.format)?.size.map(Size::bytes)
    } else {
        None
    };
    Ok(DiskUse {
        size: size.unwrap_or(file.len()),
        allocated: file.blocks() * 512,
    })
}

async fn health(id: &VmId) -> VmmHealth {
    let vmm = Vmm::of(id);
    match tokio::time::timeout(LIMIT, vmm.state()).await {
        Ok(Ok(state)) => VmmHealth::Is(state),
        Ok(Err(err)) => VmmHealth::Silent(err.to_string()),
        Err(_) => VmmHealth::Silent(format!("it did not answer within {} s", LIMIT.as_secs())),
    }
}

/// What the guest of a VMM that runs said of itself.
fn guest(main_pid: u32) -> Guest {
    if main_pid == 0 {
        return Guest::Fine;
    }
    let path = format!("/proc/{main_pid}/root/{EVENTS}");
    // A VMM that was taken over can put there what it likes: a link into the host, a pipe.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let file = std::fs::File::options()
        .read(true)
        .custom_flags(flags.cast_signed())
        .open(path);
    let read = || -> std::io::Result<String> {
        use std::io::{Seek as _, SeekFrom};
        let mut file = file?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(String::new());
        }
        file.seek(SeekFrom::Start(metadata.len().saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().map_or(Guest::Fine, |text| Events::read(&text).guest)
}
