//! `ExecStartPost=+` of a VM that starts from a snapshot: its guest goes on, once.
//!
//! The record of the restore is renamed before that, and whoever cannot rename it leaves the guest as it is: the
//! memory of a snapshot goes with the disks of that snapshot, and those change from here on.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};

use super::process::MainProcess;
use super::{Context, StepExit, ready, stop_marker};
use crate::files;
use crate::hypervisor::api_socket;
use crate::snapshot::went_on;
use crate::vmm::{VmState, Vmm, VmmError};

/// Between two questions to the VMM, which has no event for it.
const INTERVAL: Duration = Duration::from_millis(10);

pub(super) async fn restored(context: &Context, record: &Utf8Path) -> anyhow::Result<StepExit> {
    files::remove(&stop_marker(&context.runtime_directory))?;
    let process = MainProcess::of_unit().context("cannot watch the VMM's process")?;
    let vmm = Vmm::new(&api_socket(&context.runtime_directory));
    tokio::select! {
        biased;
        still = stands_still(&vmm) => still?,
        () = process.ended() => bail!("the VMM ended before its VM was restored"),
    }
    take(record)?;
    vmm.resume().await.context("cannot let the guest go on")?;
    ready::size(&vmm, context).await?;
    Ok(StepExit::Done)
}

/// Returns when the VMM has restored its VM. systemd's timeout ends this.
async fn stands_still(vmm: &Vmm) -> anyhow::Result<()> {
    loop {
        match vmm.state().await {
            Ok(VmState::Paused) => return Ok(()),
            // While it reads the memory it answers nothing.
            Ok(VmState::Created)
            | Err(
                VmmError::Hangs { .. }
                | VmmError::Absent { .. }
                | VmmError::Refused { .. }
                | VmmError::Http { .. },
            ) => {
                tokio::time::sleep(INTERVAL).await;
            }
            Ok(other) => bail!("its VM is `{}`, and not paused", other.word()),
            Err(err) => bail!(err),
        }
    }
}

fn take(record: &Utf8Path) -> anyhow::Result<()> {
    // As PID 1 has it: in the unit's own mount namespace all else may be read-only.
    let record = Utf8PathBuf::from(format!("/proc/1/root{record}"));
    let taken = went_on(&record);
    fs::rename(&record, &taken).with_context(|| {
        format!(
            "{record} cannot be taken: this snapshot was restored before, and its memory does not go with \
             the disks as they are now"
        )
    })?;
    let directory = record.parent().unwrap_or(&record);
    files::sync_directory(directory).with_context(|| format!("cannot sync {directory}"))
}
