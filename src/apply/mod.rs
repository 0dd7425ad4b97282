//! Carries out a plan, and decides nothing.
//!
//! The order: bridges first, since they disturb nobody and VMs need them; then what stops; then
//! TAPs that move; then what starts; then what nobody needs any more. A VM that fails does not hold
//! up the others. Every effect is an "ensure": after a run that was killed, the next one finds
//! what is missing and does it.

mod network;
mod outcome;
mod run_files;
mod vm;

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};

use crate::connections::Connections;
use crate::generation::Manifest;
use crate::host::VmId;
use crate::plan::{Action, Plan};
use crate::systemd::Jobs;

pub use outcome::{Failure, Outcome};
pub use run_files::{Lock, hold, lock, release};

/// VMs that are started or stopped at the same time: enough to hide the waiting, and far from the
/// bus's limits (128 calls of one client).
const IN_FLIGHT: usize = 16;

/// What is carried out, and on what.
#[derive(Debug)]
pub struct Apply<'a> {
    pub connections: &'a Connections,
    pub jobs: &'a Jobs,
    pub wanted: &'a Manifest,
    /// The wanted generation's number.
    pub generation: u64,
}

impl Apply<'_> {
    /// Carries out the plan. What fails is in the outcome; nothing is undone for it.
    pub async fn run(&self, plan: &Plan) -> Outcome {
        let mut outcome = Outcome::default();
        if let Err(err) = run_files::ensure_directories() {
            outcome.host.push(err);
            return outcome;
        }
        if let Err(err) = self.networks(plan).await {
            // Nothing has been stopped yet, and nothing is: VMs run on as they were.
            outcome.host.push(err);
            return outcome;
        }
        for wave in &plan.stop {
            self.wave(wave, Verb::Stop, &mut outcome.vms).await;
        }
        for attach in &plan.attach {
            match self
                .connections
                .netlink
                .attach(&attach.tap, &attach.bridge)
                .await
            {
                Ok(()) => tracing::info!("put {} into {}", attach.tap, attach.bridge),
                Err(err) => outcome.host.push(err.into()),
            }
        }
        for wave in &plan.start {
            let wave: Vec<VmId> = wave
                .iter()
                .filter(|id| !outcome.vms.contains_key(*id))
                .cloned()
                .collect();
            let (waiting, starting): (Vec<VmId>, Vec<VmId>) = wave.into_iter().partition(|id| {
                plan.vms
                    .get(id)
                    .is_some_and(|step| step.action == Action::Wait)
            });
            self.wave(&starting, Verb::Start, &mut outcome.vms).await;
            self.wave(&waiting, Verb::Wait, &mut outcome.vms).await;
        }
        for (id, step) in &plan.vms {
            let done = if step.takes_effect() {
                self.record(id)
            } else if matches!(step.action, Action::Stop | Action::Clean)
                && !outcome.vms.contains_key(id)
                && !self.wanted.host.vms.contains_key(id)
            {
                run_files::remove(id)
            } else {
                Ok(())
            };
            if let Err(err) = done {
                outcome.vms.insert(id.clone(), Failure::of(err));
            }
        }
        if let Err(err) = self.remove_bridges(plan).await {
            outcome.host.push(err);
        }
        outcome
    }

    /// Starts or stops these VMs at the same time.
    async fn wave(&self, ids: &[VmId], verb: Verb, failed: &mut BTreeMap<VmId, Failure>) {
        let all = ids.iter().map(|id| async move {
            let done = match verb {
                Verb::Stop => self.stop(id).await,
                Verb::Start => self.start(id).await,
                Verb::Wait => self.wait(id).await,
            };
            (id.clone(), done)
        });
        let mut all = stream::iter(all).buffer_unordered(IN_FLIGHT);
        while let Some((id, done)) = all.next().await {
            if let Err(failure) = done {
                failed.insert(id, failure);
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Verb {
    Start,
    Stop,
    Wait,
}
