//! `nkudo doctor`: whether a host is fit for its VMs, and what to do where it is not.
//!
//! Facts are gathered at the edge (`gather`); what they mean is a function of them (`checks`).

mod checks;
mod facts;
mod gather;
mod kernel;
mod machined;
mod pci;
mod ports;
mod vm;

use serde::Serialize;

use crate::document::FormatVersion;

pub use checks::checks;
pub use facts::{
    Cgroups, DeviceNode, Distribution, Facts, FileFact, Filesystem, HostState, Kvm, Programs,
    Service, SysctlFile, Sysctls, SystemdFacts,
};
pub use gather::gather;
pub use ports::Listener;

/// `nkudo doctor --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    pub version: FormatVersion,
    pub nkudo: &'static str,
    pub checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Check {
    /// `kvm`, `disk-space`, `vm web`.
    pub name: String,
    pub verdict: Verdict,
    pub what: String,
    /// What mends it on this host; `null` where nothing has to be.
    pub remedy: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Ok,
    /// VMs run, and something will go wrong, or goes worse than it could.
    Warn,
    /// VMs do not run, or not as declared.
    Fail,
}

impl Check {
    pub(crate) fn ok(name: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            verdict: Verdict::Ok,
            what: what.into(),
            remedy: None,
        }
    }

    pub(crate) fn warn(
        name: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Warn,
            ..Self::fail(name, what, remedy)
        }
    }

    pub(crate) fn fail(
        name: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            verdict: Verdict::Fail,
            what: what.into(),
            remedy: Some(remedy.into()),
        }
    }
}
