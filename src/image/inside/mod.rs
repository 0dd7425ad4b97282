//! Takes the kernel out of an image's own filesystem, without mounting anything.
//!
//! An image may be made to attack who reads it: this runs as `nkudo unit take-kernel` in the sandbox of
//! `image::sandbox`. What it writes is one file: the length of a [`Head`] (8 bytes, little-endian), the head as
//! JSON, the kernel, the initrd.

mod choose;
mod filesystem;
mod partitions;
mod slice;
mod version;

use std::fs::File;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use choose::Chosen;
use filesystem::Filesystem;
use partitions::Partition;

/// The largest kernel and initrd that are taken.
const MOST_KERNEL: u64 = 256 << 20;
const MOST_INITRD: u64 = 1 << 30;

/// What was found, before its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Head {
    pub version: String,
    /// Bytes.
    pub kernel: u64,
    pub initrd: Option<u64>,
    pub cmdline: String,
}

/// Why an image has no kernel that can be taken out.
#[derive(Debug, thiserror::Error)]
pub enum NoKernel {
    #[error("cannot read the image")]
    Read(#[from] io::Error),
    #[error("its partition table cannot be made out: {0}")]
    Table(String),
    #[error("there is no kernel that nkudo finds: {0}")]
    Nowhere(String),
    #[error("the kernel {0} needs to be told its root filesystem, and none is found: {1}")]
    NoRoot(String, String),
    #[error("{what} is {size} bytes long, which is no kernel's and no initrd's size")]
    Size { what: String, size: u64 },
    #[error("{what} in the image cannot be read: {why}")]
    File { what: String, why: String },
}

/// Finds the kernel of an image in raw form, and writes it with its initrd.
pub fn take_out(image: &File, to: &mut impl Write) -> Result<(), NoKernel> {
    let length = image.metadata()?.len();
    let parts = partitions::partitions(image, length)?;
    let opened: Vec<(Partition, Result<Filesystem, String>)> = parts
        .into_iter()
        .map(|part| {
            let filesystem = Filesystem::open(&part.slice);
            (part, filesystem)
        })
        .collect();
    let filesystems = || opened.iter().filter_map(|(_, one)| one.as_ref().ok());
    let found = choose::choose(&filesystems().collect::<Vec<_>>());
    let Some((at, chosen)) = found else {
        return Err(NoKernel::Nowhere(told(&opened)));
    };
    let filesystem = filesystems().nth(at);
    let filesystem = filesystem.ok_or_else(|| NoKernel::Nowhere(told(&opened)))?;
    let root = root(&opened, !chosen.initrds.is_empty());
    let cmdline = choose::cmdline(chosen.options.as_deref(), root.as_deref())
        .ok_or_else(|| NoKernel::NoRoot(chosen.version.clone(), told(&opened)))?;
    write(filesystem, &chosen, cmdline, to)
}

fn write(
    filesystem: &Filesystem,
    chosen: &Chosen,
    cmdline: String,
    to: &mut impl Write,
) -> Result<(), NoKernel> {
    let bad = |what: &str, err: io::Error| NoKernel::File {
        what: what.to_owned(),
        why: err.to_string(),
    };
    let open = |path: &str| filesystem.file(path).map_err(|err| bad(path, err));
    let kernel = open(&chosen.kernel)?;
    let size_of = |what: &str, size: u64, most: u64| {
        if size == 0 || size > most {
            let what = what.to_owned();
            return Err(NoKernel::Size { what, size });
        }
        Ok(size)
    };
    size_of(&chosen.kernel, kernel.0, MOST_KERNEL)?;
    // Each begins at a multiple of four, as the kernel wants several archives after one another
    // (Documentation/driver-api/early-userspace/buffer-format.rst).
    let mut initrd: u64 = 0;
    for path in &chosen.initrds {
        let size = size_of(path, open(path)?.0, MOST_INITRD)?;
        initrd = initrd.next_multiple_of(4) + size;
    }
    size_of("what it has as initrds", initrd.max(1), MOST_INITRD)?;
    let head = Head {
        version: chosen.version.clone(),
        kernel: kernel.0,
        initrd: (initrd > 0).then_some(initrd),
        cmdline,
    };
    let json = serde_json::to_vec(&head).map_err(io::Error::other)?;
    to.write_all(&(json.len() as u64).to_le_bytes())?;
    to.write_all(&json)?;
    exactly(kernel, to).map_err(|err| bad(&chosen.kernel, err))?;
    let mut written: u64 = 0;
    for path in &chosen.initrds {
        let padding = written.next_multiple_of(4) - written;
        io::copy(&mut io::repeat(0).take(padding), to)?;
        let initrd = open(path)?;
        written += padding + initrd.0;
        exactly(initrd, to).map_err(|err| bad(path, err))?;
    }
    Ok(())
}

/// Copies so many bytes: a file may say that it is longer than it is.
fn exactly((size, file): (u64, Box<dyn Read + '_>), to: &mut impl Write) -> io::Result<()> {
    let copied = io::copy(&mut file.take(size), to)?;
    if copied == size {
        return Ok(());
    }
    let why = format!("it ends after {copied} of {size} bytes");
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, why))
}

/// How a kernel is told the root filesystem.
fn root(opened: &[(Partition, Result<Filesystem, String>)], has_initrd: bool) -> Option<String> {
    let is_root = |(part, filesystem): &&(Partition, Result<Filesystem, String>)| {
        part.is_root || filesystem.as_ref().is_ok_and(Filesystem::is_root)
    };
    let (part, filesystem) = opened.iter().find(is_root)?;
    if let Some(uuid) = &part.uuid {
        return Some(format!("PARTUUID={uuid}"));
    }
    // All of the disk is a filesystem. The kernel itself knows no filesystem's UUID.
    let uuid = filesystem.as_ref().ok()?.uuid().filter(|_| has_initrd);
    Some(uuid.map_or_else(|| "/dev/vda".to_owned(), |uuid| format!("UUID={uuid}")))
}

/// What there is instead.
fn told(opened: &[(Partition, Result<Filesystem, String>)]) -> String {
    let told = opened.iter().map(|(part, filesystem)| match filesystem {
        Ok(filesystem) => format!("{} is {}", part.name, filesystem.told()),
        Err(why) => format!("{} is {why}", part.name),
    });
    let told: Vec<String> = told.take(16).collect();
    if told.is_empty() {
        return "it has no partitions".to_owned();
    }
    told.join("; ")
}

#[cfg(test)]
mod tests;
