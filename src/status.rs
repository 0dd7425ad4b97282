//! The state of a host's VMs, in one vocabulary, out of what was declared and what was observed.

#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::diagnosis::{self, Diagnosis};
use crate::document::FormatVersion;
use crate::generation::{Manifest, Unreadable};
use crate::host::{Disk, Nic, SnapshotName, Vm, VmId};
use crate::hypervisor::events::Guest;
use crate::journal::LastExit;
use crate::observe::{Admin, Closer, Observed, Specification, Unit, UnitState, VmmHealth};
use crate::plan::{Change, Cost, Reason, changes, upgrades};
use crate::tuning::{Amiss, amiss};
use crate::unit::vm_unit_name;
use crate::vmm::VmState;

/// `nkudo status --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    pub version: FormatVersion,
    /// The generation that was switched to last; `null` before the first switch.
    pub generation: Option<u64>,
    /// The newest generation, where it is another one.
    pub newest: Option<u64>,
    /// Why the generation cannot be read, where it cannot: what is declared is not known then.
    pub unreadable: Option<String>,
    pub vms: Vec<VmStatus>,
    /// What `[host.tuning]` declares and the kernel has not.
    pub tuning: Vec<TuningStatus>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TuningStatus {
    pub setting: String,
    pub declared: String,
    /// What the kernel has: several where CPUs differ, none where there is no such setting.
    pub is: BTreeSet<String>,
    /// For people.
    pub text: String,
    pub remedy: String,
}

impl TuningStatus {
    fn of(amiss: &Amiss) -> Self {
        Self {
            setting: amiss.setting.to_string(),
            declared: amiss.declared.clone(),
            is: amiss.is.clone(),
            text: amiss.to_string(),
            remedy: amiss.remedy(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct VmStatus {
    pub id: VmId,
    pub unit: String,
    pub state: State,
    /// Whether the current generation has it, or cannot be read.
    pub declared: bool,
    /// Whether somebody stopped it, by `nkudo stop` or `systemctl stop`.
    pub held: bool,
    pub main_pid: Option<u32>,
    /// When its last start began, in microseconds since 1970.
    pub since: Option<u64>,
    /// The generation that it was started from.
    pub generation: Option<u64>,
    /// How often systemd restarted it by itself since its last start.
    pub restarts: u32,
    /// What differs between what it was started from and what is declared.
    pub pending: Vec<Pending>,
    /// What it runs with that is newer by now, and that it gets when it is restarted.
    pub upgrades: Vec<Upgrade>,
    /// What stood in its way, where a switch left it out.
    pub obstacle: Option<String>,
    /// systemd's `Result`, where its unit failed.
    pub result: Option<String>,
    /// The administrator's drop-ins, which change the unit.
    pub drop_ins: Vec<String>,
    /// Bytes of memory that its unit uses, the page cache of its disks included.
    pub memory: Option<u64>,
    /// Microseconds of CPU time that its unit has used since its last start.
    pub cpu: Option<u64>,
    pub nics: Vec<NicStatus>,
    pub disks: Vec<DiskStatus>,
    /// Its snapshots, where it was looked for them.
    pub snapshots: Vec<SnapshotName>,
    /// What its VMM says; `null` where it was not asked.
    pub vmm: Option<String>,
    /// `panicked`, where the guest said so and runs on.
    pub guest: Option<&'static str>,
    /// Why it ended last, where the journal still knows.
    pub last_exit: Option<LastExit>,
    /// What its last lines come to, where it does not run and that is known.
    pub diagnosis: Option<Diagnosis>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct NicStatus {
    pub network: String,
    pub mac: String,
    pub tap: String,
    /// The bridge that the TAP is in now.
    pub bridge: Option<String>,
    pub link: LinkStatus,
    /// What DHCP has given it, then what the host has reached it by of late.
    pub addresses: Vec<IpAddr>,
    /// What the configuration gives it.
    pub declared: Vec<IpAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkStatus {
    Up,
    Down,
    /// There is no TAP.
    Missing,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiskStatus {
    pub name: String,
    pub path: String,
    /// Bytes; `null` where it was not looked at, or is not there.
    pub size: Option<u64>,
    /// Bytes that it takes on its filesystem.
    pub allocated: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pending {
    pub field: String,
    pub old: Option<String>,
    pub new: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Upgrade {
    /// `hypervisor`, `nkudo`, or `unit` where this nkudo makes another one of the same specification.
    pub what: &'static str,
    /// For people, as a plan has it.
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Running,
    /// `nkudo pause` stopped its vCPUs where they are.
    Paused,
    /// Its unit is starting: the VMM is up, or about to be, and not ready yet.
    Starting,
    /// It failed, and systemd starts it again in a moment.
    Restarting,
    Stopping,
    Stopped,
    /// It failed, and systemd does not try again.
    Failed,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Starting => "starting",
            Self::Restarting => "restarting",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        })
    }
}

/// A generation that was switched to, with its number.
pub type Current<'a> = Option<(u64, &'a Manifest)>;

/// The status of every VM that is declared or has a unit. The manifest's programs are those that a
/// restart would use.
pub fn status(
    current: Current<'_>,
    newest: Option<u64>,
    observed: &Observed,
    closer: &Closer,
) -> Status {
    let generation = current.map(|(number, _)| number);
    let declared = current.map(|(_, manifest)| &manifest.host.vms);
    let ids: BTreeSet<&VmId> = declared
        .into_iter()
        .flat_map(|vms| vms.keys())
        .chain(observed.units.keys())
        .collect();
    let host = Seen {
        observed,
        closer,
        links: observed
            .links
            .iter()
            .map(|(name, link)| (link.index, name.as_str()))
            .collect(),
    };
    let vms = ids.into_iter().map(|id| vm(id, current, &host));
    let tuning = current.map_or_else(Vec::new, |(_, manifest)| {
        amiss(&manifest.host.tuning, &observed.tuning, None)
    });
    Status {
        version: FormatVersion,
        tuning: tuning.iter().map(TuningStatus::of).collect(),
        generation,
        newest: newest.filter(|newest| Some(*newest) != generation),
        unreadable: None,
        vms: vms.collect(),
    }
}

impl Status {
    /// The status of a host whose current generation cannot be read, made without it.
    #[must_use]
    pub fn of_unreadable(mut self, unreadable: Unreadable) -> Self {
        let Unreadable { number, why } = unreadable;
        self.generation = Some(number);
        self.newest = self.newest.filter(|newest| *newest != number);
        self.unreadable = Some(format!("{:#}", anyhow::Error::from(why)));
        for vm in &mut self.vms {
            vm.declared = true;
        }
        self
    }
}

/// What was seen of the host.
struct Seen<'a> {
    observed: &'a Observed,
    closer: &'a Closer,
    /// The names of links, by their index.
    links: BTreeMap<u32, &'a str>,
}

fn vm(id: &VmId, current: Current<'_>, host: &Seen<'_>) -> VmStatus {
    let Seen {
        observed, closer, ..
    } = *host;
    let unit = observed.units.get(id);
    let facts = unit.and_then(|unit| unit.facts.as_ref());
    let wanted = current.and_then(|(_, manifest)| manifest.host.vms.get(id));
    let pending = match (
        unit,
        wanted,
        observed.remains.get(id).map(|r| &r.specification),
    ) {
        (Some(_), Some(wanted), Some(Specification::Known(booted))) => {
            let restart = |change: &Change| change.cost == Cost::Restart;
            let changes = changes(booted, wanted).into_iter().filter(restart);
            changes
                .map(|change| Pending {
                    field: change.field,
                    old: change.old,
                    new: change.new,
                })
                .collect()
        }
        _ => Vec::new(),
    };
    let upgrades = match (unit, current, wanted, observed.remains.get(id)) {
        (Some(unit), Some((_, manifest)), Some(_), Some(remains)) if runs(unit) => {
            match &remains.specification {
                Specification::Known(booted) => upgrades(booted, &manifest.programs),
                Specification::Absent | Specification::Unreadable => Vec::new(),
            }
        }
        _ => Vec::new(),
    };
    // What it was started from, where it runs.
    let specification = match observed.remains.get(id).map(|r| &r.specification) {
        Some(Specification::Known(booted)) if unit.is_some() => Some(&booted.vm),
        _ => wanted,
    };
    let usage = closer.usage.get(id).copied().unwrap_or_default();
    let vmm = closer.vmms.get(id);
    let held = observed.held.contains_key(id);
    let obstacle = observed.obstructed.get(id).filter(|_| !held);
    VmStatus {
        id: id.clone(),
        unit: vm_unit_name(id),
        state: match unit.map_or(State::Stopped, state) {
            State::Stopped if obstacle.is_some() => State::Failed,
            State::Running if vmm == Some(&VmmHealth::Is(VmState::Paused)) => State::Paused,
            other => other,
        },
        declared: wanted.is_some(),
        held,
        main_pid: facts.map(|facts| facts.main_pid).filter(|pid| *pid != 0),
        since: facts.map(|facts| facts.since).filter(|since| *since != 0),
        generation: unit.and_then(|unit| unit.generation),
        restarts: facts.map_or(0, |facts| facts.restarts),
        pending,
        upgrades: upgrades.iter().map(upgrade).collect(),
        obstacle: obstacle.cloned(),
        result: facts
            .filter(|facts| facts.result != "success")
            .map(|facts| facts.result.clone()),
        drop_ins: unit.map_or_else(Vec::new, |unit| unit.drop_ins.clone()),
        memory: usage.memory,
        cpu: usage.cpu,
        nics: nics(specification, host),
        disks: specification.map_or_else(Vec::new, |vm| {
            vm.disks.iter().map(|one| disk(one, closer)).collect()
        }),
        snapshots: Vec::new(),
        vmm: vmm.map(|health| match health {
            VmmHealth::Is(state) => state.word().to_owned(),
            VmmHealth::Silent(why) => format!("silent: {why}"),
        }),
        guest: (closer.guests.get(id) == Some(&Guest::Panicked)).then_some("panicked"),
        last_exit: closer.exits.get(id).cloned(),
        diagnosis: diagnosis::of_lines(&closer.lines).map(|known| Diagnosis {
            remedy: known.remedy.replace(" ID`", &format!(" {id}`")),
            ..known
        }),
    }
}

/// Whether there is a VMM, or will be in a moment.
fn runs(unit: &Unit) -> bool {
    matches!(unit.state, UnitState::Active | UnitState::Activating)
}

fn upgrade(reason: &Reason) -> Upgrade {
    Upgrade {
        what: match reason {
            Reason::Upgraded { what, .. } => what,
            _ => "unit",
        },
        text: reason.to_string(),
    }
}

fn nics(vm: Option<&Vm>, host: &Seen<'_>) -> Vec<NicStatus> {
    let nic = |nic: &Nic| {
        let link = host.observed.links.get(nic.tap.as_str());
        let master = link.and_then(|link| link.master);
        let bridge = master.and_then(|master| host.links.get(&master));
        NicStatus {
            network: nic.network.to_string(),
            mac: nic.mac.to_string(),
            tap: nic.tap.to_string(),
            bridge: bridge.map(|name| (*name).to_owned()),
            link: match link.map(|link| link.admin) {
                Some(Admin::Up) => LinkStatus::Up,
                Some(Admin::Down) => LinkStatus::Down,
                None => LinkStatus::Missing,
            },
            addresses: addresses(nic, host.closer),
            declared: nic.address.iter().map(IpNet::addr).collect(),
        }
    };
    vm.map_or_else(Vec::new, |vm| vm.nics.iter().map(nic).collect())
}

fn addresses(nic: &Nic, closer: &Closer) -> Vec<IpAddr> {
    let leases = closer.leases.get(&nic.network).into_iter().flatten();
    let mut addresses: Vec<IpAddr> = leases
        .filter(|lease| lease.mac == nic.mac.octets())
        .map(|lease| lease.address.into())
        .collect();
    let seen = closer.neighbours.get(&nic.mac.octets());
    for address in seen.into_iter().flatten() {
        if !addresses.contains(address) {
            addresses.push(*address);
        }
    }
    addresses
}

fn disk(disk: &Disk, closer: &Closer) -> DiskStatus {
    let used = closer.disks.get(disk.path.as_str());
    DiskStatus {
        name: disk.name.to_string(),
        path: disk.path.to_string(),
        size: used.map(|used| used.size).filter(|size| *size != 0),
        allocated: used.map(|used| used.allocated),
    }
}

fn state(unit: &Unit) -> State {
    match unit.state {
        UnitState::Active => State::Running,
        UnitState::Activating if unit.sub_state.starts_with("auto-restart") => State::Restarting,
        UnitState::Activating => State::Starting,
        UnitState::Deactivating => State::Stopping,
        UnitState::Failed => State::Failed,
        UnitState::Inactive => State::Stopped,
    }
}
