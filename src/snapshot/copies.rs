//! Copies of disks, into a snapshot and out of it.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{OFlags, ioctl_ficlone};

use crate::disk::{self, Copied};
use crate::{files, steps};

/// Opens a disk to be read, or refuses what is no regular file.
pub(super) fn open_disk(path: &Utf8Path) -> anyhow::Result<File> {
    let path = &steps::resolve(path).with_context(|| format!("cannot read {path}"))?;
    let file = File::options()
        .read(true)
        .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits())?)
        .open(path)
        .with_context(|| format!("cannot read {path}"))?;
    if !file.metadata()?.is_file() {
        bail!("{path} is no regular file");
    }
    Ok(file)
}

/// A copy that is there and has nothing in it yet.
#[derive(Debug)]
pub(super) struct Copying {
    pub(super) from: File,
    to: File,
    pub(super) path: Utf8PathBuf,
}

impl Copying {
    pub(super) fn begin(from: &Utf8Path, to: &Utf8Path) -> anyhow::Result<Self> {
        let from = open_disk(from)?;
        let file = File::options()
            .write(true)
            .read(true)
            .create_new(true)
            .mode(0o600)
            .open(to)
            .with_context(|| format!("cannot write {to}"))?;
        Ok(Self {
            from,
            to: file,
            path: to.to_owned(),
        })
    }

    /// Bytes that a copy takes: none where the filesystem can have the two share their blocks.
    pub(super) fn costs(&self) -> anyhow::Result<u64> {
        if ioctl_ficlone(&self.to, &self.from).is_ok() {
            self.to.set_len(0)?;
            return Ok(0);
        }
        Ok(self.from.metadata()?.blocks() * 512)
    }

    pub(super) fn copy(&self) -> anyhow::Result<Copied> {
        disk::copy(&self.from, &self.to).with_context(|| format!("cannot write {}", self.path))
    }

    /// Makes it last.
    pub(super) fn finish(&self) -> anyhow::Result<u64> {
        self.to
            .sync_all()
            .with_context(|| format!("cannot write {}", self.path))?;
        Ok(self.to.metadata()?.len())
    }
}

/// Bytes that whoever is root can still write where this is.
pub(super) fn free(path: &Utf8Path) -> anyhow::Result<u64> {
    let filesystem = rustix::fs::statvfs(path.as_std_path())
        .with_context(|| format!("cannot look at the filesystem of {path}"))?;
    Ok(filesystem.f_bavail.saturating_mul(filesystem.f_frsize))
}

/// Copies a small file, if it is there.
pub(super) fn copy_small(from: &Utf8Path, to: &Utf8Path) -> anyhow::Result<Option<u64>> {
    let bytes = files::read(from).with_context(|| format!("cannot read {from}"))?;
    let Some(bytes) = bytes else { return Ok(None) };
    files::create(to, &bytes, 0o600).with_context(|| format!("cannot write {to}"))?;
    Ok(Some(fs::metadata(to)?.len()))
}
