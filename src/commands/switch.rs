//! `nkudo switch` and `nkudo rollback`: make the host be a generation.

use anyhow::{Context as _, bail};
use camino::Utf8Path;

use crate::cli::{How, Rollback, Switch};
use crate::generation::{Manifest, Store};
use crate::plan::{self, OnFailure, OnObstacle, Pending, Request};

use super::carry_out::{Ended, Form, Mode, carry_out};
use super::fetched::{Fetched, Turn, with_lock};
use super::{Exit, block_on, sources, state_dir};

pub fn run(switch: &Switch, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let store = Store::new(&state_dir::state_dir(given));
    let on_obstacle = if switch.boot {
        OnObstacle::LeaveOut
    } else {
        OnObstacle::Refuse
    };
    to(&store, &switch.how, on_obstacle, |before| {
        if switch.boot {
            // Whatever that is by now.
            return Ok(store.current()?);
        }
        if let Some(order) = before {
            return order.goes_on(&store);
        }
        if let Some(number) = switch.generation {
            return Ok(Some(number));
        }
        let number = store.newest()?.with_context(|| {
            format!(
                "there is no generation in {}; make one with `nkudo render`",
                store.state_dir()
            )
        })?;
        refuse_if_stale(&store.manifest(number)?, number)?;
        Ok(Some(number))
    })
}

/// `nkudo rollback`.
pub fn rollback(rollback: &Rollback, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let store = Store::new(&state_dir::state_dir(given));
    to(&store, &rollback.how, OnObstacle::Refuse, |before| {
        if let Some(order) = before {
            return order.goes_on(&store);
        }
        let current = store
            .current()?
            .context("nothing was switched to yet, so there is nothing to go back from")?;
        match rollback.generation {
            Some(number) if number >= current => bail!(
                "generation {number} is not older than the current one, {current}\n\
                 hint: `nkudo switch {number}` switches to any"
            ),
            Some(number) => Ok(Some(number)),
            None => {
                let numbers = store.numbers()?;
                let older = numbers.into_iter().rfind(|number| *number < current);
                Ok(Some(older.with_context(|| {
                    format!("there is no generation older than the current, {current}")
                })?))
            }
        }
    })
}

fn mode(how: &How) -> Mode {
    if how.dry_run {
        Mode::Print(Form::of(how.json))
    } else {
        Mode::Do
    }
}

fn request(how: &How, on_obstacle: OnObstacle) -> Request {
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
        on_obstacle,
        at_once: how.start_limit.unwrap_or(default.at_once),
    })
}

/// What a switch is from and to, as it was when it began.
#[derive(Debug, Clone, Copy)]
struct Order {
    number: u64,
    current: Option<u64>,
}

impl Order {
    /// The generation, unless somebody has switched to another while this one waited: what was ordered first must not
    /// undo what was ordered later.
    fn goes_on(self, store: &Store) -> anyhow::Result<Option<u64>> {
        let number = self.number;
        match store.current()? {
            Some(now) if self.current != Some(now) && now != number => bail!(
                "another nkudo has switched to generation {now} meanwhile; nothing was changed\n\
                 hint: `nkudo switch {number}` switches to generation {number} all the same"
            ),
            _ => Ok(Some(number)),
        }
    }
}

/// Switches to the generation that `choose` says, if it says any. It is asked again after a wait.
fn to(
    store: &Store,
    how: &How,
    on_obstacle: OnObstacle,
    choose: impl Fn(Option<Order>) -> anyhow::Result<Option<u64>>,
) -> anyhow::Result<Exit> {
    let mut order = None;
    let mut attempt = |fetched: &mut Fetched| {
        let Some(number) = choose(order)? else {
            tracing::info!("nothing was switched to yet");
            return Ok(Turn::Done(Exit::Done));
        };
        if order.is_none() {
            let current = store.current()?;
            order = Some(Order { number, current });
        }
        once(store, number, how, on_obstacle, fetched)
    };
    match mode(how) {
        Mode::Do => with_lock(attempt),
        Mode::Print(_) => match attempt(&mut Fetched::default())? {
            Turn::Done(exit) => Ok(exit),
            Turn::Lacks(_) | Turn::Waits(_) => Ok(Exit::Done),
        },
    }
}

fn once(
    store: &Store,
    number: u64,
    how: &How,
    on_obstacle: OnObstacle,
    fetched: &mut Fetched,
) -> anyhow::Result<Turn<Exit>> {
    let manifest = store.manifest(number)?;
    refuse_unknown(how, &manifest, number)?;
    let mode = mode(how);
    if mode == Mode::Do {
        store.keep_store_paths(number, &manifest)?;
    }
    let directory = store.directory(number);
    let turn = block_on(carry_out(
        manifest,
        number,
        &directory,
        &request(how, on_obstacle),
        mode,
        fetched,
    ))?;
    let ended = match turn {
        Turn::Done(ended) => ended,
        Turn::Lacks(lacking) => return Ok(Turn::Lacks(lacking)),
        Turn::Waits(id) => return Ok(Turn::Waits(id)),
    };
    let exit = ended.exit();
    // VMs that failed, or what the kernel refused, do not make the host another generation's.
    if mode == Mode::Do && matches!(exit, Exit::Done | Exit::VmsFailed | Exit::HostDiffers) {
        if let Ended::InPart { why, .. } = ended {
            tracing::info!("{why}: the current generation stays as it was");
            return Ok(Turn::Done(exit));
        }
        store.set_current(number)?;
        state_dir::remember(store.state_dir())?;
        tracing::info!("switched to generation {number}");
    }
    Ok(Turn::Done(exit))
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
