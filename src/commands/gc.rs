//! `nkudo gc`: removes old generations.

use std::collections::BTreeSet;

use anyhow::Context as _;
use camino::Utf8Path;
use jiff::{SignedDuration, Timestamp};

use crate::cli::Gc;
use crate::connections::Connections;
use crate::generation::Store;
use crate::observe::{Detail, observe};

use super::{Exit, block_on, print, state_dir};

pub fn run(gc: &Gc, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let store = Store::new(&state_dir::state_dir(given));
    let numbers = store.numbers()?;
    let keep = kept(&store)?;
    let oldest = match gc.older_than {
        Some(span) => {
            let span = SignedDuration::try_from(span.duration())?;
            Some(Timestamp::now().checked_sub(span)?)
        }
        None => None,
    };
    let old = &numbers[..numbers.len().saturating_sub(gc.keep)];
    for number in old.iter().filter(|number| !keep.contains(number)) {
        // One that this nkudo cannot read may be a newer nkudo's, and a way back to it.
        if let Err(err) = store.manifest(*number) {
            let directory = store.directory(*number);
            tracing::warn!(
                "generation {number} is kept: {err}; `rm -r {directory}` removes it, if nobody needs it"
            );
            continue;
        }
        let rendered = store.record(*number)?.map(|record| record.at);
        let too_young = oldest.is_some_and(|oldest| rendered.is_none_or(|at| at > oldest));
        if too_young {
            continue;
        }
        if !gc.dry_run {
            store
                .remove(*number)
                .with_context(|| format!("cannot remove generation {number}"))?;
        }
        print(&format!("{number}\n"))?;
    }
    Ok(Exit::Done)
}

/// The generations that are in use: the current one, the newest one, and those that VMs run from.
fn kept(store: &Store) -> anyhow::Result<BTreeSet<u64>> {
    let observed = block_on(async {
        let connections = Connections::open().await?;
        Ok(observe(&connections, None, Detail::Plan).await?)
    })?;
    let running = observed.units.values().filter_map(|unit| unit.generation);
    let mut kept: BTreeSet<u64> = running.collect();
    kept.extend(store.current()?);
    kept.extend(store.newest()?);
    Ok(kept)
}
