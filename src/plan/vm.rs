//! What becomes of each VM.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Change, Cost, Pending, Reason, Request, Switch, VmStep, changes, live};
use crate::booted::Booted;
use crate::generation::Manifest;
use crate::host::{Autostart, Host, NetworkKind, Nic, OnChange, Vm, VmId};
use crate::observe::{HeldBy, LinkKind, Observed, Specification, Unit, UnitState};
use crate::unit::Programs;

/// The steps of every VM that the request is about.
pub(super) fn steps(
    wanted: &Manifest,
    observed: &Observed,
    request: &Request,
) -> BTreeMap<VmId, VmStep> {
    let ids: BTreeSet<&VmId> = match request {
        Request::Switch(Switch {
            only: Some(only), ..
        }) => only.iter().collect(),
        Request::Switch(_) => wanted
            .host
            .vms
            .keys()
            .chain(observed.units.keys())
            .chain(observed.remains.keys())
            .chain(observed.held.keys())
            .collect(),
        Request::Start(id) | Request::Stop(id) | Request::Restart(id) => BTreeSet::from([id]),
    };
    ids.into_iter()
        .map(|id| (id.clone(), step(id, wanted, observed, request)))
        .collect()
}

fn step(id: &VmId, wanted: &Manifest, observed: &Observed, request: &Request) -> VmStep {
    let unit = observed.units.get(id);
    let simply = |action: Action, reason: Reason| VmStep::new(action, vec![reason]);
    let look = Look {
        wanted,
        observed,
        id,
    };
    match (wanted.host.vms.get(id), request) {
        (_, Request::Stop(_)) => match unit {
            Some(_) => simply(Action::Stop, Reason::Asked),
            None => simply(Action::Nothing, Reason::NotRunning),
        },
        // `commands` refuses to start what is not declared; a switch ends it.
        (None, _) => match unit {
            Some(_) => simply(Action::Stop, Reason::Undeclared),
            None => simply(Action::Clean, Reason::Undeclared),
        },
        (Some(vm), Request::Start(_)) => match unit {
            Some(unit) if unit.state == UnitState::Active => VmStep::new(Action::Nothing, vec![]),
            other => look.start(other, vm, Pending::Leave),
        },
        (Some(_), Request::Restart(_)) => match unit {
            Some(_) => simply(Action::Restart, Reason::Asked),
            None => simply(Action::Start, Reason::Asked),
        },
        (Some(vm), Request::Switch(switch)) if observed.held.contains_key(id) => {
            match (unit, observed.held.get(id)) {
                (None, by) => VmStep::new(Action::Nothing, held(vm, by)),
                // It was started again since, by whatever: that ends it.
                (Some(unit), Some(HeldBy::Systemd)) => look.start(Some(unit), vm, switch.pending),
                // `nkudo stop` was interrupted after it said so.
                (Some(_), _) => simply(Action::Stop, Reason::Held(HeldBy::Nkudo)),
            }
        }
        (Some(vm), Request::Switch(switch)) => match (unit, vm.autostart) {
            (None, Autostart::No) => simply(Action::Nothing, Reason::NotAutostarted),
            (unit, autostart) => {
                let step = look.start(unit, vm, switch.pending);
                // One that runs is kept so; one that has ended is not begun anew.
                let ended = unit.is_some_and(|unit| {
                    matches!(
                        unit.state,
                        UnitState::Failed | UnitState::Inactive | UnitState::Deactivating
                    )
                });
                if ended && autostart == Autostart::No {
                    let mut reasons = step.reasons;
                    reasons.push(Reason::NotAutostarted);
                    VmStep::new(Action::Nothing, reasons)
                } else {
                    step
                }
            }
        },
    }
}

/// The administrator's drop-ins of the units that stay or are made again.
pub(super) fn drop_ins(
    steps: &BTreeMap<VmId, VmStep>,
    observed: &Observed,
) -> BTreeMap<String, BTreeSet<VmId>> {
    let mut drop_ins: BTreeMap<String, BTreeSet<VmId>> = BTreeMap::new();
    let stay = steps
        .iter()
        .filter(|(_, step)| !matches!(step.action, Action::Stop | Action::Clean));
    for (id, _) in stay {
        let unit = observed.units.get(id);
        for path in unit.into_iter().flat_map(|unit| &unit.drop_ins) {
            drop_ins.entry(path.clone()).or_default().insert(id.clone());
        }
    }
    drop_ins
}

fn held(vm: &Vm, by: Option<&HeldBy>) -> Vec<Reason> {
    let held = Reason::Held(by.copied().unwrap_or(HeldBy::Nkudo));
    match vm.autostart {
        Autostart::Yes => vec![held],
        Autostart::No => vec![held, Reason::NotAutostarted],
    }
}

/// What is known when it is decided about one VM.
struct Look<'a> {
    wanted: &'a Manifest,
    observed: &'a Observed,
    id: &'a VmId,
}

impl Look<'_> {
    /// What it takes for the VM to run as declared.
    fn start(&self, unit: Option<&Unit>, vm: &Vm, pending: Pending) -> VmStep {
        let Some(unit) = unit else {
            return VmStep::new(Action::Start, vec![Reason::NotRunning]);
        };
        let (action, reason) = match unit.state {
            UnitState::Failed => (Action::Start, Reason::Failed(result(unit))),
            UnitState::Inactive => (Action::Start, Reason::NotRunning),
            UnitState::Deactivating => (Action::Restart, Reason::BeingStopped),
            UnitState::Activating if unit.sub_state.starts_with("auto-restart") => {
                let facts = unit.facts.as_ref();
                let tries = facts.map_or(0, |facts| facts.restarts);
                (Action::Restart, Reason::Failing(tries))
            }
            UnitState::Active | UnitState::Activating => return self.running(unit, vm, pending),
        };
        VmStep::new(action, vec![reason])
    }

    fn running(&self, unit: &Unit, vm: &Vm, pending: Pending) -> VmStep {
        let missing = vm
            .nics
            .iter()
            .find_map(|nic| wrong_link(nic, &self.wanted.host, self.observed));
        let mut reasons = Vec::new();
        let mut must_restart = false;
        let mut live = Vec::new();
        let mut becomes = None;
        let mut upgrades = Vec::new();
        match self.specification(unit) {
            Running::As(booted) => {
                let changes = changes(booted, vm);
                must_restart = changes.iter().any(|change| change.cost == Cost::Restart);
                let new = live::merged(booted, vm, &changes);
                live = live::steps(booted, &unit.limits, &new);
                let drift = live::drift(booted, &unit.limits);
                // A limit that somebody changed and that the file changes too is said once.
                let drift: Vec<Change> = drift
                    .into_iter()
                    .filter(|one| changes.iter().all(|change| change.field != one.field))
                    .collect();
                upgrades = self::upgrades(booted, &self.wanted.programs);
                if new != booted.vm {
                    becomes = Some(Box::new(new));
                }
                if !changes.is_empty() {
                    reasons.push(Reason::Changed(changes));
                }
                if !drift.is_empty() {
                    reasons.push(Reason::Drifted(drift));
                }
            }
            Running::AsDeclared => {}
            Running::Unknown => {
                must_restart = true;
                reasons.push(Reason::SpecificationLost);
            }
        }
        if let Some(reason) = missing {
            must_restart = true;
            reasons.push(reason);
        }
        let waits = must_restart || !upgrades.is_empty();
        reasons.extend(upgrades);
        let restarts = (must_restart && vm.on_change == OnChange::Restart)
            || (waits && pending == Pending::CarryOut);
        if restarts {
            // What could be done live comes with it.
            return VmStep::new(Action::Restart, reasons);
        }
        let action = if waits {
            Action::Pending
        } else if unit.state == UnitState::Activating {
            // What changes live does so once it has started.
            reasons.push(Reason::Starting);
            Action::Wait
        } else if !live.is_empty() || moves(&reasons) {
            Action::Live
        } else {
            Action::Nothing
        };
        VmStep {
            action,
            reasons,
            live,
            becomes,
        }
    }

    fn specification(&self, unit: &Unit) -> Running<'_> {
        let remains = self.observed.remains.get(self.id);
        match remains.map(|remains| &remains.specification) {
            // The unit says which specification it was started from, and that has to be this one.
            Some(Specification::Known(booted)) if Some(&booted.digest) == unit.digest.as_ref() => {
                Running::As(booted)
            }
            _ if unit.digest.is_some()
                && unit.digest.as_ref() == self.wanted.digests.get(self.id) =>
            {
                Running::AsDeclared
            }
            _ => Running::Unknown,
        }
    }
}

/// What a VM runs with that is newer by now, each a [`Reason::Upgraded`] or [`Reason::OtherUnit`].
pub fn upgrades(booted: &Booted, new: &Programs) -> Vec<Reason> {
    let old = &booted.programs;
    let mut upgrades = Vec::new();
    let hypervisor = |programs: &Programs| {
        let Programs {
            hypervisor,
            hypervisor_version,
            ..
        } = programs;
        format!("{hypervisor} {hypervisor_version}")
    };
    if hypervisor(old) != hypervisor(new) {
        upgrades.push(Reason::Upgraded {
            what: "hypervisor",
            old: hypervisor(old),
            new: hypervisor(new),
        });
    }
    if old.nkudo != new.nkudo {
        upgrades.push(Reason::Upgraded {
            what: "nkudo",
            old: old.nkudo.to_string(),
            new: new.nkudo.to_string(),
        });
    } else if booted.to_unit().digest() != booted.unit {
        upgrades.push(Reason::OtherUnit);
    }
    upgrades
}

/// Whether a change is made live by what is no step of the VM's: its TAP moves.
fn moves(reasons: &[Reason]) -> bool {
    reasons.iter().any(|reason| match reason {
        Reason::Changed(changes) => changes.iter().any(|change| change.cost == Cost::Live),
        _ => false,
    })
}

fn result(unit: &Unit) -> String {
    let facts = unit.facts.as_ref();
    facts.map_or_else(|| "unknown".to_owned(), |facts| facts.result.clone())
}

/// What is wrong with a NIC's end on the host, of a VM that runs.
fn wrong_link(nic: &Nic, host: &Host, observed: &Observed) -> Option<Reason> {
    let Some(link) = observed.links.get(nic.tap.as_str()) else {
        return Some(Reason::TapGone(nic.tap.clone()));
    };
    let network = host.networks.get(&nic.network)?;
    let is_right = match &network.kind {
        NetworkKind::Macvtap(uplink) => {
            let below = observed.links.get(uplink.port().as_str());
            link.kind == LinkKind::Macvtap
                && below.is_none_or(|below| link.below == Some(below.index))
        }
        NetworkKind::Bridge(_) | NetworkKind::ExistingBridge(_) => link.kind != LinkKind::Macvtap,
    };
    (!is_right).then(|| Reason::OtherKindOfLink(nic.tap.clone()))
}

/// What a VM that runs was started from.
enum Running<'a> {
    As(&'a Booted),
    /// What exactly is lost, but the unit's digest is the declared one.
    AsDeclared,
    Unknown,
}

impl VmStep {
    pub(super) fn new(action: Action, reasons: Vec<Reason>) -> Self {
        Self {
            action,
            reasons,
            live: Vec::new(),
            becomes: None,
        }
    }
}
