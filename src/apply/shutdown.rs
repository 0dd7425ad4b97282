//! Stopping VMs of a host that shuts down.

use std::collections::BTreeMap;

use anyhow::Context as _;
use futures_util::future::join_all;

use super::vm::LONGEST_STOP;
use crate::connections::Connections;
use crate::host::VmId;
use crate::systemd::{JobResult, Jobs};
use crate::unit::vm_unit_name;

/// Stops these VMs at the same time: there are no starts that could get in each other's way, and every
/// guest has its own time. Returns what failed.
pub async fn shut_down(
    connections: &Connections,
    jobs: &Jobs,
    ids: &[VmId],
) -> BTreeMap<VmId, anyhow::Error> {
    let mut failed = BTreeMap::new();
    // Below the bus's 128 calls of one client.
    for some in ids.chunks(64) {
        let all = some.iter().map(|id| async move {
            let stopped = stop(connections, jobs, id).await;
            (id, stopped)
        });
        for (id, stopped) in join_all(all).await {
            match stopped {
                Ok(()) => tracing::info!(nkudo_vm = %id, "stopped {id}"),
                Err(err) => {
                    failed.insert(id.clone(), err);
                }
            }
        }
    }
    failed
}

async fn stop(connections: &Connections, jobs: &Jobs, id: &VmId) -> anyhow::Result<()> {
    let unit = vm_unit_name(id);
    if let Ok(path) = connections.manager.get_unit(&unit).await {
        connections.begin_stop(id, &path).await?;
    }
    // It has a stop job already, which waits for this service to stop; `ignore-dependencies` merges into
    // that one, and lets it run now (org.freedesktop.systemd1(5)).
    let job = connections
        .manager
        .stop_unit(&unit, "ignore-dependencies")
        .await
        .with_context(|| format!("systemd does not stop {unit}"))?;
    match jobs.wait(&job, LONGEST_STOP).await? {
        JobResult::Done => Ok(()),
        JobResult::Other(result) => anyhow::bail!("its stop ended with `{result}`"),
    }
}
