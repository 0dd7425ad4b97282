//! How carrying out a plan ended.

use std::collections::{BTreeMap, BTreeSet};

use crate::host::{NetworkName, VmId};
use crate::plan::{OnFailure, Plan};
use crate::tuning::Refusal;

/// What failed; all else was done.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What concerns the host, such as a bridge.
    pub host: Vec<anyhow::Error>,
    pub vms: BTreeMap<VmId, Failure>,
    /// Networks that were left out, and why.
    pub networks: BTreeMap<NetworkName, String>,
    /// Where the run ended at networks: nothing has been started then.
    pub not_made: Option<NotMade>,
    /// Settings that could not be set, by path.
    pub refused: BTreeMap<String, Refusal>,
    /// What is not as declared, though all was done, in words.
    pub differs: Vec<String>,
    /// VMs that were to start or change, and that somebody has stopped meanwhile: they stay so.
    pub stopped: BTreeSet<VmId>,
    /// VMs whose turn did not come, because another one failed before and nothing was to be done
    /// after that.
    pub left_out: BTreeSet<VmId>,
}

/// What of networks failed and ended a run.
#[derive(Debug)]
pub enum NotMade {
    /// These, and why; nothing has been stopped.
    Networks(BTreeMap<NetworkName, String>),
    /// The rules of all networks, before anything was stopped.
    RulesRefused(String),
    /// The rules, though nft would have taken them before VMs were stopped.
    RulesNotLoaded(String),
}

impl Outcome {
    pub(super) fn fail(&mut self, id: &VmId, failure: Failure) {
        self.vms.insert(id.clone(), failure);
    }

    pub(super) fn goes_on(&self, plan: &Plan) -> bool {
        plan.on_failure == OnFailure::GoOn || (self.vms.is_empty() && self.host.is_empty())
    }

    pub(super) fn leave_out(&mut self, ids: &[VmId]) {
        let untouched = ids.iter().filter(|id| !self.vms.contains_key(*id));
        self.left_out.extend(untouched.cloned());
    }
}

/// Why a VM is not as it should be.
#[derive(Debug)]
pub struct Failure {
    pub why: anyhow::Error,
    /// Since when the journal may tell more, in microseconds since 1970; nothing where the VM's
    /// unit was never reached.
    pub journal_since: Option<u64>,
}

impl Failure {
    pub fn of(why: impl Into<anyhow::Error>) -> Self {
        Self {
            why: why.into(),
            journal_since: None,
        }
    }
}
