//! `nkudo stop --force`: power button, SIGTERM, SIGKILL, each after a limit and said aloud.

use std::time::Duration;

use anyhow::Context as _;
use camino::Utf8Path;
use rustix::process::Signal;
use zbus::fdo;

use crate::apply::{self, Doing};
use crate::connections::Connections;
use crate::generation::Store;
use crate::host::VmId;
use crate::systemd::{is_named, is_no_such_unit};
use crate::unit::vm_unit_name;

use super::one_vm::refuse_unheard_of;
use super::{Exit, block_on, state_dir};

/// How long the VMM may take after SIGTERM, and the kernel after SIGKILL.
const TERMINATE: Duration = Duration::from_secs(5);
const KILL: Duration = Duration::from_secs(10);
/// How long it waits for whoever starts the VM at this moment.
const MOMENT: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_millis(50);

/// Waits for no lock: whoever holds it may be waiting for this very VM. Everything here is one unit's,
/// and systemd's.
pub fn run(id: &VmId, seconds: u32, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    refuse_unheard_of(id, &Store::new(&state_dir::state_dir(given)))?;
    block_on(async {
        // First: a VM that cannot be stopped is not to be held.
        let connections = Connections::open().await?;
        hold(id).await?;
        let unit = Unit {
            connections: &connections,
            id,
            name: vm_unit_name(id),
        };
        unit.stop(Duration::from_secs(seconds.into())).await
    })
}

/// Without the VM's lock, too, where somebody has that for longer: who starts a VM has it for a moment alone.
async fn hold(id: &VmId) -> anyhow::Result<()> {
    let end = tokio::time::Instant::now() + MOMENT;
    let _own = loop {
        let own = apply::try_lock_vm(id, Doing::Stop)?;
        if own.is_some() || tokio::time::Instant::now() > end {
            break own;
        }
        tokio::time::sleep(INTERVAL).await;
    };
    apply::hold(id)
}

struct Unit<'a> {
    connections: &'a Connections,
    id: &'a VmId,
    name: String,
}

impl Unit<'_> {
    async fn stop(&self, patience: Duration) -> anyhow::Result<Exit> {
        let id = self.id;
        let manager = &self.connections.manager;
        if self.is_over().await? {
            tracing::info!(nkudo_vm = %id, "{id} does not run");
            return self.clear().await;
        }
        // A stop that is under way is joined by this one.
        match manager.stop_unit(&self.name, "replace").await {
            Ok(_) => {}
            Err(err) if is_no_such_unit(&err) => return Ok(Exit::Done),
            Err(err) => return Err(err).with_context(|| format!("systemd does not stop {id}")),
        }
        let seconds = patience.as_secs();
        tracing::info!(nkudo_vm = %id, "pressed the power button of {id}; its guest has {seconds} s");
        if self.over_within(patience).await? {
            tracing::info!(nkudo_vm = %id, "{id} has stopped");
            return self.clear().await;
        }
        tracing::warn!(nkudo_vm = %id, "the guest did not power off; SIGTERM to the VMM of {id}");
        self.signal(Signal::TERM).await?;
        if self.over_within(TERMINATE).await? {
            tracing::info!(nkudo_vm = %id, "{id} has stopped");
            return self.clear().await;
        }
        tracing::warn!(nkudo_vm = %id, "the VMM did not end; SIGKILL to all processes of {id}");
        self.signal(Signal::KILL).await?;
        if self.over_within(KILL).await? {
            tracing::info!(nkudo_vm = %id, "{id} has stopped");
            return self.clear().await;
        }
        tracing::error!(
            nkudo_vm = %id,
            "{id} is still there after SIGKILL: its process waits for the kernel, most often for a disk that does \
             not answer (`ps -o pid,stat,wchan:30 -C cloud-hypervisor`)"
        );
        Ok(Exit::VmsFailed)
    }

    /// The step that waits for the guest goes too: systemd then ends the unit.
    async fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let manager = &self.connections.manager;
        match manager.kill_unit(&self.name, "all", signal.as_raw()).await {
            Err(err) if !is_no_such_unit(&err) && !is_no_such_process(&err) => {
                Err(err).with_context(|| format!("systemd cannot send a signal to {}", self.name))
            }
            _ => Ok(()),
        }
    }

    async fn over_within(&self, limit: Duration) -> anyhow::Result<bool> {
        let end = tokio::time::Instant::now() + limit;
        loop {
            if self.is_over().await? {
                return Ok(true);
            }
            if tokio::time::Instant::now() >= end {
                return Ok(false);
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn is_over(&self) -> anyhow::Result<bool> {
        let listed = self
            .connections
            .manager
            .list_units_by_patterns(&[], &[&self.name])
            .await
            .with_context(|| format!("cannot ask systemd for {}", self.name))?;
        let over = |state: &str| matches!(state, "failed" | "inactive");
        Ok(listed.first().is_none_or(|unit| over(&unit.3)))
    }

    /// A unit that failed keeps its name and its TAPs until it is reset.
    async fn clear(&self) -> anyhow::Result<Exit> {
        match self.connections.manager.reset_failed_unit(&self.name).await {
            Err(err) if !is_no_such_unit(&err) => {
                Err(err).with_context(|| format!("cannot reset the failed {}", self.name))
            }
            _ => Ok(Exit::Done),
        }
    }
}

fn is_no_such_process(err: &zbus::Error) -> bool {
    // The second is one of the bus's own names.
    is_named(err, "org.freedesktop.systemd1.NoSuchProcess")
        || matches!(err, zbus::Error::FDO(err) if matches!(**err, fdo::Error::UnixProcessIdUnknown(_)))
}
