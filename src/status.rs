//! The state of a host's VMs, in one vocabulary, out of what was declared and what was observed.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use crate::booted::FormatVersion;
use crate::generation::Manifest;
use crate::host::VmId;
use crate::observe::{Observed, Specification, Unit, UnitState};
use crate::plan::{Change, Cost, changes};
use crate::unit::vm_unit_name;

/// `nkudo status --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    pub version: FormatVersion,
    /// The generation that was switched to last; `null` before the first switch.
    pub generation: Option<u64>,
    /// The newest generation, where it is another one.
    pub newest: Option<u64>,
    pub vms: Vec<VmStatus>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct VmStatus {
    pub id: VmId,
    pub unit: String,
    pub state: State,
    /// Whether the current generation has it.
    pub declared: bool,
    /// Whether `nkudo stop` stopped it.
    pub held: bool,
    pub main_pid: Option<u32>,
    /// When it became active, in microseconds since 1970.
    pub since: Option<u64>,
    /// The generation that it was started from.
    pub generation: Option<u64>,
    /// How often systemd restarted it by itself since its last start.
    pub restarts: u32,
    /// What differs between what it was started from and what is declared.
    pub pending: Vec<Pending>,
    /// systemd's `Result`, where its unit failed.
    pub result: Option<String>,
    /// The administrator's drop-ins, which change the unit.
    pub drop_ins: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pending {
    pub field: String,
    pub old: Option<String>,
    pub new: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Running,
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

/// The status of every VM that is declared or has a unit.
pub fn status(current: Current<'_>, newest: Option<u64>, observed: &Observed) -> Status {
    let generation = current.map(|(number, _)| number);
    let declared = current.map(|(_, manifest)| &manifest.host.vms);
    let ids: BTreeSet<&VmId> = declared
        .into_iter()
        .flat_map(|vms| vms.keys())
        .chain(observed.units.keys())
        .collect();
    let vms = ids.into_iter().map(|id| vm(id, current, observed));
    Status {
        version: FormatVersion,
        generation,
        newest: newest.filter(|newest| Some(*newest) != generation),
        vms: vms.collect(),
    }
}

fn vm(id: &VmId, current: Current<'_>, observed: &Observed) -> VmStatus {
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
    VmStatus {
        id: id.clone(),
        unit: vm_unit_name(id),
        state: unit.map_or(State::Stopped, state),
        declared: wanted.is_some(),
        held: observed.held.contains(id),
        main_pid: facts.map(|facts| facts.main_pid).filter(|pid| *pid != 0),
        since: facts
            .map(|facts| facts.active_since)
            .filter(|since| *since != 0),
        generation: unit.and_then(|unit| unit.generation),
        restarts: facts.map_or(0, |facts| facts.restarts),
        pending,
        result: facts
            .filter(|facts| facts.result != "success")
            .map(|facts| facts.result.clone()),
        drop_ins: facts.map_or_else(Vec::new, |facts| facts.drop_ins.clone()),
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
