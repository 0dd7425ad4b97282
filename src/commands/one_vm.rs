//! `nkudo start`, `stop` and `restart`: one VM of the current generation.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use camino::Utf8Path;

use crate::apply::{self, Doing, Failure, Outcome, Stopped};
use crate::booted::Booted;
use crate::connections::Connections;
use crate::generation::{Manifest, Store};
use crate::host::VmId;
use crate::pci;
use crate::plan::Request;

use super::carry_out::{Mode, carry_out, report};
use super::current::current;
use super::current::no_such_vm;
use super::fetched::{Fetched, Turn, lock_vm, with_lock};
use super::{Exit, block_on, state_dir};

pub fn start(id: VmId, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    run(&Request::Start(id), given)
}

pub fn restart(id: VmId, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    run(&Request::Restart(id), given)
}

/// Waits for nobody but who is at this very VM.
pub fn stop(id: VmId, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let store = Store::new(&state_dir::state_dir(given));
    refuse_unheard_of(&id, &store)?;
    // One that cannot be stopped is not to be held.
    block_on(async { Ok(Connections::open().await.map(drop)?) })?;
    {
        let _own = lock_vm(&id, Doing::Stop)?;
        // First, so that a switch leaves it alone even if this run is killed now.
        apply::hold(&id)?;
    }
    let exit = block_on(async {
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let connections = Connections::open().await?;
        let jobs = connections.jobs().await?;
        match apply::stop(&connections, &jobs, &id).await {
            Ok(Stopped::After(took)) => {
                let took = took.as_secs_f32();
                tracing::info!(nkudo_vm = %id, "stopped {id} in {took:.2} s");
                Ok(Exit::Done)
            }
            Ok(Stopped::Before) => {
                tracing::info!(nkudo_vm = %id, "{id} does not run");
                Ok(Exit::Done)
            }
            Err(why) => {
                let mut outcome = Outcome::default();
                let failure = Failure {
                    why,
                    journal_since: u64::try_from(since.as_micros()).ok(),
                };
                outcome.vms.insert(id.clone(), failure);
                report(&outcome, &Request::Stop(id.clone())).await
            }
        }
    })?;
    // The first switch may be under way, so that there is no current generation yet.
    if exit == Exit::Done && store.current()?.is_some() && has_devices(&id)? {
        return give_back(id, &store);
    }
    Ok(exit)
}

/// A slip of the pen must not look like a VM that is stopped. Any generation's VM may be one that a switch is on its
/// way to, and what cannot be read may declare any.
pub(super) fn refuse_unheard_of(id: &VmId, store: &Store) -> anyhow::Result<()> {
    if Booted::path(id).exists() {
        return Ok(());
    }
    for number in store.numbers()?.into_iter().rev() {
        let declares = |manifest: Manifest| manifest.host.vms.contains_key(id);
        if store.manifest(number).map_or(true, declares) {
            return Ok(());
        }
    }
    Err(no_such_vm(id))
}

/// Whether nkudo has taken PCI devices from the host for a VM.
fn has_devices(id: &VmId) -> anyhow::Result<bool> {
    let seen = pci::look(&pci::Place::host(), &BTreeSet::new());
    let seen = seen.context("cannot look at PCI devices in /sys")?;
    Ok(seen.taken.values().any(|taken| taken.vm == *id))
}

/// The devices of a VM that does not run go back to the host. This needs the lock.
fn give_back(id: VmId, store: &Store) -> anyhow::Result<Exit> {
    let Some(_lock) = apply::try_lock()? else {
        tracing::info!(
            nkudo_vm = %id,
            "another nkudo is at work: the next switch gives the PCI devices of {id} back to the host"
        );
        return Ok(Exit::Done);
    };
    match once(&Request::Stop(id), store, &mut Fetched::default())? {
        Turn::Done(exit) => Ok(exit),
        // Then somebody has begun something with it.
        Turn::Lacks(_) | Turn::Waits(_) => Ok(Exit::Done),
    }
}

/// `request` is one that names a VM.
fn run(request: &Request, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let store = Store::new(&state_dir::state_dir(given));
    with_lock(|fetched| once(request, &store, fetched))
}

fn once(request: &Request, store: &Store, fetched: &mut Fetched) -> anyhow::Result<Turn<Exit>> {
    let (number, manifest) = current(store)?;
    if let Request::Start(id) | Request::Restart(id) = request {
        refuse_if_undeclared(id, &manifest, number, store)?;
        if fetched.is_again() && apply::held_by(id)?.is_some() {
            bail!("{id} was stopped by somebody meanwhile, and stays so");
        }
        let Some(own) = apply::try_lock_vm(id, Doing::Start)? else {
            return Ok(Turn::Waits(id.clone()));
        };
        apply::release(id)?;
        drop(own);
    }
    let directory = store.directory(number);
    let ended = carry_out(manifest, number, &directory, request, Mode::Do, fetched);
    Ok(block_on(ended)?.map(|ended| ended.exit()))
}

fn refuse_if_undeclared(
    id: &VmId,
    manifest: &Manifest,
    number: u64,
    store: &Store,
) -> anyhow::Result<()> {
    if manifest.host.vms.contains_key(id) {
        return Ok(());
    }
    let newest = store.newest()?.filter(|newest| *newest != number);
    if let Some(newest) = newest
        && store
            .manifest(newest)
            .is_ok_and(|manifest| manifest.host.vms.contains_key(id))
    {
        bail!(
            "the current generation, {number}, has no VM {id}\n\
             hint: generation {newest} has it; `nkudo switch` switches to that"
        );
    }
    bail!("the current generation, {number}, has no VM {id}\nhint: `nkudo status` lists the VMs");
}
