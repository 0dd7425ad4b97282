//! `nkudo purge`: removes disks and TPMs that nobody declares any more, and snapshots.

use anyhow::{Context as _, bail};
use camino::Utf8Path;

use crate::booted::Booted;
use crate::cli::Purge;
use crate::disk::{self, DiskFile};
use crate::generation::Store;
use crate::host::VmId;
use crate::observe::{self, Specification};
use crate::snapshot::{self, Kept};

use super::confirm::confirm;
use super::current::{current_host, disks_state_dir};
use super::disk::is_declared;
use super::fetched::lock_with;
use super::restore::refuse_unsettled;
use super::words::bytes;
use super::{Exit, state_dir};

pub fn run(purge: &Purge, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let id = &purge.id;
    let _lock = lock_with(id)?;
    let store = Store::new(&state_dir::state_dir(given));
    let current = current_host(&store)?;
    let state_dir = disks_state_dir(&store, current.as_ref())?;
    refuse_unsettled(&state_dir, id)?;
    let found = disk::disk_files_of(&state_dir, id)?;
    let taken = snapshot::kept_of(&state_dir, id)?;
    let all = purge.disk.is_empty() && purge.snapshot.is_empty();
    // It is of no use without the disks that it has the keys of.
    let tpm = Some(disk::directory(&state_dir, id).join("tpm")).filter(|path| all && path.exists());
    if found.is_empty() && taken.is_empty() && tpm.is_none() {
        bail!(
            "VM {id} has no disks that nkudo made, and no snapshots\n\
             hint: `nkudo disk list` lists all disks, `nkudo snapshots` all snapshots"
        );
    }
    let chosen = chosen(purge, &found, all)?;
    let snapshots = chosen_snapshots(purge, &taken, all)?;
    if all || !chosen.is_empty() {
        refuse_declared(purge, &store, &chosen, all)?;
    }
    refuse_used(id, &chosen)?;
    if let Some(path) = tpm.as_ref().filter(|_| unit_is_loaded(id)) {
        bail!("VM {id} runs with its TPM, {path}; nothing was removed\nhint: stop it first");
    }
    for file in &chosen {
        tracing::info!("disk {} of {id}: {}", file.label(), told(file)?);
    }
    for one in &snapshots {
        let allocated = bytes(one.allocated);
        tracing::info!(
            "snapshot {} of {id}: {}, {allocated} allocated",
            one.name,
            one.path
        );
    }
    if let Some(path) = &tpm {
        tracing::info!("the state of the TPM of {id}: {path}");
    }
    let question = format!(
        "Remove {} for good?",
        counted(&chosen, &snapshots, tpm.is_some())
    );
    if !confirm(&question, purge.yes)? {
        tracing::info!("nothing was removed");
        return Ok(Exit::Failed);
    }
    for file in &chosen {
        disk::remove(file)?;
        tracing::info!(nkudo_vm = %id, "removed disk {} of {id}", file.label());
    }
    for one in &snapshots {
        snapshot::remove(one)?;
        tracing::info!(nkudo_vm = %id, "removed snapshot {} of {id}", one.name);
    }
    if let Some(path) = &tpm {
        std::fs::remove_dir_all(path).with_context(|| format!("cannot remove {path}"))?;
        tracing::info!(nkudo_vm = %id, "removed the state of the TPM of {id}");
    }
    if all {
        // Where something of somebody else's is in it, it stays.
        let _ = std::fs::remove_dir(disk::directory(&state_dir, id));
    }
    Ok(Exit::Done)
}

/// `this disk`, `these 2 disks and this snapshot`.
fn counted(disks: &[&DiskFile], snapshots: &[&Kept], tpm: bool) -> String {
    let some = |count: usize, what: &str| match count {
        0 => None,
        1 => Some(format!("this {what}")),
        more => Some(format!("these {more} {what}s")),
    };
    let all = [
        some(disks.len(), "disk"),
        some(snapshots.len(), "snapshot"),
        some(usize::from(tpm), "TPM's state"),
    ];
    let all: Vec<String> = all.into_iter().flatten().collect();
    all.join(" and ")
}

fn chosen_snapshots<'k>(
    purge: &Purge,
    taken: &'k [Kept],
    all: bool,
) -> anyhow::Result<Vec<&'k Kept>> {
    if all {
        return Ok(taken.iter().collect());
    }
    let id = &purge.id;
    let mut chosen = Vec::new();
    for name in &purge.snapshot {
        let one = taken.iter().find(|one| one.name == *name);
        chosen.push(one.with_context(|| {
            format!(
                "VM {id} has no snapshot {name}\nhint: `nkudo snapshots {id}` lists those that there are"
            )
        })?);
    }
    Ok(chosen)
}

fn chosen<'f>(
    purge: &Purge,
    found: &'f [DiskFile],
    all: bool,
) -> anyhow::Result<Vec<&'f DiskFile>> {
    let id = &purge.id;
    if all {
        return Ok(found.iter().collect());
    }
    let mut chosen = Vec::new();
    for name in &purge.disk {
        let file = found.iter().find(|file| file.label() == *name);
        chosen.push(file.with_context(|| {
            let there: Vec<String> = found.iter().map(DiskFile::label).collect();
            format!("VM {id} has no disk {name}; there are {}", there.join(", "))
        })?);
    }
    Ok(chosen)
}

/// What a generation declares that is current, or that the next switch goes to, is not unused.
fn refuse_declared(
    purge: &Purge,
    store: &Store,
    chosen: &[&DiskFile],
    all: bool,
) -> anyhow::Result<()> {
    let id = &purge.id;
    for (number, word) in [(store.current()?, "current"), (store.newest()?, "newest")] {
        let Some(number) = number else { continue };
        let host = store.manifest(number)?.host;
        if all && host.vms.contains_key(id) {
            bail!(
                "VM {id} is declared in the {word} generation, {number}; nothing was removed\n\
                 hint: remove it from the file and switch, or name an unused disk with `--disk`"
            );
        }
        if let Some(file) = chosen.iter().find(|file| is_declared(&host, file)) {
            bail!(
                "disk {} of {id} is declared in the {word} generation, {number}; nothing was removed\n\
                 hint: remove it from the file and switch first",
                file.label()
            );
        }
    }
    Ok(())
}

/// A VM that runs on may still have it, if its stop failed.
fn refuse_used(id: &VmId, chosen: &[&DiskFile]) -> anyhow::Result<()> {
    let booted = match observe::specification(id)? {
        Specification::Known(booted) => Some(booted),
        Specification::Absent | Specification::Unreadable => None,
    };
    let holders = observe::holders(chosen.iter().map(|file| file.path.as_path()));
    for file in chosen {
        if let Some(holder) = holders.get(&file.path) {
            bail!(
                "disk {} of {id} is in use by process {} ({}); nothing was removed",
                file.label(),
                holder.pid,
                holder.command
            );
        }
        let is_booted = |booted: &Booted| booted.vm.files().any(|used| used.as_path() == file.path);
        if booted.as_deref().is_some_and(is_booted) && unit_is_loaded(id) {
            bail!(
                "VM {id} runs with its disk {}; nothing was removed\nhint: stop it first",
                file.label()
            );
        }
    }
    Ok(())
}

/// systemd has a file of each transient unit that is loaded.
fn unit_is_loaded(id: &VmId) -> bool {
    let unit = crate::unit::vm_unit_name(id);
    Utf8Path::new(crate::unit::TRANSIENT).join(unit).exists()
}

fn told(file: &DiskFile) -> anyhow::Result<String> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata =
        std::fs::metadata(&file.path).with_context(|| format!("cannot look at {}", file.path))?;
    Ok(format!(
        "{}, {} allocated",
        file.path,
        bytes(metadata.blocks() * 512)
    ))
}
