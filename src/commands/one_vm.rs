//! `nkudo start`, `stop` and `restart`: one VM of the current generation.

use anyhow::{Context as _, bail};
use camino::Utf8Path;

use crate::apply;
use crate::generation::{Manifest, Store};
use crate::host::VmId;
use crate::plan::Request;

use super::carry_out::{Mode, carry_out};
use super::fetched::{Fetched, Turn, with_lock};
use super::{Exit, block_on, state_dir};

/// `request` is one that names a VM.
pub fn run(request: &Request, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let store = Store::new(&state_dir::state_dir(given));
    with_lock(|fetched| once(request, &store, fetched))
}

fn once(request: &Request, store: &Store, fetched: &mut Fetched) -> anyhow::Result<Turn<Exit>> {
    let number = store
        .current()?
        .context("this host was not switched to a generation yet; run `nkudo switch`")?;
    let manifest = store.manifest(number)?;
    match request {
        // First, so that a switch leaves it alone even if this one is killed now.
        Request::Stop(id) => apply::hold(id)?,
        Request::Start(id) | Request::Restart(id) => {
            refuse_if_undeclared(id, &manifest, number, store)?;
            if fetched.is_again() && apply::is_held(id) {
                bail!("{id} was stopped by somebody while its images were fetched, and stays so");
            }
            apply::release(id)?;
        }
        Request::Switch(_) => {}
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
