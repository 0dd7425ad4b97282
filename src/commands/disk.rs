//! `nkudo disk list`: the disks that nkudo made.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use comfy_table::{Table, presets};
use serde::Serialize;

use crate::booted::FormatVersion;
use crate::cli::Listing;
use crate::disk::{self, DiskFile, DiskRecord};
use crate::files;
use crate::generation::Store;
use crate::host::{DiskFormat, DiskOrigin, Host, VmId};
use crate::observe;

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
    if listing.json {
        let document = Document {
            version: FormatVersion,
            disks: rows,
        };
        print_json(&document)?;
    } else if rows.is_empty() {
        aside("there are no disks that nkudo made");
    } else {
        print(&table(&rows))?;
    }
    Ok(Exit::Done)
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "VM",
        "DISK",
        "FORMAT",
        "SIZE",
        "ALLOCATED",
        "MADE FROM",
        "STATE",
    ]);
    for row in rows {
        table.add_row([
            row.vm.to_string(),
            row.disk.clone(),
            row.format.to_string(),
            row.size.map_or_else(|| "?".to_owned(), bytes),
            bytes(row.allocated),
            row.made_from.clone().unwrap_or_else(|| "?".to_owned()),
            if row.declared { "declared" } else { "unused" }.to_owned(),
        ]);
    }
    super::lines(&mut table)
}

/// A size for people: to a tenth, in powers of two.
pub(super) fn bytes(bytes: u64) -> String {
    let units = [(40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')];
    let unit = units.into_iter().find(|(shift, _)| bytes >> shift > 0);
    let Some((shift, letter)) = unit else {
        return bytes.to_string();
    };
    let tenths = (u128::from(bytes) * 10) >> shift;
    if tenths.is_multiple_of(10) {
        format!("{}{letter}", tenths / 10)
    } else {
        format!("{}.{}{letter}", tenths / 10, tenths % 10)
    }
}

pub(super) fn record(file: &DiskFile) -> anyhow::Result<Option<DiskRecord>> {
    let json = files::read(&file.record_path())?;
    Ok(json.and_then(|json| DiskRecord::from_json(&json).ok()))
}

fn described(record: &DiskRecord) -> String {
    match &record.origin {
        DiskOrigin::Existing | DiskOrigin::Image { .. } => "-".to_owned(),
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

/// What the current generation declares.
pub(super) fn current_host(store: &Store) -> anyhow::Result<Option<Host>> {
    Ok(match store.current()? {
        Some(number) => Some(store.manifest(number)?.host),
        None => None,
    })
}

/// Where disks and images are: that of the current generation, which `--state-dir` does not change.
pub(super) fn disks_state_dir(
    store: &Store,
    host: Option<&Host>,
) -> anyhow::Result<crate::host::AbsolutePath> {
    Ok(match host {
        Some(host) => host.state_dir.clone(),
        None => store.state_dir().as_str().parse()?,
    })
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_short() {
        for (number, text) in [
            (0, "0"),
            (512, "512"),
            (1 << 20, "1M"),
            (1_610_612_736, "1.5G"),
            (u64::MAX, "16777215.9T"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }
}
