//! Gets files into the image store.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::Instant;

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};

use super::unpack::unpack;
use super::{FetchError, Patience, Progress, fetch, qemu, verify};
use crate::disk;
use crate::files::{self, UNFINISHED};
use crate::host::{AbsolutePath, Compression, DiskFormat, Form, Location, Sha256, StoredFile, Url};

/// Ends the name of what is being fetched.
pub const PARTIAL: &str = ".partial";
/// Ends the name of the file that is locked while a file is made.
const LOCK: &str = ".lock";

#[derive(Debug, Clone)]
pub struct Store {
    state_dir: AbsolutePath,
    directory: Utf8PathBuf,
    patience: Patience,
}

impl Store {
    pub fn new(state_dir: &AbsolutePath) -> Self {
        Self::with_patience(state_dir, Patience::default())
    }

    /// One that waits longer or shorter for servers.
    pub fn with_patience(state_dir: &AbsolutePath, patience: Patience) -> Self {
        Self {
            state_dir: state_dir.clone(),
            directory: state_dir.as_path().join("images"),
            patience,
        }
    }

    pub fn directory(&self) -> &Utf8Path {
        &self.directory
    }

    pub(super) fn state_dir(&self) -> &AbsolutePath {
        &self.state_dir
    }

    /// Where a file is, or will be.
    pub fn path(&self, file: &StoredFile) -> Utf8PathBuf {
        self.directory.join(file.name())
    }

    /// Makes sure that a file is there: fetched, verified, decompressed, converted. `image` names it to people.
    ///
    /// Blocks for as long as that takes. Of two that want the same file, one waits for the other.
    pub fn ensure(&self, file: &StoredFile, image: &str) -> anyhow::Result<()> {
        if self.path(file).exists() {
            return self.tidy(&file.sha256);
        }
        self.ensure_directory()?;
        let _lock = self.lock(&file.sha256, image)?;
        if self.path(file).exists() {
            return Ok(());
        }
        self.remove_unfinished(&file.sha256)?;
        let begun = Instant::now();
        let partial = self.directory.join(format!(".{}{PARTIAL}", file.sha256));
        self.bring(file, image, &partial)?;
        let length = self
            .finish(file, image, &partial)
            .with_context(|| format!("{} is not what the configuration says", file.from))?;
        let took = begun.elapsed().as_secs_f32();
        tracing::info!(
            "got image {image} from {} in {took:.1} s: {} MiB",
            file.from,
            length.div_ceil(1 << 20)
        );
        Ok(())
    }

    pub(super) fn ensure_directory(&self) -> anyhow::Result<()> {
        let directory = &self.directory;
        // Nobody but root gets to what is in it, but for VMs, into whose sandboxes it is bound.
        files::ensure_directory(directory, 0o700)
            .with_context(|| format!("cannot make {directory}"))
    }

    /// Gets the file itself, whole and with the right checksum, to `partial`.
    fn bring(&self, file: &StoredFile, image: &str, partial: &Utf8Path) -> anyhow::Result<()> {
        match &file.from {
            Location::Url(url) => self.fetch(url, &file.sha256, image, partial),
            Location::Path(path) => {
                let from =
                    File::open(path.as_path()).with_context(|| format!("cannot read {path}"))?;
                let to =
                    File::create(partial).with_context(|| format!("cannot write {partial}"))?;
                // A copy first: the original may be written to at any moment.
                let copied = disk::copy(&from, &to)
                    .with_context(|| format!("cannot copy {path} to {partial}"))
                    .and_then(|_| {
                        let to = File::open(partial)?;
                        verify(&to, &file.sha256)
                            .with_context(|| format!("{path} is not the file that was meant"))
                    });
                if copied.is_err() {
                    files::remove(partial).with_context(|| format!("cannot remove {partial}"))?;
                }
                copied
            }
        }
    }

    fn fetch(
        &self,
        url: &Url,
        sha256: &Sha256,
        image: &str,
        partial: &Utf8Path,
    ) -> anyhow::Result<()> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode_of_owner()
            .open(partial)
            .with_context(|| format!("cannot write {partial}"))?;
        let progress = Progress::begin(image);
        let fetched = fetch(url, sha256, &file, self.patience, &progress);
        match fetched {
            Ok(()) => Ok(()),
            Err(err) => {
                let is_empty = file.metadata().is_ok_and(|file| file.len() == 0);
                if err.spoils() || is_empty {
                    files::remove(partial).with_context(|| format!("cannot remove {partial}"))?;
                }
                Err(explained(err))
            }
        }
    }

    /// Makes of the fetched file what the store keeps; how long that is.
    fn finish(&self, file: &StoredFile, image: &str, partial: &Utf8Path) -> anyhow::Result<u64> {
        let mut from = partial.to_owned();
        // Files on the way to it, which go when this ends however it does.
        let mut unpacked = None;
        if file.compression != Compression::None {
            let new = self.temporary(&file.sha256)?;
            let packed = File::open(&from)?;
            let progress = Progress::begin(&format!("{image}: decompressing"));
            unpack(&packed, file.compression, new.as_file(), &progress)
                .context("cannot decompress it")?;
            from = utf8(new.path())?;
            unpacked = Some(new);
        }
        if let Form::ToRaw(format) = file.form {
            if format == crate::host::ForeignFormat::Qcow2 {
                disk::check_image(&from, DiskFormat::Qcow2)?;
            }
            // For the user of the sandbox, into which it is bound.
            set_mode(&from, 0o444)?;
            let new = self.temporary(&file.sha256)?;
            let progress = Progress::begin(&format!("{image}: converting"));
            qemu::convert(&from, format, &utf8(new.path())?)?;
            drop(progress);
            from = utf8(new.path())?;
            unpacked = Some(new);
        }
        match file.form {
            Form::Raw | Form::ToRaw(_) => disk::check_image(&from, DiskFormat::Raw)?,
            Form::Qcow2 => disk::check_image(&from, DiskFormat::Qcow2)?,
            Form::Boot => {}
        }
        // VMs read it as users of their own.
        set_mode(&from, 0o444)?;
        let whole = File::open(&from)?;
        whole
            .sync_all()
            .with_context(|| format!("cannot write {from} to the disk"))?;
        let path = self.path(file);
        fs::rename(&from, &path).with_context(|| format!("cannot rename {from} to {path}"))?;
        if let Some(unpacked) = unpacked {
            // It has been renamed away.
            let _ = unpacked.into_temp_path().keep();
        }
        files::sync_directory(&self.directory)
            .with_context(|| format!("cannot sync {}", self.directory))?;
        files::remove(partial).with_context(|| format!("cannot remove {partial}"))?;
        Ok(whole.metadata()?.len())
    }

    pub(super) fn temporary(&self, sha256: &Sha256) -> anyhow::Result<tempfile::NamedTempFile> {
        tempfile::Builder::new()
            .prefix(&format!("{UNFINISHED}{sha256}-"))
            .tempfile_in(&self.directory)
            .with_context(|| format!("cannot make a file in {}", self.directory))
    }

    /// Removes what a run that was killed has left of this file. Only while it is locked.
    pub(super) fn remove_unfinished(&self, sha256: &Sha256) -> anyhow::Result<()> {
        let directory = &self.directory;
        let prefix = format!("{UNFINISHED}{sha256}-");
        let names = files::names(directory).with_context(|| format!("cannot list {directory}"))?;
        for name in names.iter().filter(|name| name.starts_with(&prefix)) {
            let path = directory.join(name);
            files::remove(&path).with_context(|| format!("cannot remove {path}"))?;
        }
        Ok(())
    }

    /// Removes a hidden file, unless somebody makes something of its source at this moment.
    pub fn remove_hidden(&self, name: &str) -> anyhow::Result<()> {
        let path = self.directory.join(name);
        let _lock = match source_of(name) {
            Some(sha256) => match self.try_lock(&sha256)? {
                Some(lock) => Some(lock),
                None => return Ok(()),
            },
            None => None,
        };
        files::remove(&path).with_context(|| format!("cannot remove {path}"))
    }

    /// Removes what a run has left that was killed when the file was there already.
    pub(super) fn tidy(&self, sha256: &Sha256) -> anyhow::Result<()> {
        if self.lock_path(sha256).exists()
            && let Some(_lock) = self.try_lock(sha256)?
        {
            self.remove_unfinished(sha256)?;
        }
        Ok(())
    }

    fn lock_path(&self, sha256: &Sha256) -> Utf8PathBuf {
        self.directory.join(format!(".{sha256}{LOCK}"))
    }

    /// Whether somebody is making something of the source that a hidden file is of.
    pub fn is_locked(&self, name: &str) -> bool {
        let Some(sha256) = source_of(name) else {
            return false;
        };
        let path = self.lock_path(&sha256);
        // Opened, not created: where there is none, nobody has it.
        File::open(path)
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Locks what is made of one source.
    pub(super) fn lock(&self, sha256: &Sha256, image: &str) -> anyhow::Result<StoreLock> {
        loop {
            if let Some(lock) = self.try_lock(sha256)? {
                return Ok(lock);
            }
            tracing::info!("waiting for another nkudo that gets image {image}");
            let path = self.lock_path(sha256);
            match File::open(&path) {
                // Its holder removes the file: a lock on it is one on nothing.
                Ok(file) => file.lock().with_context(|| format!("cannot lock {path}"))?,
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                Err(err) => return Err(err).with_context(|| format!("cannot open {path}")),
            }
        }
    }

    /// As `lock`; `None` where somebody has it.
    fn try_lock(&self, sha256: &Sha256) -> anyhow::Result<Option<StoreLock>> {
        let path = self.lock_path(sha256);
        loop {
            let open = || File::options().create(true).append(true).open(&path);
            let file = open().with_context(|| format!("cannot open {path}"))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(err)) => {
                    return Err(err).with_context(|| format!("cannot lock {path}"));
                }
            }
            // Whoever had it may have removed it: then this is a lock on nothing.
            let is_there =
                fs::metadata(&path).is_ok_and(|there| there.ino() == inode(&file).unwrap_or(0));
            if is_there {
                return Ok(Some(StoreLock { path, _file: file }));
            }
        }
    }
}

/// Held while it lives; the file goes with it, so that the store holds images and nothing else.
#[derive(Debug)]
pub(super) struct StoreLock {
    path: Utf8PathBuf,
    _file: File,
}

impl Drop for StoreLock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The checksum that a hidden file's name begins with.
fn source_of(name: &str) -> Option<Sha256> {
    let rest = name
        .strip_prefix(UNFINISHED)
        .or_else(|| name.strip_prefix('.'))?;
    rest.get(..64)?.parse().ok()
}

fn inode(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.ino())
}

/// Readable for root alone while it is not known to be what it should.
trait ModeOfOwner {
    fn mode_of_owner(&mut self) -> &mut Self;
}

impl ModeOfOwner for fs::OpenOptions {
    fn mode_of_owner(&mut self) -> &mut Self {
        use std::os::unix::fs::OpenOptionsExt as _;
        self.mode(0o600)
    }
}

pub(super) fn set_mode(path: &Utf8Path, mode: u32) -> anyhow::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .with_context(|| format!("cannot change the mode of {path}"))
}

pub(super) fn utf8(path: &std::path::Path) -> anyhow::Result<Utf8PathBuf> {
    Utf8PathBuf::from_path_buf(path.to_owned())
        .map_err(|path| anyhow::anyhow!("{} is not UTF-8", path.display()))
}

fn explained(err: FetchError) -> anyhow::Error {
    let is_full = matches!(&err, FetchError::Write(source)
        if source.kind() == io::ErrorKind::StorageFull || source.kind() == io::ErrorKind::QuotaExceeded);
    let err = anyhow::Error::from(err);
    if is_full {
        return err.context("there is no room left; what was fetched is removed again");
    }
    err
}
