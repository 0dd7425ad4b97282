//! Makes a disk that is not there.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use tempfile::NamedTempFile;

use super::{Copied, DiskRecord, Header, ImageSeen, copy, header};
use crate::document::FormatVersion;
use crate::files::{self, UNFINISHED};
use crate::host::{
    Disk, DiskFormat, DiskOrigin, Filesystem, Host, Image, ImageBoot, ImageFile, ImageName, Label,
    Size, VmId,
};
use crate::image::qemu;
use crate::{image, programs};

/// What is to be made, and of what.
#[derive(Debug, Clone, Copy)]
pub struct Making<'a> {
    pub host: &'a Host,
    pub id: &'a VmId,
    pub disk: &'a Disk,
    pub place: Place,
}

/// Where a new disk is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Where the VM has it. There must be none.
    Final,
    /// Beside that, until `place` puts it there.
    Staged,
}

impl Place {
    /// What a disk or its record is called there. A staged one is an unfinished file: the next disk that is made
    /// removes it.
    fn name(self, name: &str) -> String {
        match self {
            Self::Final => name.to_owned(),
            Self::Staged => format!("{UNFINISHED}new-{name}"),
        }
    }
}

/// Makes a disk and its record. The images that it needs are there already. Blocks for as long as that takes.
pub fn make(making: Making<'_>) -> anyhow::Result<()> {
    let begun = Instant::now();
    let Making { id, disk, .. } = making;
    let directory = super::directory(&making.host.state_dir, id);
    prepare(&making.host.state_dir.as_path().join("vms"), &directory)?;
    if making.place == Place::Final {
        remove_unfinished(&directory)?;
    }
    let new = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .suffix(&format!(".{}", disk.format))
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(&directory)
        .with_context(|| format!("cannot make a file in {directory}"))?;
    let (seen, how) = match &disk.origin {
        DiskOrigin::Existing | DiskOrigin::Image { .. } => return Ok(()),
        DiskOrigin::Volume {
            size,
            filesystem,
            label,
        } => {
            volume(&new, *size, *filesystem, label.as_ref())?;
            let how = filesystem.map_or("empty".to_owned(), |one| format!("empty {one}"));
            (None, format!("{how}, {size}"))
        }
        DiskOrigin::Clone { image, size } => {
            let (image, seen) = making.image(image)?;
            let how = clone(&new, image, &seen, *size)?;
            (Some(seen), how)
        }
        DiskOrigin::Overlay { image: name, size } => {
            let (_, seen) = making.image(name)?;
            let size = overlay(&new, &seen, *size)?;
            (Some(seen), format!("over the image {name}, {size}"))
        }
    };
    new.as_file()
        .sync_all()
        .context("cannot write it to the disk")?;
    let record = DiskRecord {
        version: FormatVersion,
        origin: disk.origin.clone(),
        image: seen,
    };
    // First: a record without its disk is one of a disk that is not made yet, and the next run writes
    // it anew.
    let path = directory.join(making.place.name(&super::record_name(&disk.name)));
    files::replace(&path, &record.to_json()?, 0o600)
        .with_context(|| format!("cannot write {path}"))?;
    let file = super::file_name(&disk.name, disk.format);
    let path = directory.join(making.place.name(&file));
    // Never over a file that is there.
    new.persist_noclobber(&path)
        .map_err(|err| err.error)
        .and_then(|_| files::sync_directory(&directory))
        .with_context(|| format!("cannot write {path}"))?;
    let took = begun.elapsed().as_secs_f32();
    tracing::info!(nkudo_vm = %id, "made disk {} of {id} in {took:.2} s: {how}", disk.name);
    Ok(())
}

/// Puts a staged disk where the VM has it.
pub fn place(making: Making<'_>) -> anyhow::Result<()> {
    let disk = making.disk;
    let directory = super::directory(&making.host.state_dir, making.id);
    for name in [
        super::record_name(&disk.name),
        super::file_name(&disk.name, disk.format),
    ] {
        let (from, to) = (
            directory.join(Place::Staged.name(&name)),
            directory.join(&name),
        );
        fs::rename(&from, &to).with_context(|| format!("cannot rename {from} to {to}"))?;
    }
    files::sync_directory(&directory).with_context(|| format!("cannot sync {directory}"))
}

/// Makes the VM's directory.
fn prepare(parent: &Utf8Path, directory: &Utf8Path) -> anyhow::Result<()> {
    let ensure = |path: &Utf8Path, mode| {
        files::ensure_directory(path, mode).with_context(|| format!("cannot make {path}"))
    };
    ensure(parent, 0o711)?;
    ensure(directory, 0o700)
}

/// Removes what runs that were killed have left in a VM's directory.
pub fn remove_unfinished(directory: &Utf8Path) -> anyhow::Result<()> {
    files::sweep(directory)
        .with_context(|| format!("cannot remove what a run that was killed left in {directory}"))
}

impl<'a> Making<'a> {
    /// The image, and what is to be remembered of it.
    fn image(self, name: &ImageName) -> anyhow::Result<(&'a Image, ImageSeen)> {
        let image = self.host.images.get(name);
        let image = image.with_context(|| format!("the image {name} is not declared"))?;
        let state_dir = &self.host.state_dir;
        let path = image.disk.path(state_dir);
        let metadata = fs::metadata(path.as_path())
            .with_context(|| format!("cannot read the image {path}"))?;
        if !metadata.is_file() && image.format == DiskFormat::Qcow2 {
            bail!("the image {path} is no file");
        }
        let (kernel, initrd) = match &image.boot {
            Some(ImageBoot::Beside { kernel, initrd, .. }) => (Some(kernel), initrd.as_ref()),
            Some(ImageBoot::Inside { .. }) | None => (None, None),
        };
        let seen = ImageSeen {
            identity: image.disk.identity(),
            format: image.format,
            length: metadata.len(),
            modified: modified(&metadata),
            kernel: kernel.map(|kernel| kernel.path(state_dir)),
            initrd: initrd.map(|initrd| initrd.path(state_dir)),
            inside: match image.inside() {
                Some(name) => image::Store::new(state_dir).inside(&name)?,
                None => None,
            },
            path,
        };
        Ok((image, seen))
    }
}

/// Nanoseconds since 1970 of a file's last change.
pub fn modified(metadata: &fs::Metadata) -> i128 {
    i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec())
}

/// The image's header, which must be that of an image that stands for itself.
fn image_header(seen: &ImageSeen, file: &File) -> anyhow::Result<Header> {
    header_of(file, seen.format, seen.length)
        .with_context(|| format!("{} cannot be used as an image", seen.path))
}

/// Refuses a file that is not an image of this format, or that refers to other files.
pub fn check_image(path: &Utf8Path, format: DiskFormat) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("cannot read {path}"))?;
    header_of(&file, format, file.metadata()?.len())?;
    Ok(())
}

fn header_of(file: &File, format: DiskFormat, length: u64) -> anyhow::Result<Header> {
    let mut first = [0; header::LENGTH];
    let mut read = 0;
    while read < first.len() {
        match file.read_at(&mut first[read..], read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    Ok(Header::of_image(format, &first[..read], length)?)
}

fn clone(
    new: &NamedTempFile,
    image: &Image,
    seen: &ImageSeen,
    size: Option<Size>,
) -> anyhow::Result<String> {
    let path = &seen.path;
    let from = File::open(path.as_path()).with_context(|| format!("cannot read {path}"))?;
    let header = image_header(seen, &from)?;
    let size = large_enough(size, header)?;
    if let ImageFile::Here {
        sha256: Some(sha256),
        ..
    } = &image.disk
    {
        image::verify(&from, sha256).with_context(|| format!("cannot use the image {path}"))?;
    }
    let copied =
        copy(&from, new.as_file()).with_context(|| format!("cannot copy the image {path}"))?;
    let now = fs::metadata(path.as_path())?;
    if (now.len(), modified(&now)) != (seen.length, seen.modified) {
        bail!("the image {path} was written to while it was copied");
    }
    if size.bytes() > header.size {
        match seen.format {
            DiskFormat::Raw => new.as_file().set_len(size.bytes())?,
            DiskFormat::Qcow2 => qemu::resize(&named(new)?, DiskFormat::Qcow2, None, size)?,
        }
    }
    Ok(match copied {
        Copied::Reflink => format!("a reflink of {path}, {size}"),
        Copied::Bytes(bytes) => format!("a copy of {path}, {size} ({} MiB copied)", bytes >> 20),
    })
}

/// The size that a disk of an image gets: whole sectors.
fn large_enough(wanted: Option<Size>, header: Header) -> anyhow::Result<Size> {
    let least = Size::from_bytes(header.size.next_multiple_of(512));
    match wanted {
        Some(wanted) if wanted < least => bail!(
            "its `size` is {wanted}, and the image is of {least}: a disk cannot be smaller than its image"
        ),
        Some(wanted) => Ok(wanted),
        None => Ok(least),
    }
}

fn overlay(new: &NamedTempFile, seen: &ImageSeen, size: Option<Size>) -> anyhow::Result<Size> {
    let path = &seen.path;
    let image = File::open(path.as_path()).with_context(|| format!("cannot read {path}"))?;
    let size = large_enough(size, image_header(seen, &image)?)?;
    qemu::create_overlay(&named(new)?, path.as_path(), seen.format, size)?;
    Ok(size)
}

fn volume(
    new: &NamedTempFile,
    size: Size,
    filesystem: Option<Filesystem>,
    label: Option<&Label>,
) -> anyhow::Result<()> {
    new.as_file()
        .set_len(size.bytes())
        .with_context(|| format!("cannot make a file of {size}"))?;
    let Some(filesystem) = filesystem else {
        return Ok(());
    };
    let program = mkfs(filesystem);
    let mut command =
        Command::new(programs::find(program).with_context(|| {
            format!("there is no {program}; install the tools of {filesystem}")
        })?);
    command.args(match filesystem {
        // The file is all holes: there is nothing to discard, and no old content to keep.
        Filesystem::Ext4 => ["-q", "-F", "-E", "nodiscard"].as_slice(),
        Filesystem::Xfs | Filesystem::Btrfs => ["-q", "-f", "-K"].as_slice(),
        Filesystem::Vfat => [].as_slice(),
    });
    if let Some(label) = label {
        let option = if filesystem == Filesystem::Vfat {
            "-n"
        } else {
            "-L"
        };
        command.args([option, label.as_str()]);
    }
    command.arg(new.path());
    qemu::run(command, program)
}

/// The program that makes a filesystem.
pub const fn mkfs(filesystem: Filesystem) -> &'static str {
    match filesystem {
        Filesystem::Ext4 => "mkfs.ext4",
        Filesystem::Xfs => "mkfs.xfs",
        Filesystem::Btrfs => "mkfs.btrfs",
        Filesystem::Vfat => "mkfs.vfat",
    }
}

fn named(file: &NamedTempFile) -> anyhow::Result<Utf8PathBuf> {
    Utf8PathBuf::from_path_buf(file.path().to_owned())
        .map_err(|path| anyhow::anyhow!("{} is not UTF-8", path.display()))
}
