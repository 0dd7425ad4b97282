//! Disks and images.

use nkudo::disk::{DiskRecord, ImageSeen};
use nkudo::document::FormatVersion;
use nkudo::generation::Manifest;
use nkudo::host::{DiskAccess, DiskFormat, Image, ImageFile, InsideKernel, Size};
use nkudo::observe::{Below, Holder, MadeDisk, Storage};

use super::differs::{Differs, Presence};

/// The kernel in every image of `before` that is booted by it.
fn inside() -> InsideKernel {
    InsideKernel {
        version: "6.12".to_owned(),
        kernel: "ab".repeat(32).parse().unwrap(),
        initrd: None,
        cmdline: "root=PARTUUID=1 ro console=ttyS0".parse().unwrap(),
    }
}

/// The disks and images that `before` needs, but for what differs.
pub(crate) fn storage(before: &Manifest, differs: &Differs) -> Storage {
    let mut storage = Storage::default();
    let host = &before.host;
    for (id, vm) in &host.vms {
        for disk in vm.disks.iter().filter(|disk| disk.origin.is_made()) {
            let image = disk.origin.image().map(|name| &host.images[name]);
            let seen = image.map(|image| ImageSeen {
                identity: image.disk.identity(),
                path: image.disk.path(&host.state_dir),
                format: image.format,
                length: 2 << 30,
                modified: 0,
                kernel: None,
                initrd: None,
                inside: image.inside().map(|_| inside()),
            });
            let made = MadeDisk {
                format: disk.format,
                size: disk.origin.size().or(Some(Size::from_mib(2048))),
                allocated: Size::from_mib(1),
                record: Some(DiskRecord {
                    version: FormatVersion,
                    origin: disk.origin.clone(),
                    image: seen,
                }),
                below: Below::Whole,
            };
            let disks = storage.disks.entry(id.clone()).or_default();
            disks.insert(disk.name.clone(), made);
        }
    }
    for file in host.images.values().flat_map(Image::files) {
        if let ImageFile::Stored(file) = file {
            storage.images.insert(file.name());
        }
    }
    for record in host.images.values().filter_map(Image::inside) {
        storage.inside.insert(record, inside());
    }
    storage.images.extend(differs.images.iter().cloned());
    for (id, disks) in &differs.disk {
        for (name, change) in disks {
            let disks = storage.disks.entry(id.clone()).or_default();
            if change.is == Some(Presence::Absent) {
                disks.remove(name);
                continue;
            }
            let made = disks.entry(name.clone()).or_insert(MadeDisk {
                format: DiskFormat::Raw,
                size: None,
                allocated: Size::from_mib(1),
                record: None,
                below: Below::Whole,
            });
            made.size = change.size.or(made.size);
            made.format = change.format.unwrap_or(made.format);
        }
    }
    for (path, who) in &differs.locked {
        let vm = who.strip_prefix("VM ").map(|id| id.parse().unwrap());
        let holder = Holder {
            pid: 4321,
            command: vm
                .as_ref()
                .map_or(who.as_str(), |_| "cloud-hyperviso")
                .to_owned(),
            vm,
            access: DiskAccess::ReadWrite,
        };
        storage.held.insert(path.as_path().to_owned(), holder);
    }
    storage.missing = nkudo::disk::PROGRAMS
        .into_iter()
        .filter(|program| differs.missing_programs.contains(*program))
        .collect();
    storage
}
