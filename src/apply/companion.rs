//! What a VM's companions need before they start: directories, and free names.

use std::fs;
use std::io;

use anyhow::{Context as _, bail};
use camino::Utf8Path;
use zbus::Variant;

use super::{Apply, run_files};
use crate::connections::Connections;
use crate::files;
use crate::host::{Vm, VmId};
use crate::systemd::{Jobs, transient_properties};
use crate::unit::{
    companion_root, companions, companions_directory, readiness_unit_name, sockets_directory,
};

/// A unit of StartTransientUnit's `aux`.
pub(super) type Auxiliary = (String, Vec<(String, Variant<'static>)>);

impl Apply<'_> {
    /// Frees the names of the VM's companions, makes their directories, and returns their units.
    pub(super) async fn prepare_companions(
        &self,
        id: &VmId,
        vm: &Vm,
    ) -> anyhow::Result<Vec<Auxiliary>> {
        for share in &vm.shares {
            let source = share.source.as_path();
            if !source.is_dir() {
                bail!(
                    "{source}, the source of its share {}, is no directory",
                    share.tag
                );
            }
        }
        if let Some(state) = &vm.tpm {
            let state = state.as_path();
            // swtpm keeps the keys of the guest's disks there.
            files::ensure_directory(state, 0o700)
                .with_context(|| format!("cannot make the directory of its TPM, {state}"))?;
        }
        let mut units = Vec::new();
        for unit in companions(id, vm, &self.wanted.programs) {
            self.unload(&unit.name).await?;
            let root = companion_root(&unit.name, id);
            for directory in [&sockets_directory(id), &root, &root.join("root")] {
                files::ensure_directory(directory, 0o755)
                    .with_context(|| format!("cannot make {directory}"))?;
            }
            let properties = transient_properties(unit.properties(), Vec::new());
            units.push((unit.name, properties));
        }
        Ok(units)
    }
}

impl Connections {
    /// Stops what is left of a VM's companions. systemd does it by itself, but not to one that waits for
    /// its restart at that moment.
    pub(super) async fn stop_companions(&self, jobs: &Jobs, id: &VmId) -> anyhow::Result<()> {
        // A VM that has had none has no such directory, and costs no call.
        if !companions_directory().join(id.as_str()).is_dir() {
            return Ok(());
        }
        let patterns = [
            format!("nkudo-virtiofsd@{id}.*.service"),
            format!("nkudo-swtpm@{id}.service"),
            readiness_unit_name(id),
        ];
        let patterns = patterns.each_ref().map(String::as_str);
        let loaded = self.manager.list_units_by_patterns(&[], &patterns);
        for listing in loaded.await.context("cannot list the VM's companions")? {
            self.unload(jobs, &listing.0).await?;
        }
        Ok(())
    }
}

impl Apply<'_> {
    pub(super) async fn stop_companions(&self, id: &VmId) -> anyhow::Result<()> {
        self.connections.stop_companions(self.jobs, id).await
    }

    /// Removes all of a VM that does not run and is in no file any more.
    pub(super) async fn clean(&self, id: &VmId) -> anyhow::Result<()> {
        self.stop_companions(id).await?;
        run_files::remove(id)
    }
}

/// Removes what they had in /run/nkudo. The state of a TPM is kept, as disks are.
pub(super) fn remove(id: &VmId) -> anyhow::Result<()> {
    let sockets = sockets_directory(id);
    // virtiofsd leaves a file with its PID beside its socket.
    remove_all(&sockets).with_context(|| format!("cannot remove {sockets}"))?;
    let directory = companions_directory().join(id.as_str());
    files::remove_empty_tree(&directory).with_context(|| format!("cannot remove {directory}"))
}

fn remove_all(directory: &Utf8Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
