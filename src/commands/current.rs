//! The generation that the host was switched to last.

use anyhow::{Context as _, anyhow};

use crate::generation::{Manifest, Store};
use crate::host::{AbsolutePath, Host, VmId};

/// Its number and its manifest, for what makes no sense before the first switch.
pub(super) fn current(store: &Store) -> anyhow::Result<(u64, Manifest)> {
    store
        .current_manifest()?
        .context("this host was not switched to a generation yet; run `nkudo switch`")
}

/// What it declares; nothing before the first switch.
pub(super) fn current_host(store: &Store) -> anyhow::Result<Option<Host>> {
    let current = store.current_manifest()?;
    Ok(current.map(|(_, manifest)| manifest.host))
}

/// Where disks and images are: that of the current generation, which `--state-dir` does not change.
pub(super) fn disks_state_dir(store: &Store, host: Option<&Host>) -> anyhow::Result<AbsolutePath> {
    Ok(match host {
        Some(host) => host.state_dir.clone(),
        None => store.state_dir().as_str().parse()?,
    })
}

/// What is said of a VM that is neither declared nor there.
pub(super) fn no_such_vm(id: &VmId) -> anyhow::Error {
    anyhow!("there is no VM {id}\nhint: `nkudo status` lists the VMs")
}
