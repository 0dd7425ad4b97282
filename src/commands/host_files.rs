//! Looks at the files that a configuration names and that have to be on this host already.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;

use camino::Utf8Path;

use crate::boot_file::{self, Role};
use crate::disk::{BadImage, check_image};
use crate::host::{AbsolutePath, Boot, Disk, DiskOrigin, Host, ImageFile, Location, Ready, VmId};

/// What is wrong with them, a sentence each.
pub(super) fn mistakes(host: &Host) -> Vec<String> {
    let mut mistakes: Vec<String> = unheard(host, std::env::consts::ARCH).into_iter().collect();
    let images = host.state_dir.join(&["images"]);
    // A switch fetches those, and makes disks in the state directory.
    let is_fetched = |path: &AbsolutePath| path.as_path().starts_with(images.as_path());
    for (name, image) in &host.images {
        for file in image.files() {
            let path = match file {
                ImageFile::Here { path, .. } => path,
                ImageFile::Stored(stored) => match &stored.from {
                    Location::Path(path) => path,
                    Location::Url(_) => continue,
                },
            };
            if let Err(err) = fs::metadata(path.as_path()) {
                mistakes.push(format!("image {name}: cannot find {path}: {err}"));
            }
        }
    }
    // Many VMs boot the same file: it is looked at, and complained of, once.
    let mut seen: BTreeMap<(&AbsolutePath, Option<Role>), BootFile<'_>> = BTreeMap::new();
    for (id, vm) in &host.vms {
        let boots: Vec<(&AbsolutePath, Option<Role>)> = match &vm.boot {
            Boot::Kernel { kernel, initrd, .. } => std::iter::once((kernel, Some(Role::Kernel)))
                .chain(initrd.as_ref().map(|initrd| (initrd, None)))
                .collect(),
            Boot::Firmware(firmware) => vec![(firmware, Some(Role::Firmware))],
            Boot::Inside { .. } => Vec::new(),
        };
        for (path, role) in boots.into_iter().filter(|(path, _)| !is_fetched(path)) {
            seen.entry((path, role))
                .and_modify(|file| file.others += 1)
                .or_insert_with(|| BootFile {
                    first: id,
                    others: 0,
                    mistake: boots_from(path.as_path(), role).err(),
                });
        }
        for disk in &vm.disks {
            if disk.origin == DiskOrigin::Existing
                && let Err(err) = fs::metadata(disk.path.as_path())
            {
                mistakes.push(format!(
                    "VM {id}: cannot find its disk {}: {err}",
                    disk.path
                ));
            }
        }
    }
    for ((path, _), file) in seen {
        if let Some(why) = file.mistake {
            let others = match file.others {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            mistakes.push(format!(
                "VM {}{others} cannot boot {path}: {why}",
                file.first
            ));
        }
    }
    mistakes
}

/// Disks that are there and are no image of the format that is declared: their guests see rubbish, or nothing boots. It is
/// no mistake, since a guest may write to its disk what it likes.
pub(super) fn surprises(host: &Host) -> Vec<String> {
    let disks = host.vms.iter().flat_map(|(id, vm)| {
        let there = |disk: &&Disk| disk.origin == DiskOrigin::Existing;
        vm.disks.iter().filter(there).map(move |disk| (id, disk))
    });
    disks
        .filter(|(_, disk)| fs::metadata(disk.path.as_path()).is_ok_and(|file| file.is_file()))
        .filter_map(|(id, disk)| {
            let err = check_image(disk.path.as_path(), disk.format).err()?;
            let path = &disk.path;
            Some(match err.downcast_ref() {
                Some(BadImage::Compressed(how)) => format!(
                    "the disk {path} of VM {id} is compressed ({how}); unpack it, or declare it as an image"
                ),
                _ => format!("the disk {path} of VM {id}: {err:#}"),
            })
        })
        .collect()
}

/// A VM whose guest cannot say that it is ready: cloud-hypervisor hands the credential over in the tables of a PC's
/// firmware, on no other architecture.
pub(super) fn unheard(host: &Host, architecture: &str) -> Option<String> {
    let mut vms = host.vms.iter();
    let (id, _) = vms.find(|(_, vm)| matches!(vm.ready, Ready::Guest { .. }))?;
    (architecture != "x86_64").then(|| {
        format!(
            "the guest of VM {id} cannot say on {architecture} that it is ready, on x86_64 alone; \
             `ready = \"tcp:22\"` waits for a port of it"
        )
    })
}

/// A file that VMs boot.
struct BootFile<'a> {
    first: &'a VmId,
    /// How many other VMs boot it.
    others: usize,
    mistake: Option<String>,
}

fn boots_from(path: &Utf8Path, role: Option<Role>) -> Result<(), String> {
    let metadata = fs::metadata(path).map_err(|err| err.to_string())?;
    // Opening a FIFO waits for a writer.
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if metadata.permissions().mode() & 0o004 == 0 {
        return Err(format!(
            "the VM's user cannot read it; `chmod o+r {path}` lets everybody"
        ));
    }
    let Some(role) = role else { return Ok(()) };
    let mut first = Vec::new();
    let read = File::open(path).and_then(|file| {
        let length = boot_file::LENGTH as u64;
        file.take(length).read_to_end(&mut first)
    });
    read.map_err(|err| err.to_string())?;
    boot_file::check(role, &first, std::env::consts::ARCH).map_err(|err| err.to_string())
}
