//! `nkudo generations`: what there is to switch to.

use camino::Utf8Path;
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::Generations;
use crate::document::FormatVersion;
use crate::generation::{Manifest, Store};

use super::table::Table;
use super::words::{dash, moment};
use super::{Exit, print, print_json, state_dir};

/// `nkudo generations --json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Listing {
    version: FormatVersion,
    current: Option<u64>,
    generations: Vec<Row>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Row {
    number: u64,
    /// Why it cannot be read, if it cannot.
    error: Option<String>,
    rendered_at: Option<Timestamp>,
    rendered_by: Option<String>,
    message: Option<String>,
    vms: usize,
    networks: usize,
    /// What is another than in the generation before it.
    changes: Vec<String>,
}

pub fn run(generations: &Generations, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let store = Store::new(&state_dir::state_dir(given));
    let mut before: Option<Manifest> = None;
    let mut rows = Vec::new();
    for number in store.numbers()? {
        let record = store.record(number)?;
        let manifest = store.manifest(number);
        let mut row = Row {
            number,
            error: None,
            rendered_at: record.as_ref().map(|record| record.at),
            rendered_by: record.as_ref().map(|record| record.by.clone()),
            message: record.and_then(|record| record.message),
            vms: 0,
            networks: 0,
            changes: Vec::new(),
        };
        match manifest {
            Ok(manifest) => {
                row.vms = manifest.host.vms.len();
                row.networks = manifest.host.networks.len();
                row.changes = changes(before.as_ref(), &manifest);
                before = Some(manifest);
            }
            Err(err) => row.error = Some(format!("{:#}", anyhow::Error::from(err))),
        }
        rows.push(row);
    }
    let listing = Listing {
        version: FormatVersion,
        current: store.current()?,
        generations: rows,
    };
    if generations.json {
        print_json(&listing)?;
    } else {
        print(&table(&listing))?;
    }
    Ok(Exit::Done)
}

/// `+web` is new, `-web` is gone, `web` is another.
fn changes(before: Option<&Manifest>, manifest: &Manifest) -> Vec<String> {
    let none = std::collections::BTreeMap::new();
    let old = before.map_or(&none, |before| &before.digests);
    let new = &manifest.digests;
    let gone = old.keys().filter(|id| !new.contains_key(*id));
    let mut changes: Vec<String> = gone.map(|id| format!("-{id}")).collect();
    for (id, digest) in new {
        match old.get(id) {
            None => changes.push(format!("+{id}")),
            Some(old) if old != digest => changes.push(id.to_string()),
            Some(_) => {}
        }
    }
    let networks = |manifest: &Manifest| manifest.host.networks.clone();
    if before.is_some_and(|before| networks(before) != networks(manifest)) {
        changes.push("networks".to_owned());
    }
    if before.is_some_and(|before| before.host.tuning != manifest.host.tuning) {
        changes.push("tuning".to_owned());
    }
    changes
}

fn table(listing: &Listing) -> String {
    let mut table = Table::new(["GENERATION", "RENDERED", "BY", "VMS", "CHANGES", "MESSAGE"]);
    for row in &listing.generations {
        let current = if listing.current == Some(row.number) {
            " (current)"
        } else {
            ""
        };
        table.add([
            format!("{}{current}", row.number),
            row.rendered_at.map_or_else(dash, moment),
            row.rendered_by.clone().unwrap_or_else(dash),
            row.vms.to_string(),
            match &row.error {
                Some(error) => error.clone(),
                None if row.changes.is_empty() => dash(),
                None => row.changes.join(" "),
            },
            row.message.clone().unwrap_or_default(),
        ]);
    }
    table.text()
}
