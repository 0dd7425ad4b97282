//! `nkudo switch` and `nkudo rollback`: make the host be a generation.

use anyhow::{Context as _, bail};
use camino::Utf8Path;

use crate::apply;
use crate::cli::{Rollback, Switch};
use crate::generation::{Manifest, Store};
use crate::plan::Request;

use super::carry_out::{Mode, carry_out};
use super::{Exit, block_on, sources, state_dir};

pub fn run(switch: &Switch, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let mode = if switch.dry_run {
        Mode::Print
    } else {
        Mode::Do
    };
    let _lock = lock(mode)?;
    let store = Store::new(&state_dir::state_dir(given));
    if switch.boot {
        let Some(number) = store.current()? else {
            tracing::info!("nothing was switched to yet");
            return Ok(Exit::Done);
        };
        return to(&store, number, &store.manifest(number)?, mode);
    }
    if let Some(number) = switch.generation {
        return to(&store, number, &store.manifest(number)?, mode);
    }
    let number = store.newest()?.with_context(|| {
        format!(
            "there is no generation in {}; make one with `nkudo render`",
            store.state_dir()
        )
    })?;
    let manifest = store.manifest(number)?;
    refuse_if_stale(&manifest, number)?;
    to(&store, number, &manifest, mode)
}

/// `nkudo rollback`.
pub fn rollback(rollback: &Rollback, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let mode = if rollback.dry_run {
        Mode::Print
    } else {
        Mode::Do
    };
    let _lock = lock(mode)?;
    let store = Store::new(&state_dir::state_dir(given));
    let current = store
        .current()?
        .context("nothing was switched to yet, so there is nothing to go back from")?;
    let older = match rollback.generation {
        Some(number) if number >= current => bail!(
            "generation {number} is not older than the current one, {current}\n\
             hint: `nkudo switch {number}` switches to any"
        ),
        Some(number) => number,
        None => {
            let numbers = store.numbers()?;
            let older = numbers.into_iter().rfind(|number| *number < current);
            older.with_context(|| {
                format!("there is no generation older than the current, {current}")
            })?
        }
    };
    to(&store, older, &store.manifest(older)?, mode)
}

fn lock(mode: Mode) -> anyhow::Result<Option<apply::Lock>> {
    Ok(match mode {
        Mode::Print => None,
        Mode::Do => Some(apply::lock(|holder| {
            tracing::info!("waiting for another nkudo (PID {holder}) to finish");
        })?),
    })
}

fn to(store: &Store, number: u64, manifest: &Manifest, mode: Mode) -> anyhow::Result<Exit> {
    if mode == Mode::Do {
        store.keep_store_paths(number, manifest)?;
    }
    let exit = block_on(carry_out(manifest.clone(), number, &Request::Switch, mode))?;
    // VMs that failed do not make the host another generation's.
    if mode == Mode::Do && matches!(exit, Exit::Done | Exit::VmsFailed) {
        store.set_current(number)?;
        state_dir::remember(store.state_dir())?;
        tracing::info!("switched to generation {number}");
    }
    Ok(exit)
}

/// A forgotten `render` must neither do nothing nor take edits along that nobody has seen.
fn refuse_if_stale(manifest: &Manifest, number: u64) -> anyhow::Result<()> {
    let now = sources::again(manifest.origin, &manifest.inputs).with_context(|| {
        format!(
            "cannot tell whether generation {number} is what the configuration says; \
             `nkudo switch {number}` switches to it as it is"
        )
    })?;
    let Some(now) = now else { return Ok(()) };
    let changed = now
        .iter()
        .find(|input| !manifest.inputs.contains(input))
        .or_else(|| manifest.inputs.iter().find(|input| !now.contains(input)));
    if let Some(input) = changed {
        bail!(
            "{} has changed since generation {number} was rendered; nothing was changed\n\
             hint: `nkudo render` makes a generation of it, `nkudo switch {number}` switches to \
             generation {number} as it is",
            input.name
        );
    }
    Ok(())
}
