//! `[[vm.<id>.pci]]`.

use schemars::JsonSchema;

/// A PCI device of the host that is the guest's alone while the VM runs (VFIO): a GPU, a NIC, a disk's controller.
///
/// A switch binds it to the driver `vfio-pci` before the VM starts, and gives it back to the driver that it had
/// once the VM has been stopped for good or does not have it any more. The host needs an IOMMU that is on. All
/// devices of its IOMMU group have to be this VM's, or without a driver. The VM's memory is in RAM as a whole, and
/// cannot have a `balloon` or be `mergeable`.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PciTable {
    /// Where it is: domain, bus, device and function, as `lspci -D` prints it. A device is one VM's.
    ///
    /// Example: `address = "0000:01:00.0"`
    /// Becomes: `--device path=/sys/bus/pci/devices/0000:01:00.0`
    #[schemars(regex(pattern = r"^([0-9A-Fa-f]{4,8}:)?[0-9A-Fa-f]{2}:[01][0-9A-Fa-f]\.[0-7]$"))]
    pub address: String,
}
