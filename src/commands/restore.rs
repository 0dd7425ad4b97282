//! `nkudo restore`: puts a VM back to a snapshot.

use std::time::Duration;

use anyhow::{Context as _, bail};
use camino::Utf8Path;

use crate::apply::Hold;
use crate::cli;
use crate::connections::Connections;
use crate::disk;
use crate::generation::{Manifest, Store};
use crate::host::{AbsolutePath, VmId};
use crate::observe::Hypervisor;
use crate::plan::Request;
use crate::snapshot::{self, Kept, Restoring, SEED, VMM};
use crate::unit::{Restoration, TRANSIENT, vm_unit_name};

use super::carry_out::{Ended, Mode, carry_out, carry_out_restoring, look, settle_restores};
use super::confirm::confirm;
use super::current::current;
use super::fetched::{Fetched, Turn, lock_with, until_free};
use super::words::moment_of;
use super::{Exit, block_on, state_dir};

/// So many bytes of memory are read in a second at least.
const SLOWEST: u64 = 50 << 20;

pub fn run(arguments: &cli::Restore, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let cli::SnapshotOf { id, name } = &arguments.of;
    let store = Store::new(&state_dir::state_dir(given));
    let (number, current, kept) = order(&arguments.of, &store)?;
    let manifest = readable(&kept)?;
    as_it_was(id, &kept, manifest, &current)?;
    let goes = if is_loaded(id) {
        "it runs: its memory is lost, and its disks as they are now are kept aside"
    } else {
        "its disks as they are now are kept aside"
    };
    tracing::info!(
        "snapshot {name} of {id}, taken {}; {goes}",
        moment_of(manifest.taken)
    );
    if !confirm(&format!("Put {id} back to it?"), arguments.yes)? {
        tracing::info!("nothing was changed");
        return Ok(Exit::Failed);
    }
    let _lock = lock_with(id)?;
    let held = Hold::of(id)?;
    let directory = store.directory(number);
    block_on(settle_restores(&current, number, &directory))?;
    let again = order(&arguments.of, &store)?;
    if (again.0, readable(&again.2)?) != (number, manifest) {
        bail!("the host or the snapshot has changed meanwhile; nothing was changed");
    }
    let disks = as_it_was(id, &kept, manifest, &current)?;
    let runs = is_loaded(id);
    let state_dir = &current.host.state_dir;
    let seed = kept.path.join(SEED);
    let restoration = Restoration {
        source: kept.path.join(VMM),
        nics: manifest.nics.clone(),
        record: Restoring::path(state_dir, id),
        boot_memory: manifest.booted.boot_memory,
        longer: Duration::from_secs(manifest.memory / SLOWEST),
        seed: manifest.seed.is_some().then_some(seed),
    };
    let change = |request: Request| {
        done(|| {
            let mut fetched = Fetched::default();
            block_on(carry_out_restoring(
                current.clone(),
                number,
                &directory,
                &request,
                Mode::Do,
                Some((id, &restoration)),
                &mut fetched,
            ))
        })
    };
    let restoring = Restoring::new(state_dir, &kept, manifest, &disks)?;
    restoring.write(state_dir)?;
    let started = (|| {
        // What takes long first, while it runs.
        restoring.stage()?;
        let stopped = change(Request::Stop(id.clone()))?;
        if stopped != Exit::Done {
            return Ok(stopped);
        }
        restoring.place()?;
        held.release(id)?;
        change(Request::Start(id.clone()))
    })();
    // The guest has gone on, or everything is as it was before: in both cases this says so by the record.
    block_on(settle_restores(&current, number, &directory))?;
    if matches!(started, Ok(Exit::Done)) {
        tracing::info!(nkudo_vm = %id, "{id} is as it was when snapshot {name} was taken");
        for aside in restoring.asides() {
            tracing::info!(nkudo_vm = %id, "a disk as it was before is kept as {aside}");
        }
        return started;
    }
    tracing::error!(nkudo_vm = %id, "{id} could not be put back to snapshot {name}");
    if let Err(err) = started {
        tracing::error!("{err:#}");
        if is_loaded(id) {
            tracing::info!(nkudo_vm = %id, "{id} runs on as it was");
            return Ok(Exit::Failed);
        }
    }
    if runs && !is_loaded(id) {
        // Where its guest had gone on, they are the snapshot's.
        let which = if restoring.asides().any(Utf8Path::exists) {
            "the disks of the snapshot"
        } else {
            "its disks as they were before"
        };
        tracing::warn!(nkudo_vm = %id, "{id} boots with {which}");
        boot(id, &current, number, &directory)?;
    }
    Ok(Exit::VmsFailed)
}

/// Starts the VM as any other.
fn boot(id: &VmId, current: &Manifest, number: u64, directory: &Utf8Path) -> anyhow::Result<Exit> {
    let request = Request::Start(id.clone());
    done(|| {
        let mut fetched = Fetched::default();
        let manifest = current.clone();
        block_on(carry_out(
            manifest,
            number,
            directory,
            &request,
            Mode::Do,
            &mut fetched,
        ))
    })
}

fn done(work: impl Fn() -> anyhow::Result<Turn<Ended>>) -> anyhow::Result<Exit> {
    loop {
        match work()? {
            Turn::Done(ended) => return Ok(ended.exit()),
            Turn::Waits(id) => until_free(&id)?,
            Turn::Lacks(lacking) => {
                let names: Vec<&str> = lacking.names().into_iter().collect();
                bail!("it needs images that are gone: {}", names.join(", "))
            }
        }
    }
}

/// The current generation, and the snapshot.
fn order(of: &cli::SnapshotOf, store: &Store) -> anyhow::Result<(u64, Manifest, Kept)> {
    let cli::SnapshotOf { id, name } = of;
    let (number, current) = current(store)?;
    let taken = snapshot::kept_of(&current.host.state_dir, id)?;
    let kept = taken.into_iter().find(|kept| kept.name == *name);
    let kept = kept.with_context(|| {
        format!(
            "VM {id} has no snapshot {name}\n\
             hint: `nkudo snapshots {id}` lists those that there are"
        )
    })?;
    Ok((number, current, kept))
}

fn readable(kept: &Kept) -> anyhow::Result<&snapshot::Manifest> {
    let manifest = kept.manifest.as_ref();
    manifest.map_err(|why| {
        anyhow::anyhow!(
            "snapshot {} of {} cannot be read: {why}",
            kept.name,
            kept.vm
        )
    })
}

/// What a restore that was killed has put aside is not to be touched before it is ended.
pub(super) fn refuse_unsettled(state_dir: &AbsolutePath, id: &VmId) -> anyhow::Result<()> {
    if Restoring::all(state_dir)?.contains(id) {
        bail!(
            "a restore of {id} was interrupted, and nothing was changed\n\
             hint: `nkudo switch` finishes it, or undoes it"
        );
    }
    Ok(())
}

/// systemd has a file of each transient unit that is loaded.
fn is_loaded(id: &VmId) -> bool {
    Utf8Path::new(TRANSIENT).join(vm_unit_name(id)).exists()
}

/// Refuses where the memory would not find what it was the memory of; the VM's disks.
fn as_it_was(
    id: &VmId,
    kept: &Kept,
    manifest: &snapshot::Manifest,
    current: &Manifest,
) -> anyhow::Result<Vec<crate::host::Disk>> {
    let mut current = current.clone();
    let hypervisor = block_on(async {
        let connections = Connections::open().await?;
        let observed = look(&connections, &current).await?;
        disk::as_made(&mut current.host, &observed.storage);
        Ok(observed.hypervisor)
    })?;
    let vm = current.host.vms.get(id).with_context(|| {
        format!("the current generation has no VM {id}\nhint: declare it as it was, and switch")
    })?;
    let mut differs = snapshot::differences(&manifest.booted, vm);
    let was = manifest.booted.programs.hypervisor_version;
    match hypervisor {
        Hypervisor::Found(version) if version == was => {}
        Hypervisor::Found(version) => differs.push(format!(
            "the hypervisor: a snapshot of {was} is read by {was} alone, and here is {version}"
        )),
        Hypervisor::Unusable(why) => differs.push(format!("the hypervisor cannot be asked: {why}")),
    }
    differs.extend(kept.changed(manifest));
    if !differs.is_empty() {
        bail!(
            "VM {id} cannot be put back to snapshot {}; nothing was changed\n  {}",
            kept.name,
            differs.join("\n  ")
        );
    }
    Ok(vm.disks.clone())
}
