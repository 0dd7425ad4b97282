//! Every disk file in `vms/`, those that were set aside among them, and what is done with a whole file.

use std::fs;

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};

use crate::files;
use crate::host::{AbsolutePath, DiskFormat, DiskName, VmId};

/// Between a disk's name and the number under which it was set aside: no name holds a `.`.
const ASIDE: &str = ".old-";

/// A file that nkudo made as a disk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiskFile {
    pub vm: VmId,
    pub name: DiskName,
    /// Which one it is of those that `nkudo recreate` set aside; `None` is the disk itself.
    pub aside: Option<u32>,
    pub path: Utf8PathBuf,
    /// `false` is qcow2.
    pub is_raw: bool,
}

impl DiskFile {
    /// What it is called: `data`, `root.old-1`.
    pub fn label(&self) -> String {
        stem(&self.name, self.aside)
    }

    pub fn format(&self) -> DiskFormat {
        if self.is_raw {
            DiskFormat::Raw
        } else {
            DiskFormat::Qcow2
        }
    }

    /// Its record.
    pub fn record_path(&self) -> Utf8PathBuf {
        self.path.with_file_name(format!("{}.json", self.label()))
    }
}

fn stem(name: &DiskName, aside: Option<u32>) -> String {
    match aside {
        Some(number) => format!("{name}{ASIDE}{number}"),
        None => name.to_string(),
    }
}

/// All of them.
pub fn disk_files(state_dir: &AbsolutePath) -> anyhow::Result<Vec<DiskFile>> {
    let parent = state_dir.as_path().join("vms");
    let mut all = Vec::new();
    for vm in files::names(&parent).with_context(|| format!("cannot list {parent}"))? {
        if let Ok(vm) = vm.parse::<VmId>() {
            all.extend(disk_files_of(state_dir, &vm)?);
        }
    }
    Ok(all)
}

/// Those of one VM.
pub fn disk_files_of(state_dir: &AbsolutePath, vm: &VmId) -> anyhow::Result<Vec<DiskFile>> {
    let directory = super::directory(state_dir, vm);
    let names = files::names(&directory).with_context(|| format!("cannot list {directory}"))?;
    let file = |name: &String| {
        let (stem, extension) = name.rsplit_once('.')?;
        let is_raw = match extension {
            "raw" => true,
            "qcow2" => false,
            _ => return None,
        };
        let (name_of, aside) = match stem.split_once(ASIDE) {
            Some((of, number)) => (of, Some(number.parse().ok()?)),
            None => (stem, None),
        };
        Some(DiskFile {
            vm: vm.clone(),
            name: name_of.parse().ok()?,
            aside,
            path: directory.join(name),
            is_raw,
        })
    };
    let mut found: Vec<DiskFile> = names.iter().filter_map(file).collect();
    found.sort();
    Ok(found)
}

/// Gives a disk another name, under which no VM has it; the file as it is there.
pub fn set_aside(state_dir: &AbsolutePath, file: &DiskFile) -> anyhow::Result<DiskFile> {
    let aside = aside(&disk_files_of(state_dir, &file.vm)?, file);
    rename(file, &aside)?;
    Ok(aside)
}

/// The name under which a disk would be set aside, of these that there are.
pub fn aside(taken: &[DiskFile], file: &DiskFile) -> DiskFile {
    let taken = taken.iter().filter(|other| other.name == file.name);
    let number = taken.filter_map(|other| other.aside).max().unwrap_or(0) + 1;
    let label = stem(&file.name, Some(number));
    DiskFile {
        aside: Some(number),
        path: file
            .path
            .with_file_name(format!("{label}.{}", file.format())),
        ..file.clone()
    }
}

/// The opposite of `set_aside`.
pub fn put_back(aside: &DiskFile) -> anyhow::Result<()> {
    let file = DiskFile {
        aside: None,
        path: aside
            .path
            .with_file_name(super::file_name(&aside.name, aside.format())),
        ..aside.clone()
    };
    if file.path.exists() {
        bail!("{} is there already", file.path);
    }
    rename(aside, &file)
}

fn rename(from: &DiskFile, to: &DiskFile) -> anyhow::Result<()> {
    let directory = from.path.parent().unwrap_or(Utf8Path::new("/"));
    // The record first where it is missed least: without one a disk is still used as it is.
    let pairs = [
        (from.record_path(), to.record_path()),
        (from.path.clone(), to.path.clone()),
    ];
    for (from, to) in pairs {
        match fs::rename(&from, &to) {
            Err(err)
                if err.kind() == std::io::ErrorKind::NotFound
                    && from.extension() == Some("json") => {}
            renamed => renamed.with_context(|| format!("cannot rename {from} to {to}"))?,
        }
    }
    files::sync_directory(directory).with_context(|| format!("cannot sync {directory}"))
}

/// Removes a disk for good, its record after it, and the directory of a VM that has nothing left in it.
pub fn remove(file: &DiskFile) -> anyhow::Result<()> {
    for path in [file.path.clone(), file.record_path()] {
        files::remove(&path).with_context(|| format!("cannot remove {path}"))?;
    }
    if let Some(directory) = file.path.parent() {
        files::sync_directory(directory).with_context(|| format!("cannot sync {directory}"))?;
        // It may hold the state of other devices, or somebody's files.
        let _ = fs::remove_dir(directory);
    }
    Ok(())
}
