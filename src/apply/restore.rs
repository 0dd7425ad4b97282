//! Restores of snapshots that are under way: what a run that was killed has left is undone, or finished.

use std::time::Duration;

use anyhow::Context as _;
use camino::Utf8Path;

use super::Apply;
use super::live::write_unit;
use crate::files;
use crate::host::{AbsolutePath, Vm, VmId};
use crate::interruption::effect;
use crate::observe::booted;
use crate::seed;
use crate::snapshot::{Restoring, Undone, went_on};
use crate::systemd::{Interface, is_answer, property};
use crate::unit::{Restoration, TRANSIENT, vm_unit_name};

/// Between two looks at a start that somebody else waited for.
const INTERVAL: Duration = Duration::from_millis(50);

impl Apply<'_> {
    /// Ends every restore that is under way, and no nkudo is at.
    ///
    /// Where the guest has gone on, its unit becomes one like any other; where it has not, the VM's disks are
    /// what they were before.
    pub async fn settle_restores(&self, state_dir: &AbsolutePath) -> anyhow::Result<()> {
        for id in Restoring::all(state_dir)? {
            self.settle(state_dir, &id)
                .await
                .with_context(|| format!("cannot end the restore of {id} that was under way"))?;
        }
        Ok(())
    }

    async fn settle(&self, state_dir: &AbsolutePath, id: &VmId) -> anyhow::Result<()> {
        let record = Restoring::path(state_dir, id);
        let went_on = went_on(&record);
        if is_restored_one(id, &record) {
            // systemd starts it, whatever became of who asked for that.
            while !went_on.exists() && self.is_starting(id).await? {
                tokio::time::sleep(INTERVAL).await;
            }
        }
        if went_on.exists() {
            self.become_as_any(id, &record).await?;
            return remove(&went_on);
        }
        if is_restored_one(id, &record) {
            self.unload_vm(id).await?;
        }
        let Some(restoring) = Restoring::read(state_dir, id)? else {
            return Ok(());
        };
        if restoring.undo(state_dir)? == Undone::Disks {
            tracing::warn!(
                nkudo_vm = %id,
                "the restore of {id} to {} was not finished: its disks are as they were before",
                restoring.snapshot
            );
        }
        Ok(())
    }

    async fn is_starting(&self, id: &VmId) -> anyhow::Result<bool> {
        let Some(path) = self.loaded(&vm_unit_name(id)).await? else {
            return Ok(false);
        };
        let bus = &self.connections.bus;
        match property::<String>(bus, &path, Interface::Unit, "ActiveState").await {
            Ok(state) => Ok(state == "activating"),
            // It has ended by now.
            Err(err) if is_answer(&err) => Ok(false),
            Err(err) => Err(err).context("cannot ask systemd for its state"),
        }
    }

    /// Makes a unit whose guest has gone on be one that boots at its next start.
    async fn become_as_any(&self, id: &VmId, record: &Utf8Path) -> anyhow::Result<()> {
        if is_restored_one(id, record) {
            write_unit(&booted(id)?)?;
            effect();
        }
        // Also where a run that was killed has written it and no more.
        if self.loaded(&vm_unit_name(id)).await?.is_some() {
            self.connections.manager.reload().await.context(
                "systemd does not read its units anew, so that it would restore the snapshot once more",
            )?;
            effect();
        }
        Ok(())
    }
}

/// Whether a VM's unit is that of one which starts from a snapshot: only that names the record.
fn is_restored_one(id: &VmId, record: &Utf8Path) -> bool {
    let path = Utf8Path::new(TRANSIENT).join(vm_unit_name(id));
    let text = files::read(&path).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&text).contains(&format!("--record={record}"))
}

/// Puts the seed of the snapshot where the VM has its own: the guest may have read some of it, and not all.
pub(super) fn put_seed(id: &VmId, vm: &Vm, restoration: &Restoration) -> anyhow::Result<()> {
    let (Some(from), Some(disk)) = (&restoration.seed, seed::disk(id, vm)) else {
        return Ok(());
    };
    let bytes = files::read(from).with_context(|| format!("cannot read {from}"))?;
    let bytes = bytes.with_context(|| format!("{from} is gone"))?;
    files::replace(disk.path.as_path(), &bytes, 0o600)
        .with_context(|| format!("cannot write {}", disk.path))
}

fn remove(path: &Utf8Path) -> anyhow::Result<()> {
    files::remove(path).with_context(|| format!("cannot remove {path}"))
}
