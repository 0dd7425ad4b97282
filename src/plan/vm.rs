//! What becomes of each VM.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Change, Cost, Reason, Request, VmStep, changes};
use crate::generation::Manifest;
use crate::host::{Autostart, OnChange, Vm, VmId};
use crate::observe::{Observed, Specification, Unit, UnitState};

/// The steps of every VM that the request is about.
pub(super) fn steps(
    wanted: &Manifest,
    observed: &Observed,
    request: &Request,
) -> BTreeMap<VmId, VmStep> {
    let ids: BTreeSet<&VmId> = match request {
        Request::Switch => wanted
            .host
            .vms
            .keys()
            .chain(observed.units.keys())
            .chain(observed.remains.keys())
            .chain(&observed.held)
            .collect(),
        Request::Start(id) | Request::Stop(id) | Request::Restart(id) => BTreeSet::from([id]),
    };
    ids.into_iter()
        .map(|id| (id.clone(), step(id, wanted, observed, request)))
        .collect()
}

fn step(id: &VmId, wanted: &Manifest, observed: &Observed, request: &Request) -> VmStep {
    let unit = observed.units.get(id);
    let (action, reasons) = match (wanted.host.vms.get(id), request) {
        (_, Request::Stop(_)) => match unit {
            Some(_) => (Action::Stop, vec![Reason::Asked]),
            None => (Action::Nothing, vec![Reason::NotRunning]),
        },
        // `commands` refuses to start what is not declared; a switch ends it.
        (None, _) => match unit {
            Some(_) => (Action::Stop, vec![Reason::Undeclared]),
            None => (Action::Clean, vec![Reason::Undeclared]),
        },
        (Some(vm), Request::Start(_)) => match unit {
            Some(unit) if unit.state == UnitState::Active => (Action::Nothing, vec![]),
            other => start(other, vm, id, wanted, observed),
        },
        (Some(_), Request::Restart(_)) => match unit {
            Some(_) => (Action::Restart, vec![Reason::Asked]),
            None => (Action::Start, vec![Reason::Asked]),
        },
        (Some(vm), Request::Switch) if observed.held.contains(id) => match unit {
            // `nkudo stop` was interrupted after it said so.
            Some(_) => (Action::Stop, vec![Reason::Held]),
            None => (Action::Nothing, held(vm)),
        },
        (Some(vm), Request::Switch) => match (unit, vm.autostart) {
            (None, Autostart::No) => (Action::Nothing, vec![Reason::NotAutostarted]),
            (unit, _) => start(unit, vm, id, wanted, observed),
        },
    };
    VmStep { action, reasons }
}

fn held(vm: &Vm) -> Vec<Reason> {
    match vm.autostart {
        Autostart::Yes => vec![Reason::Held],
        Autostart::No => vec![Reason::Held, Reason::NotAutostarted],
    }
}

/// What it takes for the VM to run as declared.
fn start(
    unit: Option<&Unit>,
    vm: &Vm,
    id: &VmId,
    wanted: &Manifest,
    observed: &Observed,
) -> (Action, Vec<Reason>) {
    let Some(unit) = unit else {
        return (Action::Start, vec![Reason::NotRunning]);
    };
    match unit.state {
        UnitState::Failed => (Action::Start, vec![Reason::Failed(result(unit))]),
        UnitState::Inactive => (Action::Start, vec![Reason::NotRunning]),
        UnitState::Deactivating => (Action::Restart, vec![Reason::BeingStopped]),
        UnitState::Activating if unit.sub_state.starts_with("auto-restart") => (
            Action::Restart,
            vec![Reason::Failing(
                unit.facts.as_ref().map_or(0, |facts| facts.restarts),
            )],
        ),
        UnitState::Active | UnitState::Activating => running(unit, vm, id, wanted, observed),
    }
}

fn result(unit: &Unit) -> String {
    let facts = unit.facts.as_ref();
    facts.map_or_else(|| "unknown".to_owned(), |facts| facts.result.clone())
}

fn running(
    unit: &Unit,
    vm: &Vm,
    id: &VmId,
    wanted: &Manifest,
    observed: &Observed,
) -> (Action, Vec<Reason>) {
    let missing = vm
        .nics
        .iter()
        .find(|nic| !observed.links.contains_key(nic.tap.as_str()));
    let must_restart = match differences(unit, id, vm, wanted, observed) {
        Differences::None if missing.is_none() && unit.state == UnitState::Activating => {
            return (Action::Wait, vec![Reason::Starting]);
        }
        Differences::None if missing.is_none() => return (Action::Nothing, vec![]),
        Differences::None => missing
            .map(|nic| Reason::TapGone(nic.tap.clone()))
            .into_iter()
            .collect(),
        Differences::Unknown => vec![Reason::SpecificationLost],
        Differences::Fields(changes) => {
            let restart = changes.iter().any(|change| change.cost == Cost::Restart);
            let reasons = vec![Reason::Changed(changes)];
            if !restart {
                return (Action::Nothing, reasons);
            }
            reasons
        }
    };
    match vm.on_change {
        OnChange::Restart => (Action::Restart, must_restart),
        OnChange::Defer => (Action::Pending, must_restart),
    }
}

enum Differences {
    None,
    Fields(Vec<Change>),
    Unknown,
}

fn differences(
    unit: &Unit,
    id: &VmId,
    vm: &Vm,
    wanted: &Manifest,
    observed: &Observed,
) -> Differences {
    let specification = observed.remains.get(id).map(|r| &r.specification);
    match specification {
        // The unit says which specification it was started from, and that has to be this one.
        Some(Specification::Known(booted)) if Some(&booted.digest) == unit.digest.as_ref() => {
            let changes = changes(&booted.vm, vm);
            if changes.is_empty() {
                Differences::None
            } else {
                Differences::Fields(changes)
            }
        }
        _ if unit.digest.is_some() && unit.digest.as_ref() == wanted.digests.get(id) => {
            Differences::None
        }
        _ => Differences::Unknown,
    }
}
