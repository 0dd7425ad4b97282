//! A configuration, adapted to the disks that are there.

#![deny(clippy::disallowed_methods)]

use crate::host::{Boot, DiskOrigin, Host, Image, ImageBoot};
use crate::observe::Storage;

/// Makes the VMs use the disks that are there as those were made: in their format, over the image that they
/// lie over, and with the kernel of that image. A disk that is there is never replaced, whatever is
/// declared since.
pub fn as_made(host: &mut Host, storage: &Storage) {
    let images = &host.images;
    let state_dir = &host.state_dir;
    for (id, vm) in &mut host.vms {
        if let Boot::Inside { image, cmdline } = &vm.boot {
            let first = vm.disks.first().filter(|disk| disk.origin.is_made());
            let made = first.and_then(|disk| storage.disk(id, &disk.name));
            let made_with =
                made.and_then(|made| made.record.as_ref()?.image.as_ref()?.inside.as_ref());
            let record = images.get(image).and_then(Image::inside);
            let declared = record.and_then(|record| storage.inside.get(&record));
            if let Some(inside) = made_with.or(declared) {
                vm.boot = inside.boot(state_dir, cmdline.as_ref());
            }
        }
        for (index, disk) in vm.disks.iter_mut().enumerate() {
            if !disk.origin.is_made() {
                continue;
            }
            let Some(made) = storage.disk(id, &disk.name) else {
                continue;
            };
            let file = super::file_name(&disk.name, made.format);
            disk.path = state_dir.join(&["vms", id.as_str(), &file]);
            disk.format = made.format;
            let Some(record) = &made.record else {
                continue;
            };
            let seen = record.image.as_ref();
            disk.backing = match record.origin {
                DiskOrigin::Overlay { .. } => seen.map(|image| image.path.clone()),
                _ => None,
            };
            let declared = disk.origin.image().and_then(|name| images.get(name));
            let declared = declared.and_then(|image| image.boot.as_ref());
            if index == 0
                && let (Some(ImageBoot::Beside { kernel: beside, .. }), Some(seen)) =
                    (declared, seen)
                && let Some(made_with) = &seen.kernel
                && let Boot::Kernel { kernel, initrd, .. } = &mut vm.boot
                && *kernel == beside.path(state_dir)
            {
                kernel.clone_from(made_with);
                initrd.clone_from(&seen.initrd);
            }
        }
    }
}
