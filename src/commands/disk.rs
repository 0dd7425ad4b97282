//! `nkudo disk list`: the disks that nkudo made.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use crate::cli::Listing;
use crate::disk::{self, DiskFile, DiskRecord};
use crate::document::FormatVersion;
use crate::files;
use crate::generation::Store;
use crate::host::{DiskFormat, DiskOrigin, Host, VmId};
use crate::observe;

use super::current::{current_host, disks_state_dir};
use super::table::Table;
use super::words::{bytes, dash, unknown};
use super::{Exit, aside, print, print_json, state_dir};

/// `nkudo disk list --json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    version: FormatVersion,
    disks: Vec<Row>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Row {
    vm: VmId,
    /// `data`, or `data.old-1` of one that was set aside.
    disk: String,
    path: Utf8PathBuf,
    format: DiskFormat,
    /// Bytes that a guest sees; absent where the file cannot be made out.
    size: Option<u64>,
    /// Bytes that the file takes.
    allocated: u64,
    /// What it was made from; absent where that is not known.
    made_from: Option<String>,
    /// Whether the current generation declares it.
    declared: bool,
}

pub fn list(listing: &Listing, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let store = Store::new(&state_dir::state_dir(given));
    let host = current_host(&store)?;
    let state_dir = disks_state_dir(&store, host.as_ref())?;
    let mut rows = Vec::new();
    let seen = observe::disks(&state_dir)?;
    for file in disk::disk_files(&state_dir)? {
        let made = match file.aside {
            None => seen.get(&file.vm).and_then(|disks| disks.get(&file.name)),
            Some(_) => None,
        };
        let size = match (made, file.format()) {
            (Some(made), _) => made.size.map(crate::host::Size::bytes),
            (None, DiskFormat::Raw) => fs::metadata(&file.path).ok().map(|file| file.len()),
            (None, DiskFormat::Qcow2) => None,
        };
        rows.push(Row {
            size,
            allocated: fs::metadata(&file.path).map_or(0, |file| file.blocks() * 512),
            made_from: record(&file)?.map(|record| described(&record)),
            declared: host.as_ref().is_some_and(|host| is_declared(host, &file)),
            disk: file.label(),
            format: file.format(),
            vm: file.vm,
            path: file.path,
        });
    }
    let document = Document {
        version: FormatVersion,
        disks: rows,
    };
    if listing.json {
        print_json(&document)?;
    } else if document.disks.is_empty() {
        aside("there are no disks that nkudo made");
    } else {
        print(&table(&document.disks))?;
    }
    Ok(Exit::Done)
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new([
        "VM",
        "DISK",
        "FORMAT",
        "SIZE",
        "ALLOCATED",
        "MADE FROM",
        "STATE",
    ]);
    for row in rows {
        table.add([
            row.vm.to_string(),
            row.disk.clone(),
            row.format.to_string(),
            row.size.map_or_else(unknown, bytes),
            bytes(row.allocated),
            row.made_from.clone().unwrap_or_else(unknown),
            if row.declared { "declared" } else { "unused" }.to_owned(),
        ]);
    }
    table.text()
}

pub(super) fn record(file: &DiskFile) -> anyhow::Result<Option<DiskRecord>> {
    let json = files::read(&file.record_path())?;
    Ok(json.and_then(|json| DiskRecord::from_json(&json).ok()))
}

fn described(record: &DiskRecord) -> String {
    match &record.origin {
        DiskOrigin::Existing | DiskOrigin::Image { .. } => dash(),
        DiskOrigin::Clone { image, .. } => format!("image {image}"),
        DiskOrigin::Overlay { image, .. } => format!("overlay over image {image}"),
        DiskOrigin::Volume { filesystem, .. } => {
            filesystem.map_or_else(|| "empty".to_owned(), |one| format!("empty {one}"))
        }
    }
}

/// Whether a host has this file as a disk.
pub(super) fn is_declared(host: &Host, file: &DiskFile) -> bool {
    let vm = host.vms.get(&file.vm);
    let mut disks = vm.into_iter().flat_map(|vm| &vm.disks);
    file.aside.is_none() && disks.any(|disk| disk.name == file.name && disk.origin.is_made())
}
