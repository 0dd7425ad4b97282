//! `nkudo snapshot` and `nkudo snapshots`.

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use crate::apply::{self, Doing};
use crate::booted::Booted;
use crate::cli::{SnapshotOf, Snapshots};
use crate::connections::Connections;
use crate::document::FormatVersion;
use crate::generation::Store;
use crate::host::{AbsolutePath, SnapshotName, VmId};
use crate::hypervisor::Version;
use crate::observe::{self, BootedError, HeldBy};
use crate::snapshot::{self, Kept, Taking};

use super::current::{current_host, disks_state_dir};
use super::fetched::{lock, until_free};
use super::restore::refuse_unsettled;
use super::table::Table;
use super::words::{bytes, moment_of, unknown};
use super::{Exit, aside, block_on, print, print_json, state_dir};

pub fn take(of: &SnapshotOf, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let SnapshotOf { id, name } = of;
    let store = Store::new(&state_dir::state_dir(given));
    // The host's lock first, for no longer than it takes to see that nobody is changing this VM. With the VM's own
    // nobody does from then on.
    let (_own, state_dir, booted) = loop {
        let host = lock()?;
        if let Some(own) = apply::try_lock_vm(id, Doing::Snapshot)? {
            let (state_dir, booted) = may_be_taken(id, &store)?;
            break (own, state_dir, booted);
        }
        drop(host);
        until_free(id)?;
    };
    let taken = block_on(async {
        let connections = Connections::open().await?;
        let taking = Taking {
            connections: &connections,
            state_dir: &state_dir,
            name,
            booted: &booted,
        };
        taking.take().await
    });
    let taken = taken.with_context(|| format!("cannot take a snapshot of {id}"))?;
    let copied = match taken.copied {
        0 => String::new(),
        more => format!(", {} of disks copied", bytes(more)),
    };
    let paused = taken.paused.map_or_else(
        || "it was paused before, and still is".to_owned(),
        |paused| format!("the guest stood still for {:.2} s", paused.as_secs_f32()),
    );
    tracing::info!(
        nkudo_vm = %id,
        "took snapshot {name} of {id}: {} of memory{copied}; {paused}",
        bytes(taken.memory),
    );
    Ok(Exit::Done)
}

/// Where its snapshots are, and what it runs as.
fn may_be_taken(id: &VmId, store: &Store) -> anyhow::Result<(AbsolutePath, Booted)> {
    let state_dir = disks_state_dir(store, current_host(store)?.as_ref())?;
    refuse_unsettled(&state_dir, id)?;
    let booted = booted(id)?;
    if apply::held_by(id)? == Some(HeldBy::Nkudo) {
        bail!(
            "VM {id} is stopped or is to stop (`nkudo stop`), so that no snapshot of it is taken\n\
             hint: `nkudo start {id}` starts it, or lets it run on"
        );
    }
    let refusals = snapshot::refusals(&booted.vm);
    if !refusals.is_empty() {
        bail!(
            "there can be no snapshot of VM {id}\n  {}",
            refusals.join("\n  ")
        );
    }
    Ok((state_dir, booted))
}

/// What runs.
fn booted(id: &VmId) -> anyhow::Result<Booted> {
    match observe::booted(id) {
        Err(BootedError::Absent(_)) => bail!(
            "VM {id} does not run, so that there is no memory to be taken\n\
             hint: `nkudo status {id}` says why"
        ),
        other => Ok(other?),
    }
}

/// `nkudo snapshots --json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    version: FormatVersion,
    snapshots: Vec<Row>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Row {
    vm: VmId,
    snapshot: SnapshotName,
    path: Utf8PathBuf,
    /// Microseconds since 1970; absent where it cannot be read.
    taken: Option<u64>,
    /// Bytes of memory, and what all of it takes.
    memory: Option<u64>,
    allocated: u64,
    /// The hypervisor that it is of.
    hypervisor_version: Option<Version>,
    /// The generation that the VM was of.
    generation: Option<u64>,
}

impl Row {
    fn of(kept: Kept) -> Self {
        let manifest = kept.manifest.as_ref().ok();
        Self {
            taken: manifest.map(|one| one.taken),
            memory: manifest.map(|one| one.memory),
            hypervisor_version: manifest.map(|one| one.booted.programs.hypervisor_version),
            generation: manifest.map(|one| one.booted.generation),
            allocated: kept.allocated,
            vm: kept.vm,
            snapshot: kept.name,
            path: kept.path,
        }
    }
}

pub fn list(arguments: &Snapshots, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let store = Store::new(&state_dir::state_dir(given));
    let state_dir = disks_state_dir(&store, current_host(&store)?.as_ref())?;
    let found = match &arguments.id {
        Some(id) => snapshot::kept_of(&state_dir, id)?,
        None => snapshot::kept(&state_dir)?,
    };
    for one in &found {
        if let Err(why) = &one.manifest {
            tracing::warn!("snapshot {} of {} cannot be read: {why}", one.name, one.vm);
        }
    }
    let document = Document {
        version: FormatVersion,
        snapshots: found.into_iter().map(Row::of).collect(),
    };
    if arguments.json {
        print_json(&document)?;
    } else if document.snapshots.is_empty() {
        aside("there are no snapshots");
    } else {
        print(&table(&document.snapshots))?;
    }
    Ok(Exit::Done)
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new([
        "VM",
        "SNAPSHOT",
        "TAKEN",
        "MEMORY",
        "ALLOCATED",
        "HYPERVISOR",
    ]);
    for row in rows {
        table.add([
            row.vm.to_string(),
            row.snapshot.to_string(),
            row.taken.map_or_else(unknown, moment_of),
            row.memory.map_or_else(unknown, bytes),
            bytes(row.allocated),
            row.hypervisor_version
                .map_or_else(unknown, |version| version.to_string()),
        ]);
    }
    table.text()
}
