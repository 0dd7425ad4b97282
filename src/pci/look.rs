//! What the kernel says of devices: effects that only read.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use super::{Place, VFIO_PCI, link_name};
use crate::files;
use crate::host::{IommuGroup, PciAddress};
use crate::observe::{Iommu, PciDevice, PciDevices, Vfio};

/// How deep the devices of a device are looked for: a disk behind a SAS expander is some twelve directories down.
const DEEPEST: usize = 20;

/// Looks at these devices, at those that are taken, and at what is in one group with them.
pub fn look(place: &Place, wanted: &BTreeSet<PciAddress>) -> io::Result<PciDevices> {
    if wanted.is_empty() && files::names(&place.records)?.is_empty() {
        return Ok(PciDevices::default());
    }
    look_closely(place, wanted)
}

/// The same, and what the kernel can do, also where nobody has a device.
pub fn look_closely(place: &Place, wanted: &BTreeSet<PciAddress>) -> io::Result<PciDevices> {
    let mut seen = PciDevices::default();
    for name in files::names(&place.records)? {
        if let Ok(address) = name.parse()
            && let Some(taken) = place.taken(address)?
        {
            seen.taken.insert(address, taken);
        }
    }
    if !files::names(&place.groups())?.is_empty() {
        seen.iommu = Iommu::On;
    }
    if place.driver(VFIO_PCI).is_dir() || is_a_module(place)? {
        seen.vfio = Vfio::There;
    }
    let mut addresses: BTreeSet<PciAddress> =
        wanted.iter().chain(seen.taken.keys()).copied().collect();
    for address in addresses.clone() {
        if let Some(group) = place.group_of(address) {
            let members = place.groups().join(group.to_string()).join("devices");
            let members = files::names(&members)?;
            addresses.extend(
                members
                    .iter()
                    .filter_map(|name| name.parse::<PciAddress>().ok()),
            );
        }
    }
    for address in addresses {
        let device = place.device(address);
        if device.exists() {
            let (uses, links) = uses(place, &device);
            let device = PciDevice {
                driver: place.driver_of(address),
                group: place.group_of(address),
                uses,
                links,
            };
            seen.there.insert(address, device);
        }
    }
    Ok(seen)
}

/// Whether there is a module `vfio-pci` for the kernel that runs (modules.dep(5)).
fn is_a_module(place: &Place) -> io::Result<bool> {
    let release = fs::read_to_string(place.proc.join("sys/kernel/osrelease")).unwrap_or_default();
    for root in [
        "/lib/modules",
        "/run/booted-system/kernel-modules/lib/modules",
    ] {
        let index = Utf8Path::new(root).join(release.trim()).join("modules.dep");
        let text = files::read(&index)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        // `kernel/drivers/vfio/pci/vfio-pci.ko.xz: …`
        if text.lines().any(|line| line.contains("/vfio-pci.ko")) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Place {
    pub(super) fn driver_of(&self, address: PciAddress) -> Option<String> {
        link_name(&self.device(address).join("driver"))
    }

    pub(super) fn group_of(&self, address: PciAddress) -> Option<IommuGroup> {
        let name = link_name(&self.device(address).join("iommu_group"))?;
        name.parse().ok().map(IommuGroup)
    }
}

/// What the host uses a device for, and the links that it has.
fn uses(place: &Place, device: &Utf8Path) -> (Vec<String>, Vec<String>) {
    let mut below = Below::default();
    below.walk(device, 0);
    let mounts = fs::read_to_string(place.proc.join("self/mountinfo")).unwrap_or_default();
    let swaps = fs::read_to_string(place.proc.join("swaps")).unwrap_or_default();
    let mut uses = Vec::new();
    for block in &below.blocks {
        let name = block.file_name().unwrap_or_default();
        let file = format!("/dev/{name}");
        let number = fs::read_to_string(block.join("dev")).unwrap_or_default();
        if let Some(at) = mounted_at(&mounts, number.trim(), &file) {
            uses.push(format!("{file}, which is mounted at {at}"));
        } else if swaps
            .lines()
            .any(|line| line.split(' ').next() == Some(&file))
        {
            uses.push(format!("{file}, which is swapped to"));
        } else if let Some(holder) = files::names(&block.join("holders"))
            .unwrap_or_default()
            .first()
        {
            uses.push(format!("{file}, which /dev/{holder} is made of"));
        }
    }
    (uses, below.links)
}

/// Where a filesystem is mounted (proc_pid_mountinfo(5)): `36 35 98:0 /mnt1 /mnt2 rw - ext3 /dev/root rw`. That of
/// btrfs has a device number of its own, and the device's name.
fn mounted_at<'m>(mounts: &'m str, number: &str, file: &str) -> Option<&'m str> {
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(2);
        let (its_number, at) = (left.next()?, left.nth(1)?);
        let its_file = right.split(' ').nth(1)?;
        (its_number == number || its_file == file).then_some(at)
    })
}

/// What a device is made of.
#[derive(Debug, Default)]
struct Below {
    blocks: Vec<Utf8PathBuf>,
    links: Vec<String>,
}

impl Below {
    /// Goes through the directories of a device, not through links, which lead to others.
    fn walk(&mut self, directory: &Utf8Path, depth: usize) {
        match link_name(&directory.join("subsystem")).as_deref() {
            Some("block") => self.blocks.push(directory.to_owned()),
            Some("net") => {
                self.links.extend(directory.file_name().map(str::to_owned));
                return;
            }
            _ => {}
        }
        let entries = directory.read_dir_utf8().into_iter().flatten().flatten();
        for entry in entries.take_while(|_| depth < DEEPEST) {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.walk(entry.path(), depth + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_known_by_its_number_or_its_device() {
        let mounts = "28 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw\n\
                      31 28 0:27 /home /home rw - btrfs /dev/sda1 rw\n";
        assert_eq!(mounted_at(mounts, "259:2", "/dev/x"), Some("/"));
        assert_eq!(mounted_at(mounts, "8:1", "/dev/sda1"), Some("/home"));
        assert_eq!(mounted_at(mounts, "8:0", "/dev/sda"), None);
    }
}
