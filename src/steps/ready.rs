//! `ExecStartPost=`: the unit's start is done when the vCPUs run.

use std::io;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::process::MainProcess;
use super::watch::Watch;
use super::{Context, StepExit, stop_marker};
use crate::files;
use crate::host::OnTimeout;
use crate::hypervisor::api_socket;
use crate::vmm::{VmState, Vmm, VmmError};

/// Between two questions to a VMM that is up and has not started its vCPUs: its API has no event
/// for that, and it takes a few milliseconds.
const INTERVAL: Duration = Duration::from_millis(5);

pub(super) async fn ready(context: &Context) -> anyhow::Result<StepExit> {
    // Of the run before this one, if that was killed.
    files::remove(&stop_marker(&context.runtime_directory))?;
    let process = MainProcess::of_unit().context("cannot watch the VMM's process")?;
    let limit = context.booted.vm.start_timeout;
    let on_timeout = context.booted.vm.ready.on_timeout();
    tokio::select! {
        biased;
        running = running(context) => running.map(|()| StepExit::Done),
        // Not a failure by itself: a guest may power off at once. systemd knows the VMM's exit code,
        // and `post` finds out about a crash.
        () = process.ended() => {
            tracing::warn!("the VMM ended before its VM was ready");
            Ok(StepExit::Done)
        }
        () = tokio::time::sleep(limit.duration()) => match on_timeout {
            OnTimeout::Continue => {
                tracing::warn!("the VM does not run after {limit}; it goes on nevertheless");
                Ok(StepExit::Done)
            }
            OnTimeout::Fail => {
                tracing::error!("the VM does not run after {limit}, and `ready` says to fail then");
                Ok(StepExit::Failed)
            }
        },
    }
}

/// Returns when the guest's vCPUs run.
async fn running(context: &Context) -> anyhow::Result<()> {
    let socket = api_socket(&context.runtime_directory);
    let vmm = Vmm::new(&socket);
    // Watched before the first look, so that the socket cannot appear in between unseen.
    let watch =
        Watch::new(&context.runtime_directory).context("cannot watch the runtime directory")?;
    loop {
        match vmm.state().await {
            // A guest that has powered off by now is no failure of its start.
            Ok(VmState::Running | VmState::Paused | VmState::BreakPoint | VmState::Shutdown) => {
                return size(&vmm, context).await;
            }
            Ok(VmState::Created) => tokio::time::sleep(INTERVAL).await,
            Err(VmmError::Absent { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                watch.changed().await?;
            }
            // The socket is there before anybody listens on it; after its VMM has died too, which
            // is for the caller to see.
            Err(VmmError::Absent { source, .. })
                if source.kind() == io::ErrorKind::ConnectionRefused =>
            {
                tokio::time::sleep(INTERVAL).await;
            }
            // It is up, and has not made its VM yet.
            Err(VmmError::Refused { .. } | VmmError::Http { .. }) => {
                tokio::time::sleep(INTERVAL).await;
            }
            Err(err) => bail!(err),
        }
    }
}

/// Gives the VM what it had when it ran last: what was changed while it ran is in its booted
/// specification, and not on its command line.
pub(super) async fn size(vmm: &Vmm, context: &Context) -> anyhow::Result<()> {
    let vm = &context.booted.vm;
    let sized = async {
        vmm.resize(vm.vcpus.boot.get().into(), vm.memory.size.bytes())
            .await?;
        match &vm.memory.balloon {
            Some(balloon) => vmm.resize_balloon(balloon.size.bytes()).await,
            None => Ok(()),
        }
    };
    match sized.await {
        // It has ended by now, which is no failure of its start.
        Ok(()) | Err(VmmError::Absent { .. } | VmmError::Http { .. }) => Ok(()),
        // The VM runs; that it is not as large as before is for somebody to know, no reason to end it.
        Err(err) => {
            tracing::warn!("cannot give the VM its vCPUs, memory and balloon: {err}");
            Ok(())
        }
    }
}
