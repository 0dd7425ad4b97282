//! The snapshots that there are.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};

use super::{DISKS, GC_ROOTS, MANIFEST, Manifest, SEED, Unchanged, VMM};
use crate::disk;
use crate::files::{self, UNFINISHED};
use crate::generation::GcRoots;
use crate::host::{AbsolutePath, SnapshotName, VmId};
use crate::interruption::effect;

/// A snapshot.
#[derive(Debug, Clone)]
pub struct Kept {
    pub vm: VmId,
    pub name: SnapshotName,
    pub path: Utf8PathBuf,
    /// Why it cannot be read, where it cannot.
    pub manifest: Result<Manifest, String>,
    /// Bytes that it takes; blocks that it shares with the disks count.
    pub allocated: u64,
}

/// All of them.
pub fn kept(state_dir: &AbsolutePath) -> anyhow::Result<Vec<Kept>> {
    let parent = super::root(state_dir);
    let mut all = Vec::new();
    for name in files::names(&parent).with_context(|| format!("cannot list {parent}"))? {
        if let Ok(vm) = name.parse::<VmId>() {
            all.extend(kept_of(state_dir, &vm)?);
        }
    }
    Ok(all)
}

/// Those of one VM.
pub fn kept_of(state_dir: &AbsolutePath, vm: &VmId) -> anyhow::Result<Vec<Kept>> {
    let directory = super::directory(state_dir, vm);
    let names = files::names(&directory).with_context(|| format!("cannot list {directory}"))?;
    let mut found = Vec::new();
    for name in names {
        let path = directory.join(&name);
        let Ok(name) = name.parse::<SnapshotName>() else {
            continue;
        };
        if !path.is_dir() {
            continue;
        }
        found.push(Kept {
            vm: vm.clone(),
            name,
            manifest: read(&path),
            allocated: allocated(&path),
            path,
        });
    }
    Ok(found)
}

impl Kept {
    /// What is not as it was when the snapshot was taken: of the snapshot's own files, and of those that the VM
    /// reads and does not write.
    pub fn changed(&self, manifest: &Manifest) -> Vec<String> {
        let own = manifest
            .vmm
            .iter()
            .map(|(name, length)| (self.path.join(VMM).join(name), *length));
        let disks = manifest
            .disks
            .iter()
            .map(|disk| (self.path.join(DISKS).join(&disk.file), disk.length));
        let seed = manifest
            .seed
            .iter()
            .map(|length| (self.path.join(SEED), *length));
        let mut changed = Vec::new();
        for (path, length) in own.chain(disks).chain(seed) {
            match fs::metadata(&path) {
                Ok(file) if file.len() == length => {}
                Ok(file) => changed.push(format!(
                    "the snapshot: {path} has {} bytes instead of {length}",
                    file.len()
                )),
                Err(err) => changed.push(format!("the snapshot: {path}: {err}")),
            }
        }
        for Unchanged {
            path,
            length,
            modified,
        } in &manifest.unchanged
        {
            match fs::metadata(path.as_path()) {
                Ok(file) if file.len() == *length && disk::modified(&file) == *modified => {}
                Ok(_) => changed.push(format!("{path} was changed since")),
                Err(err) => changed.push(format!("{path}: {err}")),
            }
        }
        changed
    }
}

fn read(path: &Utf8Path) -> Result<Manifest, String> {
    let json = files::read(&path.join(MANIFEST)).map_err(|err| err.to_string())?;
    let json = json.ok_or_else(|| format!("there is no {MANIFEST}"))?;
    Manifest::from_json(&json).map_err(|err| err.to_string())
}

fn allocated(directory: &Utf8Path) -> u64 {
    let entries = directory.read_dir_utf8().into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(file) if file.is_dir() => allocated(entry.path()),
            Ok(file) => file.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// Removes a snapshot for good, and the directory of a VM that has no other.
pub fn remove(snapshot: &Kept) -> anyhow::Result<()> {
    let path = &snapshot.path;
    let directory = path.parent().unwrap_or(path);
    let removing = || -> std::io::Result<()> {
        if let Some(roots) = GcRoots::new(&path.join(GC_ROOTS))? {
            roots.remove()?;
        }
        // Under its own name there is a whole one or none.
        let away = directory.join(format!("{UNFINISHED}{}", snapshot.name));
        remove_tree(&away)?;
        fs::rename(path, &away)?;
        effect();
        remove_tree(&away)?;
        files::sync_directory(directory)?;
        files::remove_if_empty(directory)
    };
    removing().with_context(|| format!("cannot remove {path}"))
}

/// Removes what runs that were killed have left.
pub(super) fn sweep(directory: &Utf8Path) -> anyhow::Result<()> {
    let names = files::names(directory).with_context(|| format!("cannot list {directory}"))?;
    for name in names.iter().filter(|name| name.starts_with(UNFINISHED)) {
        let path = directory.join(name);
        remove_tree(&path).with_context(|| format!("cannot remove {path}"))?;
    }
    Ok(())
}

/// Links in it are not followed.
pub(super) fn remove_tree(path: &Utf8Path) -> std::io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(file) if file.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(err) => Err(err),
    };
    match removed {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => {
            effect();
            other
        }
    }
}
