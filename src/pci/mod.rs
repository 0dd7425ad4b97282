//! PCI devices that VMs get: what the kernel says of them, and which driver they have.
//!
//! Everything the kernel tells and is told is in sysfs (Documentation/ABI/testing/sysfs-bus-pci): a device's
//! `driver` is a link, and so is its `iommu_group`; `driver_override` names the one driver that it may get.

mod bind;
mod look;
mod record;

pub use bind::{give_back, take};
pub use look::{look, look_closely};
pub use record::{Taken, records_directory};

use camino::{Utf8Path, Utf8PathBuf};

use crate::host::{IommuGroup, PciAddress};

/// The driver by which processes get devices.
pub const VFIO_PCI: &str = "vfio-pci";

/// Where the kernel's files are, and nkudo's own about them.
#[derive(Debug, Clone)]
pub struct Place {
    /// /sys
    pub sysfs: Utf8PathBuf,
    /// /dev
    pub dev: Utf8PathBuf,
    /// /proc
    pub proc: Utf8PathBuf,
    /// A file for each device that is taken from the host.
    pub records: Utf8PathBuf,
}

impl Place {
    /// Those of this host.
    pub fn host() -> Self {
        Self {
            sysfs: "/sys".into(),
            dev: "/dev".into(),
            proc: "/proc".into(),
            records: records_directory(),
        }
    }

    fn device(&self, address: PciAddress) -> Utf8PathBuf {
        self.sysfs.join("bus/pci/devices").join(address.to_string())
    }

    fn driver(&self, name: &str) -> Utf8PathBuf {
        self.sysfs.join("bus/pci/drivers").join(name)
    }

    fn groups(&self) -> Utf8PathBuf {
        self.sysfs.join("kernel/iommu_groups")
    }

    fn group_file(&self, group: IommuGroup) -> Utf8PathBuf {
        self.dev.join("vfio").join(group.to_string())
    }

    fn record(&self, address: PciAddress) -> Utf8PathBuf {
        self.records.join(address.to_string())
    }
}

/// The last name in a symbolic link's target; nothing where there is no link.
fn link_name(path: &Utf8Path) -> Option<String> {
    let target = path.read_link_utf8().ok()?;
    target.file_name().map(str::to_owned)
}
