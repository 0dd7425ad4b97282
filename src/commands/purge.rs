//! `nkudo purge`: removes disks that nobody declares any more.

use anyhow::{Context as _, bail};
use camino::Utf8Path;

use crate::booted::Booted;
use crate::cli::Purge;
use crate::disk::{self, DiskFile};
use crate::files;
use crate::generation::Store;
use crate::host::VmId;

use super::confirm::confirm;
use super::disk::{bytes, current_host, disks_state_dir, is_declared};
use super::fetched::lock;
use super::{Exit, state_dir};

pub fn run(purge: &Purge, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let _lock = lock()?;
    let id = &purge.id;
    let store = Store::new(&state_dir::state_dir(given));
    let current = current_host(&store)?;
    let state_dir = disks_state_dir(&store, current.as_ref())?;
    let found = disk::disk_files_of(&state_dir, id)?;
    let chosen = chosen(purge, &found)?;
    refuse_declared(purge, &store, &chosen)?;
    refuse_used(id, &chosen)?;
    for file in &chosen {
        tracing::info!("disk {} of {id}: {}", file.label(), told(file)?);
    }
    let count = match chosen.len() {
        1 => "this disk".to_owned(),
        more => format!("these {more} disks"),
    };
    let question = format!("Remove {count} for good?");
    if !confirm(&question, purge.yes)? {
        tracing::info!("nothing was removed");
        return Ok(Exit::Failed);
    }
    for file in &chosen {
        disk::remove(file)?;
        tracing::info!(nkudo_vm = %id, "removed disk {} of {id}", file.label());
    }
    Ok(Exit::Done)
}

fn chosen<'f>(purge: &Purge, found: &'f [DiskFile]) -> anyhow::Result<Vec<&'f DiskFile>> {
    let id = &purge.id;
    if found.is_empty() {
        bail!("VM {id} has no disks that nkudo made\nhint: `nkudo disk list` lists all disks");
    }
    if purge.disk.is_empty() {
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
fn refuse_declared(purge: &Purge, store: &Store, chosen: &[&DiskFile]) -> anyhow::Result<()> {
    let id = &purge.id;
    for (number, word) in [(store.current()?, "current"), (store.newest()?, "newest")] {
        let Some(number) = number else { continue };
        let host = store.manifest(number)?.host;
        if purge.disk.is_empty() && host.vms.contains_key(id) {
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
    let path = Booted::path(id);
    let json = files::read(&path).with_context(|| format!("cannot read {path}"))?;
    let booted = json.and_then(|json| Booted::from_json(&json).ok());
    let holders = crate::observe::holders(chosen.iter().map(|file| file.path.as_path()));
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
        if booted.as_ref().is_some_and(is_booted) && unit_is_loaded(id) {
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
