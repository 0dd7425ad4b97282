//! A plan for programs: `diff --json`, `switch --dry-run --json`. docs/switching.md describes it.

use serde::Serialize;

use super::text::HostStep;
use super::{Action, Change, Cost, Obstacle, Plan, Reason, VmStep};
use crate::document::FormatVersion;
use crate::host::VmId;

/// The document; serialise it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PlanDocument<'a> {
    version: FormatVersion,
    /// Whether the host is as it should be already.
    nothing_to_do: bool,
    /// The VMs whose guests are interrupted.
    downtime: Vec<&'a VmId>,
    host: Vec<HostStep>,
    vms: Vec<VmDocument<'a>>,
    /// What stops, and what starts, in waves.
    stop: &'a [Vec<VmId>],
    start: &'a [Vec<VmId>],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct VmDocument<'a> {
    id: &'a VmId,
    action: &'static str,
    /// Whether its guest is interrupted.
    downtime: bool,
    reasons: Vec<ReasonDocument>,
    changes: Vec<ChangeDocument<'a>>,
    /// What is done to it while it runs, for people.
    live: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct ReasonDocument {
    reason: &'static str,
    text: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct ChangeDocument<'a> {
    field: &'a str,
    old: Option<&'a str>,
    new: Option<&'a str>,
    cost: &'static str,
}

impl<'a> PlanDocument<'a> {
    pub fn of(plan: &'a Plan) -> Self {
        let downtime = plan.interrupted();
        let vms = plan.vms.iter().map(|(id, step)| VmDocument {
            id,
            action: action(step.action),
            downtime: downtime.contains(&id),
            reasons: step.reasons.iter().map(reason).collect(),
            changes: step.changes().map(change).collect(),
            live: live(step),
        });
        Self {
            version: FormatVersion,
            nothing_to_do: plan.is_empty(),
            vms: vms.collect(),
            downtime,
            host: plan.host_steps(),
            stop: &plan.stop,
            start: &plan.start,
        }
    }
}

/// What is printed instead of a plan where something stands in its way.
pub fn obstacles_document(obstacles: &[Obstacle]) -> impl Serialize {
    #[derive(Debug, Serialize)]
    #[serde(rename_all = "kebab-case")]
    struct Document {
        version: FormatVersion,
        obstacles: Vec<String>,
    }
    Document {
        version: FormatVersion,
        obstacles: obstacles.iter().map(ToString::to_string).collect(),
    }
}

fn action(action: Action) -> &'static str {
    match action {
        Action::Start => "start",
        Action::Stop => "stop",
        Action::Restart => "restart",
        Action::Wait => "wait",
        Action::Live => "live",
        Action::Nothing => "nothing",
        Action::Pending => "pending",
        Action::Clean => "clean",
    }
}

fn reason(reason: &Reason) -> ReasonDocument {
    ReasonDocument {
        reason: match reason {
            Reason::NotRunning => "not-running",
            Reason::Undeclared => "undeclared",
            Reason::Changed(_) => "changed",
            Reason::Drifted(_) => "drifted",
            Reason::Failed(_) => "failed",
            Reason::Failing(_) => "failing",
            Reason::Starting => "starting",
            Reason::BeingStopped => "being-stopped",
            Reason::Held(_) => "held",
            Reason::NotAutostarted => "not-autostarted",
            Reason::SpecificationLost => "specification-lost",
            Reason::TapGone(_) => "tap-gone",
            Reason::OtherKindOfLink(_) => "other-kind-of-link",
            Reason::Upgraded { .. } => "upgraded",
            Reason::OtherUnit => "other-unit",
            Reason::Asked => "asked",
            Reason::Obstacle(_) => "obstacle",
            Reason::NoNetwork(..) => "no-network",
        },
        text: reason.to_string(),
    }
}

fn change(change: &Change) -> ChangeDocument<'_> {
    ChangeDocument {
        field: &change.field,
        old: change.old.as_deref(),
        new: change.new.as_deref(),
        cost: match change.cost {
            Cost::Nothing => "none",
            Cost::Live => "live",
            Cost::Restart => "restart",
        },
    }
}

fn live(step: &VmStep) -> Vec<String> {
    step.live.iter().map(ToString::to_string).collect()
}
