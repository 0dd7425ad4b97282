//! `nkudo image list`, `pull` and `gc`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use crate::booted::Booted;
use crate::cli::{ImageGc, Listing, Pull};
use crate::disk::{self, DiskRecord};
use crate::document::FormatVersion;
use crate::files;
use crate::generation::Store as Generations;
use crate::host::{
    AbsolutePath, Boot, Host, INSIDE, Image, ImageFile, ImageName, InsideKernel, StoredFile,
};
use crate::image::Store;
use crate::observe::{self, BootedError};
use crate::snapshot;

use super::configured::configured;
use super::current::{current_host, disks_state_dir};
use super::fetched::lock;
use super::table::Table;
use super::words::{bytes, dash};
use super::{Exit, aside, print, print_json, state_dir};

/// `nkudo image list --json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    version: FormatVersion,
    images: Vec<Row>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Row {
    /// The names that generations have for it.
    names: BTreeSet<String>,
    path: Utf8PathBuf,
    state: State,
    /// Bytes of the file, and what it takes.
    size: u64,
    allocated: u64,
    /// `generation 3`, `disk web/root`, `VM web`: what keeps it.
    users: BTreeSet<String>,
    /// The kernel that was taken out of it, for `kernel = "inside"`.
    kernel: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// In the image store.
    Stored,
    /// Somebody's file, used where it is.
    Here,
    /// Begun, and to be gone on with.
    Partial,
    /// Declared, and not fetched yet; or somebody's file that is not there.
    Absent,
}

/// What is used of the image store, by path.
#[derive(Debug, Default)]
struct Uses {
    users: BTreeMap<Utf8PathBuf, BTreeSet<String>>,
    names: BTreeMap<Utf8PathBuf, BTreeSet<String>>,
    /// Files that are used where they are.
    here: BTreeSet<Utf8PathBuf>,
    /// The kernels that were taken out of images, by the image's path.
    kernels: BTreeMap<Utf8PathBuf, String>,
    /// Why it cannot be told of some.
    unknown: Vec<anyhow::Error>,
}

pub fn list(listing: &Listing, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let generations = Generations::new(&state_dir::state_dir(given));
    let state_dir = disks_state_dir(&generations, current_host(&generations)?.as_ref())?;
    let uses = uses(&generations, &state_dir)?;
    for unknown in &uses.unknown {
        tracing::warn!("{unknown:#}");
    }
    let directory = Store::new(&state_dir).directory().to_owned();
    let mut paths: BTreeSet<Utf8PathBuf> = uses.users.keys().cloned().collect();
    for name in files::names(&directory)? {
        if !name.starts_with('.') || name.ends_with(crate::image::PARTIAL) {
            paths.insert(directory.join(name));
        }
    }
    // A record says what was found in an image, and is shown there.
    paths.retain(|path| !path.as_str().ends_with(INSIDE));
    let document = Document {
        version: FormatVersion,
        images: paths.into_iter().map(|path| row(path, &uses)).collect(),
    };
    if listing.json {
        print_json(&document)?;
    } else if document.images.is_empty() {
        aside("there are no images");
    } else {
        print(&table(&document.images))?;
    }
    Ok(Exit::Done)
}

fn row(path: Utf8PathBuf, uses: &Uses) -> Row {
    let metadata = fs::metadata(&path).ok();
    let state = match &metadata {
        None => State::Absent,
        Some(_) if path.as_str().ends_with(crate::image::PARTIAL) => State::Partial,
        Some(_) if uses.here.contains(&path) => State::Here,
        Some(_) => State::Stored,
    };
    Row {
        names: uses.names.get(&path).cloned().unwrap_or_default(),
        users: uses.users.get(&path).cloned().unwrap_or_default(),
        kernel: uses.kernels.get(&path).cloned(),
        size: metadata.as_ref().map_or(0, fs::Metadata::len),
        allocated: metadata.map_or(0, |file| file.blocks() * 512),
        state,
        path,
    }
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new([
        "IMAGE",
        "STATE",
        "SIZE",
        "ALLOCATED",
        "KERNEL",
        "USED BY",
        "PATH",
    ]);
    let joined = |set: &BTreeSet<String>| match set.len() {
        0 => dash(),
        _ => set
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", "),
    };
    for row in rows {
        let state = match row.state {
            State::Stored => "stored",
            State::Here => "here",
            State::Partial => "partial",
            State::Absent => "absent",
        };
        table.add([
            joined(&row.names),
            state.to_owned(),
            bytes(row.size),
            bytes(row.allocated),
            row.kernel.clone().unwrap_or_else(dash),
            joined(&row.users),
            row.path.to_string(),
        ]);
    }
    table.text()
}

pub fn pull(pull: &Pull) -> anyhow::Result<Exit> {
    let Some(configured) = configured(&pull.configuration)? else {
        return Ok(Exit::BadConfiguration);
    };
    let mut host = configured.host;
    // A disk that is there needs what it was made with.
    let made = observe::made(&host.state_dir)?;
    disk::as_made(&mut host, &made);
    let store = Store::new(&host.state_dir);
    let mut exit = Exit::Done;
    for (image, file) in needed(&host, pull.all)? {
        if let Err(err) = store.ensure(&file, &image) {
            tracing::error!("cannot get image {image}: {err:#}");
            exit = Exit::Failed;
        }
    }
    for (name, image) in with_kernel(&host, pull.all) {
        if let Err(err) = store.ensure_kernel(image, name.as_str()) {
            tracing::error!("cannot take the kernel out of image {name}: {err:#}");
            exit = Exit::Failed;
        }
    }
    Ok(exit)
}

/// The images that VMs boot the kernel of, and where it is not known yet.
fn with_kernel(host: &Host, all: bool) -> Vec<(&ImageName, &Image)> {
    let boots = |name: &ImageName| {
        let mut vms = host.vms.values();
        vms.any(|vm| matches!(&vm.boot, Boot::Inside { image, .. } if image == name))
    };
    let images = host.images.iter();
    let images = images.filter(|(name, image)| image.inside().is_some() && (all || boots(name)));
    images.collect()
}

/// The files that VMs need and that come from elsewhere: of disks that are there already, only what is below
/// an overlay.
fn needed(host: &Host, all: bool) -> anyhow::Result<Vec<(String, StoredFile)>> {
    let seen = observe::disks(&host.state_dir)?;
    let mut images = BTreeSet::new();
    let mut paths: BTreeSet<AbsolutePath> = BTreeSet::new();
    let boots_by = with_kernel(host, false);
    for (id, vm) in &host.vms {
        paths.extend(vm.files().cloned());
        for disk in &vm.disks {
            let is_there = seen
                .get(id)
                .is_some_and(|disks| disks.contains_key(&disk.name));
            if !is_there {
                images.extend(disk.origin.image());
            }
        }
    }
    let mut needed = Vec::new();
    for (name, image) in &host.images {
        for file in image.files() {
            let wanted = all
                || ((images.contains(name) || boots_by.contains(&(name, image)))
                    && *file == image.disk)
                || paths.contains(&file.path(&host.state_dir));
            if let (true, ImageFile::Stored(file)) = (wanted, file) {
                needed.push((name.to_string(), file.clone()));
            }
        }
    }
    Ok(needed)
}

pub fn gc(gc: &ImageGc, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    // No switch makes a disk of what is removed here.
    let _lock = lock()?;
    let generations = Generations::new(&state_dir::state_dir(given));
    let state_dir = disks_state_dir(&generations, current_host(&generations)?.as_ref())?;
    let uses = uses(&generations, &state_dir)?;
    if !uses.unknown.is_empty() {
        for unknown in &uses.unknown {
            tracing::error!("{unknown:#}");
        }
        bail!("it cannot be told what is used; nothing was removed");
    }
    let store = Store::new(&state_dir);
    for name in files::names(store.directory())? {
        let path = store.directory().join(&name);
        if name.starts_with('.') {
            if store.is_locked(&name) {
                continue;
            }
            if !gc.dry_run {
                store.remove_hidden(&name)?;
            }
            print(&format!("{path}\n"))?;
        } else if !uses.users.contains_key(&path) {
            remove(&path, gc)?;
        }
    }
    Ok(Exit::Done)
}

fn remove(path: &Utf8Path, gc: &ImageGc) -> anyhow::Result<()> {
    if !gc.dry_run {
        files::remove(path).with_context(|| format!("cannot remove {path}"))?;
    }
    print(&format!("{path}\n"))
}

/// Who uses what: every generation that is kept, every disk, every VM that runs.
fn uses(generations: &Generations, state_dir: &AbsolutePath) -> anyhow::Result<Uses> {
    let mut uses = Uses::default();
    for number in generations.numbers()? {
        match generations.manifest(number) {
            Ok(manifest) => {
                for (name, image) in &manifest.host.images {
                    for file in image.files() {
                        let path = file.path(&manifest.host.state_dir).as_path().to_owned();
                        if matches!(file, ImageFile::Here { .. }) {
                            uses.here.insert(path.clone());
                        }
                        let names = uses.names.entry(path.clone()).or_default();
                        names.insert(name.to_string());
                        uses.add(&path, format!("generation {number}"));
                    }
                    if let Some(record) = image.inside() {
                        let generation = format!("generation {number}");
                        uses.add_inside(
                            &manifest.host.state_dir,
                            name,
                            image,
                            &record,
                            &generation,
                        );
                    }
                }
            }
            Err(err) => uses.unknown.push(err.into()),
        }
    }
    for file in disk::disk_files(state_dir)? {
        let path = file.record_path();
        let Some(json) = files::read(&path).with_context(|| format!("cannot read {path}"))? else {
            continue;
        };
        let disk = format!("disk {}/{}", file.vm, file.label());
        match DiskRecord::from_json(&json) {
            Ok(record) => {
                let is_overlay = matches!(record.origin, crate::host::DiskOrigin::Overlay { .. });
                if let Some(image) = &record.image {
                    let below = is_overlay.then_some(&image.path);
                    for path in below.into_iter().chain(&image.kernel).chain(&image.initrd) {
                        uses.add(path.as_path(), disk.clone());
                    }
                    let images = Store::new(state_dir).directory().to_owned();
                    let inside = image.inside.iter().flat_map(InsideKernel::file_names);
                    for name in inside {
                        uses.add(&images.join(name), disk.clone());
                    }
                }
            }
            Err(err) => uses
                .unknown
                .push(anyhow::Error::from(err).context(format!("cannot make out {path}"))),
        }
    }
    for kept in snapshot::kept(state_dir)? {
        match &kept.manifest {
            Ok(manifest) => {
                for path in in_store(state_dir, &manifest.booted) {
                    let by = format!("snapshot {}/{}", kept.vm, kept.name);
                    uses.add(path.as_path(), by);
                }
            }
            Err(why) => uses
                .unknown
                .push(anyhow::anyhow!("cannot make out {}: {why}", kept.path)),
        }
    }
    let started = observe::booted_ids();
    for id in started.with_context(|| format!("cannot list {}", Booted::directory()))? {
        match observe::booted(&id) {
            Ok(booted) => {
                for path in in_store(state_dir, &booted) {
                    uses.add(path.as_path(), format!("VM {id}"));
                }
            }
            Err(BootedError::Absent(_)) => {}
            Err(err) => uses.unknown.push(err.into()),
        }
    }
    Ok(uses)
}

/// What a VM has of the image store.
fn in_store<'b>(
    state_dir: &AbsolutePath,
    booted: &'b Booted,
) -> impl Iterator<Item = &'b AbsolutePath> + use<'b> {
    let images = state_dir.as_path().join("images");
    let files = booted.vm.files();
    files.filter(move |path| path.as_path().starts_with(&images))
}

impl Uses {
    /// The kernel inside an image, if it was taken out already.
    fn add_inside(
        &mut self,
        state_dir: &AbsolutePath,
        name: &ImageName,
        image: &Image,
        record: &str,
        user: &str,
    ) {
        let store = Store::new(state_dir);
        match store.inside(record) {
            Ok(None) => {}
            Ok(Some(inside)) => {
                self.add(&store.directory().join(record), user.to_owned());
                for file in inside.file_names() {
                    let path = store.directory().join(file);
                    let names = self.names.entry(path.clone()).or_default();
                    names.insert(name.to_string());
                    self.add(&path, user.to_owned());
                }
                let path = image.disk.path(state_dir).as_path().to_owned();
                self.kernels.insert(path, inside.version);
            }
            Err(err) => self.unknown.push(err),
        }
    }

    fn add(&mut self, path: &Utf8Path, user: String) {
        self.users.entry(path.to_owned()).or_default().insert(user);
    }
}
