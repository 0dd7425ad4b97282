//! `nkudo switch` and `nkudo rollback`: make the host be a generation.

use anyhow::{Context as _, bail};
use camino::Utf8Path;

use crate::apply;
use crate::cli::{How, Rollback, Switch};
use crate::generation::{Manifest, Store};
use crate::plan::{self, OnFailure, Pending, Request};

use super::carry_out::{Ended, Form, Mode, carry_out};
use super::{Exit, block_on, sources, state_dir};

pub fn run(switch: &Switch, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let how = &switch.how;
    let _lock = lock(how)?;
    let store = Store::new(&state_dir::state_dir(given));
    if switch.boot {
        let Some(number) = store.current()? else {
            tracing::info!("nothing was switched to yet");
            return Ok(Exit::Done);
        };
        return to(&store, number, &store.manifest(number)?, how);
    }
    if let Some(number) = switch.generation {
        return to(&store, number, &store.manifest(number)?, how);
    }
    let number = store.newest()?.with_context(|| {
        format!(
            "there is no generation in {}; make one with `nkudo render`",
            store.state_dir()
        )
    })?;
    let manifest = store.manifest(number)?;
    refuse_if_stale(&manifest, number)?;
    to(&store, number, &manifest, how)
}

/// `nkudo rollback`.
pub fn rollback(rollback: &Rollback, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let how = &rollback.how;
    let _lock = lock(how)?;
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
    to(&store, older, &store.manifest(older)?, how)
}

fn lock(how: &How) -> anyhow::Result<Option<apply::Lock>> {
    Ok(match mode(how) {
        Mode::Print(_) => None,
        Mode::Do => Some(apply::lock(|holder| {
            tracing::info!("waiting for another nkudo (PID {holder}) to finish");
        })?),
    })
}

fn mode(how: &How) -> Mode {
    if how.dry_run {
        Mode::Print(Form::of(how.json))
    } else {
        Mode::Do
    }
}

fn request(how: &How) -> Request {
    let default = plan::Switch::default();
    Request::Switch(plan::Switch {
        only: how.only.as_ref().map(|ids| ids.iter().cloned().collect()),
        pending: if how.restart {
            Pending::CarryOut
        } else {
            Pending::Leave
        },
        restart_limit: how.restart_limit,
        on_failure: if how.fail_fast {
            OnFailure::Stop
        } else {
            OnFailure::GoOn
        },
        at_once: how.start_limit.unwrap_or(default.at_once),
    })
}

fn to(store: &Store, number: u64, manifest: &Manifest, how: &How) -> anyhow::Result<Exit> {
    refuse_unknown(how, manifest, number)?;
    let mode = mode(how);
    if mode == Mode::Do {
        store.keep_store_paths(number, manifest)?;
    }
    let directory = store.directory(number);
    let ended = block_on(carry_out(
        manifest.clone(),
        number,
        &directory,
        &request(how),
        mode,
    ))?;
    let exit = ended.exit();
    // VMs that failed do not make the host another generation's.
    if mode == Mode::Do && matches!(exit, Exit::Done | Exit::VmsFailed) {
        if let Ended::InPart { why, .. } = ended {
            tracing::info!("{why}: the current generation stays as it was");
            return Ok(exit);
        }
        store.set_current(number)?;
        state_dir::remember(store.state_dir())?;
        tracing::info!("switched to generation {number}");
    }
    Ok(exit)
}

/// `--only` of a VM that there is nowhere is a slip of the pen.
fn refuse_unknown(how: &How, manifest: &Manifest, number: u64) -> anyhow::Result<()> {
    let unknown = how.only.iter().flatten().find(|id| {
        !manifest.host.vms.contains_key(*id) && !crate::booted::Booted::path(id).exists()
    });
    match unknown {
        Some(id) => bail!(
            "generation {number} has no VM {id}, and none of that name runs\n\
             hint: `nkudo status` lists the VMs"
        ),
        None => Ok(()),
    }
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
