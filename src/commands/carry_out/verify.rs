//! Looks again when a plan was carried out: a job that is done is no VM that runs.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::look;
use crate::apply::{Failure, Outcome};
use crate::connections::Connections;
use crate::generation::Manifest;
use crate::host::VmId;
use crate::observe::Observed;
use crate::plan::{Action, Plan, Reason, Request, differences, plan};
use crate::tuning::amiss;

/// How long links and addresses may be on their way, where networkd takes its files anew.
const SETTLES: Duration = Duration::from_secs(3);

/// Adds to the outcome what is not as it was made. Returns the host as it is now.
pub(super) async fn verify(
    connections: &Connections,
    before: &Plan,
    wanted: &Manifest,
    request: &Request,
    outcome: &mut Outcome,
) -> anyhow::Result<Observed> {
    let after = look_after(connections, before, wanted, request).await?;
    vms(before, wanted, &after, outcome);
    if matches!(request, Request::Switch(_)) {
        networks(before, wanted, &after, request, outcome);
        tuning(wanted, &after, outcome);
    }
    Ok(after)
}

/// What a whole switch would still do, after one of some VMs only.
pub(super) fn rest(wanted: &Manifest, observed: &Observed) -> Option<String> {
    let rest = plan(wanted, observed, &Request::what_is_left()).ok()?;
    let is_whole = rest.is_empty() && rest.network.left_out.is_empty();
    (!is_whole).then(|| "there is more to do than for these VMs".to_owned())
}

/// What was started, and what was changed while it ran.
fn vms(before: &Plan, wanted: &Manifest, observed: &Observed, outcome: &mut Outcome) {
    let Ok(now) = plan(wanted, observed, &Request::what_is_left()) else {
        return;
    };
    let done: BTreeSet<&VmId> = before.start.iter().flatten().collect();
    for (id, step) in &now.vms {
        let told = outcome.left_out.contains(id) || outcome.stopped.contains(id);
        if told || outcome.vms.contains_key(id) {
            continue;
        }
        let changed = before.vms.get(id).is_some_and(|step| !step.live.is_empty());
        if changed && !step.live.is_empty() {
            let fields: Vec<&str> = step.changes().map(|change| change.field.as_str()).collect();
            let why = anyhow::anyhow!("it is not as declared yet: {}", fields.join(", "));
            outcome.vms.insert(id.clone(), Failure::of(why));
        }
        if !done.contains(id) || !matches!(step.action, Action::Start | Action::Restart) {
            continue;
        }
        match step.reasons.first() {
            Some(Reason::NotRunning | Reason::BeingStopped) => {
                tracing::warn!(nkudo_vm = %id, "{id} was started, and has ended again by itself");
            }
            Some(reason) => {
                let why = anyhow::anyhow!("it was started, but now {reason}");
                outcome.vms.insert(id.clone(), Failure::of(why));
            }
            None => {}
        }
    }
}

/// Looks again, and waits for networks that are not as declared yet.
async fn look_after(
    connections: &Connections,
    before: &Plan,
    wanted: &Manifest,
    request: &Request,
) -> anyhow::Result<Observed> {
    let left_out = &before.network.left_out;
    let end = Instant::now() + SETTLES;
    loop {
        let after = look(connections, wanted).await?;
        let waits = matches!(request, Request::Switch(_)) && Instant::now() < end;
        if !waits || differences(wanted, &after, request, left_out).is_empty() {
            return Ok(after);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Whether networks are as they were made a moment ago.
fn networks(
    before: &Plan,
    wanted: &Manifest,
    observed: &Observed,
    request: &Request,
    outcome: &mut Outcome,
) {
    let found = differences(wanted, observed, request, &before.network.left_out);
    let said = found.iter().map(|one| {
        format!(
            "{one}, and the switch had made it as declared: something else changes it; {}",
            one.whose_hand()
        )
    });
    outcome.differs.extend(said);
}

/// Whether the kernel has what is declared.
fn tuning(wanted: &Manifest, observed: &Observed, outcome: &mut Outcome) {
    let amiss = amiss(
        &wanted.host.tuning,
        &observed.tuning,
        Some(&outcome.refused),
    );
    let said = amiss.iter().map(|one| format!("{one}; {}", one.remedy()));
    outcome.differs.extend(said);
}
