//! What was seen of PCI devices: plain data, for `plan`.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use crate::host::{IommuGroup, PciAddress};
use crate::pci::Taken;

/// Empty where no VM has or had a PCI device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PciDevices {
    pub iommu: Iommu,
    pub vfio: Vfio,
    /// Those that VMs are to have or had, and the others of their groups; what is not there, is not in it.
    pub there: BTreeMap<PciAddress, PciDevice>,
    /// Those that nkudo took from the host.
    pub taken: BTreeMap<PciAddress, Taken>,
}

/// Whether the kernel keeps devices from memory that is not theirs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Iommu {
    On,
    #[default]
    Off,
}

/// Whether the kernel has the driver `vfio-pci`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Vfio {
    /// Loaded, or a module that can be.
    There,
    #[default]
    Missing,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PciDevice {
    pub driver: Option<String>,
    pub group: Option<IommuGroup>,
    /// What the host uses it for, each in words: `/dev/sda, which is mounted on /`.
    pub uses: Vec<String>,
    /// The links that it has.
    pub links: Vec<String>,
}
