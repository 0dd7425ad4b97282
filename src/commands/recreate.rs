//! `nkudo recreate`: makes a VM's disks anew from what is declared now, and keeps the old ones.

use anyhow::{Context as _, bail};
use camino::Utf8Path;

use crate::apply::{self, Hold};
use crate::cli::Recreate;
use crate::disk::{self, DiskFile, Making, Place};
use crate::generation::{Manifest, Store};
use crate::host::{DiskName, Host, ImageFile, VmId};
use crate::image;
use crate::observe;
use crate::plan::Request;

use super::carry_out::{Mode, carry_out};
use super::confirm::confirm;
use super::current::current;
use super::fetched::{Fetched, Turn, lock_with, until_free};
use super::restore::refuse_unsettled;
use super::{Exit, block_on, state_dir};

pub fn run(recreate: &Recreate, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let id = &recreate.id;
    let store = Store::new(&state_dir::state_dir(given));
    let (number, manifest, old) = order(recreate, &store)?;
    for file in &old {
        tracing::info!(
            "disk {} of {id}: {} is kept aside, and a new one made from what is declared",
            file.label(),
            file.path
        );
    }
    let question = format!("Restart {id} with new disks?");
    if !confirm(&question, recreate.yes)? {
        tracing::info!("nothing was changed");
        return Ok(Exit::Failed);
    }
    // Nobody is kept waiting for an answer and for a server.
    get_images(&manifest.host, id)
        .with_context(|| format!("cannot make the new disks of {id}; nothing was changed"))?;
    let _lock = lock_with(id)?;
    if order(recreate, &store)? != (number, manifest.clone(), old.clone()) {
        bail!("the host or {id} has changed meanwhile; nothing was changed");
    }
    let held = Hold::of(id)?;
    let change = |request: Request| {
        let directory = store.directory(number);
        loop {
            let mut fetched = Fetched::default();
            let work = carry_out(
                manifest.clone(),
                number,
                &directory,
                &request,
                Mode::Do,
                &mut fetched,
            );
            match block_on(work)? {
                Turn::Done(ended) => return Ok(ended.exit()),
                Turn::Waits(id) => until_free(&id)?,
                Turn::Lacks(lacking) => {
                    let names: Vec<&str> = lacking.names().into_iter().collect();
                    bail!("it needs images that are gone: {}", names.join(", "))
                }
            }
        }
    };
    // What takes long first, while it runs; a mistake in the image shows here too.
    let making = stage(&manifest, id, &old)
        .with_context(|| format!("cannot make the new disks of {id}; nothing was changed"))?;
    let stopped = change(Request::Stop(id.clone()))?;
    if stopped != Exit::Done {
        return Ok(stopped);
    }
    let state_dir = &manifest.host.state_dir;
    let mut aside = Vec::new();
    for file in &old {
        aside.push(disk::set_aside(state_dir, file)?);
    }
    for making in making {
        disk::place(making)?;
    }
    let released = held.release(id);
    let started = match &released {
        Ok(()) => change(Request::Start(id.clone())),
        Err(_) => Ok(Exit::VmsFailed),
    };
    // Somebody who stopped it meanwhile has said nothing about its disks.
    let stays_stopped = released.is_err() || apply::held_by(id)?.is_some();
    if matches!(started, Ok(Exit::Done)) || stays_stopped {
        for file in &aside {
            tracing::info!(
                nkudo_vm = %id,
                "the old disk is {}; `nkudo purge {id} --disk {}` removes it",
                file.path,
                file.label()
            );
        }
        return released.and(started);
    }
    if let Err(err) = &started {
        tracing::error!("{err:#}");
    }
    tracing::warn!(nkudo_vm = %id, "{id} does not start with new disks: the old ones are put back");
    change(Request::Stop(id.clone()))?;
    for file in &aside {
        // What was made a moment ago, and never booted.
        let new = disk::disk_files_of(state_dir, id)?;
        let new = new
            .iter()
            .filter(|new| new.aside.is_none() && new.name == file.name);
        for new in new {
            disk::remove(new)?;
        }
        disk::put_back(file)?;
    }
    change(Request::Start(id.clone()))?;
    Ok(Exit::VmsFailed)
}

/// The current generation, and what is to be replaced.
fn order(recreate: &Recreate, store: &Store) -> anyhow::Result<(u64, Manifest, Vec<DiskFile>)> {
    let (number, manifest) = current(store)?;
    refuse_unsettled(&manifest.host.state_dir, &recreate.id)?;
    let old = chosen(recreate, &manifest, number)?;
    Ok((number, manifest, old))
}

/// Gets the images of all of the VM's disks.
fn get_images(host: &Host, id: &VmId) -> anyhow::Result<()> {
    let store = image::Store::new(&host.state_dir);
    let disks = host.vms.get(id).into_iter().flat_map(|vm| &vm.disks);
    for name in disks.filter_map(|disk| disk.origin.image()) {
        let Some(image) = host.images.get(name) else {
            continue;
        };
        for file in image.files() {
            if let ImageFile::Stored(file) = file {
                store.ensure(file, name.as_str())?;
            }
        }
        if image.inside().is_some() {
            store.ensure_kernel(image, name.as_str())?;
        }
    }
    Ok(())
}

/// Makes the new disks beside the old ones.
fn stage<'m>(
    manifest: &'m Manifest,
    id: &'m VmId,
    old: &[DiskFile],
) -> anyhow::Result<Vec<Making<'m>>> {
    let host = &manifest.host;
    disk::remove_unfinished(&disk::directory(&host.state_dir, id))?;
    let mut staged = Vec::new();
    let disks = host.vms.get(id).into_iter().flat_map(|vm| &vm.disks);
    for disk in disks.filter(|disk| old.iter().any(|file| file.name == disk.name)) {
        let making = Making {
            host,
            id,
            disk,
            place: Place::Staged,
        };
        disk::make(making).with_context(|| format!("disk {}", disk.name))?;
        staged.push(making);
    }
    Ok(staged)
}

/// The files that are to be replaced.
fn chosen(recreate: &Recreate, manifest: &Manifest, number: u64) -> anyhow::Result<Vec<DiskFile>> {
    let id = &recreate.id;
    let host = &manifest.host;
    let vm = host.vms.get(id).with_context(|| {
        format!(
            "the current generation, {number}, has no VM {id}\nhint: `nkudo status` lists the VMs"
        )
    })?;
    let made = || vm.disks.iter().filter(|disk| disk.origin.is_made());
    for name in &recreate.disk {
        if !made().any(|disk| disk.name == *name) {
            let names: Vec<&str> = made().map(|disk| disk.name.as_str()).collect();
            bail!(
                "VM {id} has no disk {name} that nkudo makes; there are: {}",
                names.join(", ")
            );
        }
    }
    let seen = observe::disks(&host.state_dir)?;
    let differs = |name: &DiskName| {
        let disk = vm.disks.iter().find(|disk| disk.name == *name);
        let made = seen.get(id).and_then(|disks| disks.get(name));
        disk.zip(made)
            .is_some_and(|(disk, made)| crate::plan::differs_from_made(host, disk, made))
    };
    let files = disk::disk_files_of(&host.state_dir, id)?;
    let chosen: Vec<DiskFile> = files
        .into_iter()
        .filter(|file| file.aside.is_none() && made().any(|disk| disk.name == file.name))
        .filter(|file| match recreate.disk.as_slice() {
            [] => differs(&file.name),
            names => names.contains(&file.name),
        })
        .collect();
    if chosen.is_empty() {
        bail!(
            "every disk of {id} is as it is declared, or not made yet\n\
             hint: `--disk NAME` makes one anew in any case"
        );
    }
    Ok(chosen)
}
