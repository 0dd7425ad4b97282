//! `nkudo pause` and `resume`: a VM's vCPUs.

use anyhow::{Context as _, bail};
use camino::Utf8PathBuf;

use crate::apply::Doing;
use crate::files;
use crate::host::VmId;
use crate::observe::paused_directory;
use crate::vmm::{VmState, Vmm, VmmError};

use super::fetched::lock_vm;
use super::{Exit, block_on};

pub fn pause(id: &VmId) -> anyhow::Result<Exit> {
    // Who takes a snapshot lets it go on afterwards.
    let _own = lock_vm(id, Doing::Pause)?;
    let vmm = Vmm::of(id);
    block_on(async {
        match state(&vmm, id).await? {
            VmState::Paused => {
                tracing::info!(nkudo_vm = %id, "{id} is paused already");
                return mark(id);
            }
            VmState::Running => {}
            other => bail!(
                "{id} cannot be paused: its VMM says that it is `{}`",
                other.word()
            ),
        }
        // First: a status asks whoever is named there, and believes the VMM.
        mark(id)?;
        vmm.pause()
            .await
            .with_context(|| format!("cannot pause {id}"))?;
        tracing::info!(nkudo_vm = %id, "paused {id}; `nkudo resume {id}` lets it go on");
        Ok(())
    })?;
    Ok(Exit::Done)
}

pub fn resume(id: &VmId) -> anyhow::Result<Exit> {
    let _own = lock_vm(id, Doing::Resume)?;
    let vmm = Vmm::of(id);
    block_on(async {
        if state(&vmm, id).await? == VmState::Running {
            tracing::info!(nkudo_vm = %id, "{id} is not paused");
        } else {
            vmm.resume()
                .await
                .with_context(|| format!("cannot resume {id}"))?;
            tracing::info!(nkudo_vm = %id, "resumed {id}");
        }
        files::remove(&marker(id)).with_context(|| format!("cannot remove {}", marker(id)))
    })?;
    Ok(Exit::Done)
}

async fn state(vmm: &Vmm, id: &VmId) -> anyhow::Result<VmState> {
    match vmm.state().await {
        Ok(state) => Ok(state),
        Err(VmmError::Absent { .. }) => {
            bail!("VM {id} does not run\nhint: `nkudo status {id}` says why")
        }
        Err(err) => Err(err).with_context(|| format!("cannot ask the VMM of {id}")),
    }
}

fn mark(id: &VmId) -> anyhow::Result<()> {
    let path = marker(id);
    let make = || {
        files::ensure_directory(&paused_directory(), 0o700)?;
        files::replace(&path, b"", 0o600)
    };
    make().with_context(|| format!("cannot write {path}"))
}

fn marker(id: &VmId) -> Utf8PathBuf {
    paused_directory().join(id.as_str())
}
