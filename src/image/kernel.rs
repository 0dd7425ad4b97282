//! Keeps the kernels that were taken out of images.
//!
//! `<image>.inside` says what was found; kernel and initrd lie beside it as `<their checksum>.boot`. The record is
//! written last, so that what it names is there.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::time::Instant;

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use sha2::Digest as _;
use tempfile::NamedTempFile;

use super::inside::Head;
use super::sandbox::{Bind, SOURCE, Sandboxed, TARGET, in_sandbox};
use super::store::{Store, set_mode, utf8};
use super::{qemu, verify};
use crate::boot_file::{self, Role};
use crate::host::{CmdLine, DiskFormat, ForeignFormat, Image, ImageFile, InsideKernel, Sha256};
use crate::interruption::effect;
use crate::{disk, files};

/// The longest head that is read of what came out of the sandbox.
const MOST_HEAD: u64 = 64 << 10;
/// What people are shown of a version, which the image may have made anything.
const MOST_VERSION: usize = 100;

/// Far more than the largest kernel needs; an image can be made to need without end.
const LIMITS: &[&str] = &["MemoryMax=512M", "RuntimeMaxSec=10min", "LimitFSIZE=2G"];

impl Store {
    /// What is known of the kernel inside an image, by the name of its record.
    pub fn inside(&self, record: &str) -> anyhow::Result<Option<InsideKernel>> {
        let path = self.directory().join(record);
        let json = files::read(&path).with_context(|| format!("cannot read {path}"))?;
        json.map(|json| serde_json::from_slice(&json))
            .transpose()
            .with_context(|| format!("cannot make out {path}"))
    }

    /// Makes sure that the kernel inside an image is there. The image is there already. Blocks for as long as
    /// that takes.
    pub fn ensure_kernel(&self, image: &Image, name: &str) -> anyhow::Result<()> {
        let record = image.disk.inside().context("its checksum is not known")?;
        let sha256 = match &image.disk {
            ImageFile::Here { sha256, .. } => {
                sha256.as_ref().context("its checksum is not known")?
            }
            ImageFile::Stored(file) => &file.sha256,
        };
        if self.has_kernel(&record) {
            return self.tidy(sha256);
        }
        self.ensure_directory()?;
        let _lock = self.lock(sha256, name)?;
        if self.has_kernel(&record) {
            return Ok(());
        }
        self.remove_unfinished(sha256)?;
        let begun = Instant::now();
        // Files on the way to it, which go when this ends however it does.
        let mut path = image.disk.path(self.state_dir()).as_path().to_owned();
        let mut copied = None;
        if matches!(image.disk, ImageFile::Here { .. }) {
            // It may be written to at any moment, and need not be readable for everybody.
            let copy = self.temporary(sha256)?;
            let from = File::open(&path).with_context(|| format!("cannot read {path}"))?;
            disk::copy(&from, copy.as_file()).with_context(|| format!("cannot copy {path}"))?;
            verify(copy.as_file(), sha256)
                .with_context(|| format!("{path} is not the file that was meant"))?;
            path = utf8(copy.path())?;
            set_mode(&path, 0o444)?;
            copied = Some(copy);
        }
        let mut converted = None;
        if image.format == DiskFormat::Qcow2 {
            disk::check_image(&path, DiskFormat::Qcow2)?;
            let raw = self.temporary(sha256)?;
            let to = utf8(raw.path())?;
            qemu::convert(&path, ForeignFormat::Qcow2, &to)?;
            set_mode(&to, 0o444)?;
            (path, converted) = (to, Some(raw));
        }
        let out = self.temporary(sha256)?;
        effect();
        take_out(&path, &utf8(out.path())?)?;
        effect();
        let inside = self.keep(out.as_file(), sha256)?;
        // Before the record: who finds that does not look for what a run that was killed has left.
        drop((copied, converted, out));
        let mut new = self.temporary(sha256)?;
        new.write_all(&serde_json::to_vec(&inside)?)?;
        self.place(new, &record)?;
        let took = begun.elapsed().as_secs_f32();
        let version = &inside.version;
        tracing::info!("took kernel {version} out of image {name} in {took:.1} s");
        Ok(())
    }

    fn has_kernel(&self, record: &str) -> bool {
        let inside = self.inside(record).ok().flatten();
        inside.is_some_and(|inside| {
            let mut names = inside.file_names();
            names.all(|name| self.directory().join(name).exists())
        })
    }

    /// Keeps what came out of the sandbox, which may be anything.
    fn keep(&self, out: &File, image: &Sha256) -> anyhow::Result<InsideKernel> {
        let length = out.metadata()?.len();
        let mut out = out.try_clone()?;
        out.seek(SeekFrom::Start(0))?;
        let mut bytes = [0; 8];
        out.read_exact(&mut bytes)?;
        let head_length = u64::from_le_bytes(bytes);
        if head_length > MOST_HEAD {
            bail!("what was found is described by {head_length} bytes");
        }
        let mut json = Vec::new();
        (&out).take(head_length).read_to_end(&mut json)?;
        let head: Head = serde_json::from_slice(&json).context("cannot make out what was found")?;
        let (kernel_at, initrd_at) = parts(&head, head_length)
            .filter(|(_, initrd_at)| {
                initrd_at.checked_add(head.initrd.unwrap_or(0)) == Some(length)
            })
            .context("what was found is not as long as it says")?;
        let mut first = vec![0; boot_file::LENGTH.min(usize::try_from(head.kernel)?)];
        out.read_exact_at(&mut first, kernel_at)?;
        boot_file::check(Role::Kernel, &first, std::env::consts::ARCH)
            .with_context(|| format!("cannot boot its kernel {}", visible(&head.version)))?;
        let cmdline: CmdLine = head
            .cmdline
            .parse()
            .context("its boot entry is no command line")?;
        if cmdline.as_str().len() > CmdLine::HALF {
            bail!(
                "its boot entry has a command line of {} bytes, and {} are taken",
                cmdline.as_str().len(),
                CmdLine::HALF
            );
        }
        let initrd = match head.initrd {
            Some(length) => Some(self.keep_file(&out, initrd_at, length, image)?),
            None => None,
        };
        Ok(InsideKernel {
            version: visible(&head.version),
            kernel: self.keep_file(&out, kernel_at, head.kernel, image)?,
            initrd,
            cmdline,
        })
    }

    /// Keeps a part of a file under its checksum.
    fn keep_file(
        &self,
        from: &File,
        at: u64,
        length: u64,
        image: &Sha256,
    ) -> anyhow::Result<Sha256> {
        let mut new = self.temporary(image)?;
        let mut from = from.try_clone()?;
        from.seek(SeekFrom::Start(at))?;
        let mut hash = sha2::Sha256::new();
        let mut from = from.take(length);
        let mut buffer = vec![0; 256 << 10];
        loop {
            match from.read(&mut buffer)? {
                0 => break,
                read => {
                    hash.update(&buffer[..read]);
                    new.write_all(&buffer[..read])?;
                }
            }
        }
        let sha256 = Sha256::of_bytes(&hash.finalize().into());
        self.place(new, &InsideKernel::file_name(&sha256))?;
        Ok(sha256)
    }

    fn place(&self, new: NamedTempFile, name: &str) -> anyhow::Result<()> {
        let path = self.directory().join(name);
        // VMs read it as users of their own.
        set_mode(&utf8(new.path())?, 0o444)?;
        let placed = new.as_file().sync_all().and_then(|()| {
            new.persist(&path).map_err(|err| err.error)?;
            files::sync_directory(self.directory())
        });
        placed.with_context(|| format!("cannot write {path}"))?;
        effect();
        Ok(())
    }
}

/// Where kernel and initrd begin.
fn parts(head: &Head, head_length: u64) -> Option<(u64, u64)> {
    let kernel = head_length.checked_add(8)?;
    Some((kernel, kernel.checked_add(head.kernel)?))
}

fn visible(version: &str) -> String {
    let visible = version.chars().filter(char::is_ascii_graphic);
    visible.take(MOST_VERSION).collect()
}

/// Runs nkudo itself in the sandbox.
fn take_out(image: &Utf8Path, to: &Utf8Path) -> anyhow::Result<()> {
    let nkudo = std::env::current_exe()
        .and_then(fs::canonicalize)
        .and_then(|path| {
            Utf8PathBuf::from_path_buf(path).map_err(|_| io::ErrorKind::InvalidData.into())
        })
        .context("cannot find nkudo itself")?;
    let source = Bind {
        path: image,
        at: SOURCE,
    };
    in_sandbox(&Sandboxed {
        what: "the search for a kernel",
        program: &nkudo,
        arguments: &["unit", "take-kernel", SOURCE, TARGET],
        read: &[source],
        target: to,
        limits: LIMITS,
    })
}
