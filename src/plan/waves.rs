//! The order of VMs among themselves (`after`), as waves: those of one wave at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use super::{Action, Request, VmStep};
use crate::generation::Manifest;
use crate::host::VmId;
use crate::observe::{Observed, Specification};

/// What is to start, each VM in a later wave than those it comes after.
pub(super) fn start(
    steps: &BTreeMap<VmId, VmStep>,
    wanted: &Manifest,
    request: &Request,
) -> Vec<Vec<VmId>> {
    let after = |id: &VmId| wanted.host.vms.get(id).map(|vm| &vm.after);
    let waves = waves(
        steps,
        &[Action::Start, Action::Restart, Action::Wait],
        after,
    );
    match request.restart_limit() {
        None => waves,
        Some(limit) => limited(&waves, steps, limit),
    }
}

/// The waves with at most `limit` VMs of those that restart in one; each is then stopped just before
/// it starts.
fn limited(
    waves: &[Vec<VmId>],
    steps: &BTreeMap<VmId, VmStep>,
    limit: NonZeroUsize,
) -> Vec<Vec<VmId>> {
    let mut all = Vec::new();
    for wave in waves {
        let restarts = |id: &&VmId| {
            steps
                .get(*id)
                .is_some_and(|step| step.action == Action::Restart)
        };
        let (restarting, rest): (Vec<&VmId>, Vec<&VmId>) = wave.iter().partition(restarts);
        let owned = |ids: &[&VmId]| ids.iter().map(|id| (*id).clone()).collect::<Vec<_>>();
        if !rest.is_empty() {
            all.push(owned(&rest));
        }
        all.extend(restarting.chunks(limit.get()).map(owned));
    }
    all
}

/// What is to stop before anything starts, each VM in an earlier wave than those it came after when
/// it was booted.
pub(super) fn stop(
    steps: &BTreeMap<VmId, VmStep>,
    observed: &Observed,
    request: &Request,
) -> Vec<Vec<VmId>> {
    let actions: &[Action] = match request.restart_limit() {
        None => &[Action::Stop, Action::Restart],
        Some(_) => &[Action::Stop],
    };
    let after = |id: &VmId| match &observed.remains.get(id)?.specification {
        Specification::Known(booted) => Some(&booted.vm.after),
        Specification::Absent | Specification::Unreadable => None,
    };
    let mut waves = waves(steps, actions, after);
    waves.reverse();
    waves
}

fn waves<'a>(
    steps: &BTreeMap<VmId, VmStep>,
    actions: &[Action],
    after: impl Fn(&VmId) -> Option<&'a BTreeSet<VmId>>,
) -> Vec<Vec<VmId>> {
    let mut left: BTreeSet<&VmId> = steps
        .iter()
        .filter(|(_, step)| actions.contains(&step.action))
        .map(|(id, _)| id)
        .collect();
    let mut waves = Vec::new();
    while !left.is_empty() {
        let ready = |id: &&VmId| {
            after(id).is_none_or(|others| others.iter().all(|other| !left.contains(other)))
        };
        let mut wave: Vec<VmId> = left.iter().copied().filter(ready).cloned().collect();
        if wave.is_empty() {
            // `check` refuses circles, but specifications booted at different times may form one.
            wave = left.iter().map(|id| (*id).clone()).collect();
        }
        left.retain(|id| !wave.contains(id));
        waves.push(wave);
    }
    waves
}
