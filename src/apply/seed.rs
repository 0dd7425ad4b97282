//! The seed's volume, in /run/nkudo/seeds.

use anyhow::Context as _;

use super::Apply;
use crate::files;
use crate::host::{Vm, VmId};
use crate::seed;

impl Apply<'_> {
    /// Makes the volume of the generation's files, as the VM is to have it at its next start; removes it
    /// where the VM has none. A VM that runs keeps the one that it has open.
    pub(super) fn ensure_seed(&self, id: &VmId, vm: &Vm) -> anyhow::Result<()> {
        let Some(disk) = seed::disk(id, vm) else {
            return remove(id);
        };
        let directory = self.directory.join(seed::directory(id));
        let mut contents = Vec::new();
        for name in seed::FILES {
            let path = directory.join(name);
            let bytes = files::read(&path).with_context(|| format!("cannot read {path}"))?;
            let bytes = bytes.with_context(|| {
                format!("{path} is gone; `nkudo render` makes the generation anew")
            })?;
            contents.push((name, bytes));
        }
        let contents = contents
            .iter()
            .map(|(name, bytes)| (*name, bytes.as_slice()));
        let volume = seed::volume(contents)?;
        let path = disk.path.as_path();
        if files::read(path).ok().flatten().as_deref() == Some(volume.as_slice()) {
            return Ok(());
        }
        // It can hold secrets: the VM's own user is let in when the VM starts.
        files::replace(path, &volume, 0o600)
            .with_context(|| format!("cannot write the VM's seed {path}"))
    }
}

pub(super) fn remove(id: &VmId) -> anyhow::Result<()> {
    let path = seed::directory_of_volumes().join(format!("{id}.img"));
    files::remove(&path).with_context(|| format!("cannot remove {path}"))
}
