//! `restoring.json` beside a VM's snapshots: a restore that is under way.
//!
//! It is written before the first effect. While it is there, the guest of the snapshot has not gone on: whatever else
//! has been done is undone by it, and nothing is lost. The step that lets the guest go on renames it to
//! `restored.json` first; from then on the disks are the snapshot's, and stay.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::copies::{self, Copying};
use super::{DISKS, Kept, Manifest};
use crate::disk;
use crate::document::{FormatVersion, to_json};
use crate::files;
use crate::host::{AbsolutePath, Disk, SnapshotName, VmId};
use crate::interruption::effect;
use crate::steps;

const RECORD: &str = "restoring.json";
const WENT_ON: &str = "restored.json";
/// Begins the name of a disk that is not put in its place yet.
const STAGED: &str = ".restore-";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Restoring {
    pub version: FormatVersion,
    pub id: VmId,
    pub snapshot: SnapshotName,
    files: Vec<Placing>,
}

/// A file that takes the place of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Placing {
    from: Utf8PathBuf,
    /// Beside its place.
    staged: Utf8PathBuf,
    place: Utf8PathBuf,
    /// Where what is there now is kept.
    aside: Utf8PathBuf,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum What {
    Disk,
    /// `<name>.json` of a disk that nkudo made.
    Record,
}

/// What undoing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undone {
    /// The VM had not been touched yet.
    Nothing,
    Disks,
}

/// What the record is called once the guest goes on.
pub fn went_on(record: &Utf8Path) -> Utf8PathBuf {
    record.with_file_name(WENT_ON)
}

impl Restoring {
    /// The restore of this snapshot to these disks.
    pub fn new(
        state_dir: &AbsolutePath,
        kept: &Kept,
        manifest: &Manifest,
        disks: &[Disk],
    ) -> anyhow::Result<Self> {
        let there = disk::disk_files_of(state_dir, &kept.vm)?;
        let mut files = Vec::new();
        for copy in &manifest.disks {
            let disk = disks.iter().find(|disk| disk.name == copy.name);
            let disk = disk.with_context(|| format!("the VM has no disk {}", copy.name))?;
            let from = kept.path.join(DISKS).join(&copy.file);
            let path = disk.path.as_path();
            let place = steps::resolve(path).with_context(|| format!("cannot find {path}"))?;
            let made = there
                .iter()
                .find(|file| file.aside.is_none() && file.path == place);
            if let Some(made) = made {
                let aside = disk::aside(&there, made);
                files.push(Placing::new(
                    from.with_file_name(disk::record_name(&copy.name)),
                    made.record_path(),
                    aside.record_path(),
                    What::Record,
                )?);
                files.push(Placing::new(from, place, aside.path, What::Disk)?);
            } else {
                let aside = free_name(&place)?;
                files.push(Placing::new(from, place, aside, What::Disk)?);
            }
        }
        Ok(Self {
            version: FormatVersion,
            id: kept.vm.clone(),
            snapshot: kept.name.clone(),
            files,
        })
    }

    /// Where it is, or will be.
    pub fn path(state_dir: &AbsolutePath, id: &VmId) -> Utf8PathBuf {
        super::directory(state_dir, id).join(RECORD)
    }

    /// The one that is under way.
    pub fn read(state_dir: &AbsolutePath, id: &VmId) -> anyhow::Result<Option<Self>> {
        let path = Self::path(state_dir, id);
        let json = files::read(&path).with_context(|| format!("cannot read {path}"))?;
        json.map(|json| serde_json::from_slice(&json))
            .transpose()
            .with_context(|| format!("cannot make out {path}"))
    }

    /// The VMs whose restores are under way, or have gone on and are not finished.
    pub fn all(state_dir: &AbsolutePath) -> anyhow::Result<Vec<VmId>> {
        let root = super::root(state_dir);
        let names = files::names(&root).with_context(|| format!("cannot list {root}"))?;
        let ids = names.iter().filter_map(|name| name.parse::<VmId>().ok());
        Ok(ids
            .filter(|id| {
                let path = Self::path(state_dir, id);
                path.exists() || went_on(&path).exists()
            })
            .collect())
    }

    pub fn write(&self, state_dir: &AbsolutePath) -> anyhow::Result<()> {
        let path = Self::path(state_dir, &self.id);
        files::replace(&path, &to_json(self)?, 0o600)
            .with_context(|| format!("cannot write {path}"))
    }

    /// Makes the copies that take the disks' places; the VM may run meanwhile.
    pub fn stage(&self) -> anyhow::Result<()> {
        for file in &self.files {
            remove(&file.staged)?;
            match file.what {
                What::Record => {
                    copies::copy_small(&file.from, &file.staged)?;
                }
                What::Disk => file.copy()?,
            }
            effect();
        }
        Ok(())
    }

    /// Puts the copies in the disks' places, and these aside. The VM does not run.
    pub fn place(&self) -> anyhow::Result<()> {
        for file in &self.files {
            if file.place.exists() {
                if file.staged.exists() {
                    allow_the_same(&file.place, &file.staged)?;
                }
                rename(&file.place, &file.aside)?;
                effect();
            }
            // A disk without a record has none afterwards either.
            if file.staged.exists() {
                rename(&file.staged, &file.place)?;
                effect();
            }
        }
        self.sync()
    }

    /// Puts back what was put aside. The VM does not run with any of it.
    pub fn undo(&self, state_dir: &AbsolutePath) -> anyhow::Result<Undone> {
        let undone = if self.files.iter().any(|file| file.aside.exists()) {
            Undone::Disks
        } else {
            Undone::Nothing
        };
        for file in &self.files {
            // Over the copy, which the snapshot has too.
            if file.aside.exists() {
                rename(&file.aside, &file.place)?;
                effect();
            }
            remove(&file.staged)?;
        }
        self.sync()?;
        remove(&Self::path(state_dir, &self.id))?;
        Ok(undone)
    }

    fn sync(&self) -> anyhow::Result<()> {
        for file in &self.files {
            let directory = file.place.parent().unwrap_or(&file.place);
            files::sync_directory(directory).with_context(|| format!("cannot sync {directory}"))?;
        }
        Ok(())
    }

    /// Where the disks as they were before are kept now.
    pub fn asides(&self) -> impl Iterator<Item = &Utf8Path> {
        let disks = self.files.iter().filter(|file| file.what == What::Disk);
        disks.map(|file| file.aside.as_path())
    }
}

impl Placing {
    fn new(
        from: Utf8PathBuf,
        place: Utf8PathBuf,
        aside: Utf8PathBuf,
        what: What,
    ) -> anyhow::Result<Self> {
        let name = place.file_name().context("a disk's path has no name")?;
        Ok(Self {
            staged: place.with_file_name(format!("{STAGED}{name}")),
            from,
            place,
            aside,
            what,
        })
    }

    fn copy(&self) -> anyhow::Result<()> {
        let copying = Copying::begin(&self.from, &self.staged)?;
        let (needed, free) = (copying.costs()?, copies::free(&self.staged)?);
        if needed > free {
            bail!(
                "the disk takes {needed} bytes at {}, and {free} are left there",
                self.place
            );
        }
        copying.copy()?;
        copying.finish()?;
        Ok(())
    }
}

/// Lets whoever can use one file use another. Of a disk only while no VM has it: its user is in the list too.
fn allow_the_same(from: &Utf8Path, to: &Utf8Path) -> anyhow::Result<()> {
    const ACL: &str = "system.posix_acl_access";
    let allow = || -> std::io::Result<()> {
        let there = fs::metadata(from)?;
        std::os::unix::fs::chown(to, Some(there.uid()), Some(there.gid()))?;
        fs::set_permissions(to, Permissions::from_mode(there.mode() & 0o7777))?;
        let mut acl = vec![0; 64 << 10];
        match rustix::fs::getxattr(from.as_std_path(), ACL, &mut acl) {
            Ok(length) => {
                rustix::fs::setxattr(to.as_std_path(), ACL, &acl[..length], XattrFlags::empty())?;
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(err) => return Err(err.into()),
        }
        Ok(())
    };
    allow().with_context(|| format!("cannot give {to} the mode and the owner of {from}"))
}

fn rename(from: &Utf8Path, to: &Utf8Path) -> anyhow::Result<()> {
    fs::rename(from, to).with_context(|| format!("cannot rename {from} to {to}"))
}

fn remove(path: &Utf8Path) -> anyhow::Result<()> {
    files::remove(path).with_context(|| format!("cannot remove {path}"))
}

/// A name beside a file that nobody has: `web.raw.old-1`.
fn free_name(path: &Utf8Path) -> anyhow::Result<Utf8PathBuf> {
    let name = path.file_name().context("a disk's path has no name")?;
    let mut names = (1_u32..).map(|number| path.with_file_name(format!("{name}.old-{number}")));
    names
        .find(|name| fs::symlink_metadata(name).is_err())
        .context("there is no name left for the disk as it is now")
}
