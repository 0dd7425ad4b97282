//! `nkudo shutdown`: the ordered stop of all VMs of a host that shuts down.

use std::collections::BTreeMap;

use crate::apply::shut_down;
use crate::connections::Connections;
use crate::observe::{Detail, observe};
use crate::plan::stop_order;

use super::{Exit, block_on};

/// Without the lock: whoever has it cannot start anything any more, and the host does not wait.
pub fn run() -> anyhow::Result<Exit> {
    block_on(async {
        let connections = Connections::open().await?;
        // Somebody stopped the service, or restarted it with a new nkudo: that is about no VM.
        let state = connections.manager.system_state().await?;
        if state != "stopping" {
            tracing::info!("the host does not shut down ({state}), so no VM is stopped");
            return Ok(Exit::Done);
        }
        let jobs = connections.jobs().await?;
        let observed = observe(&connections, None, Detail::Plan).await?;
        let mut failed = BTreeMap::new();
        for wave in stop_order(&observed) {
            failed.append(&mut shut_down(&connections, &jobs, &wave).await);
        }
        for (id, err) in &failed {
            tracing::error!(nkudo_vm = %id, "VM {id}: {err:#}");
        }
        Ok(if failed.is_empty() {
            Exit::Done
        } else {
            Exit::VmsFailed
        })
    })
}
