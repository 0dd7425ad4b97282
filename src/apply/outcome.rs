//! How carrying out a plan ended.

use std::collections::BTreeMap;

use crate::host::VmId;

/// What failed; all else was done.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What concerns the host, such as a bridge.
    pub host: Vec<anyhow::Error>,
    pub vms: BTreeMap<VmId, Failure>,
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
