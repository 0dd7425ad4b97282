//! Whether PCI devices can be handed to VMs.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use super::{Check, Distribution};
use crate::host::{PciAddress, Vm, VmId};
use crate::observe::{Iommu, PciDevices, Vfio};

pub(super) fn checks(
    distribution: Distribution,
    seen: &PciDevices,
    vms: &BTreeMap<VmId, Vm>,
) -> Vec<Check> {
    let iommu = "iommu";
    let wanted: Vec<(&VmId, PciAddress)> = vms
        .iter()
        .flat_map(|(id, vm)| vm.pci.iter().map(move |address| (id, *address)))
        .collect();
    if wanted.is_empty() {
        let what = match seen.iommu {
            Iommu::On => "on: devices can be handed to VMs",
            Iommu::Off => "off: devices cannot be handed to VMs",
        };
        return vec![Check::ok(iommu, what)];
    }
    let mut checks = Vec::new();
    checks.push(match seen.iommu {
        Iommu::On => Check::ok(iommu, "on: devices can be handed to VMs"),
        Iommu::Off => Check::fail(
            iommu,
            "off, and VMs are to have PCI devices",
            format!(
                "switch VT-d or AMD-Vi on in the firmware's settings; on Intel also boot with {}",
                match distribution {
                    Distribution::Nixos => "`boot.kernelParams = [ \"intel_iommu=on\" ];`",
                    _ => "`intel_iommu=on` on the kernel's command line",
                }
            ),
        ),
    });
    checks.push(match seen.vfio {
        Vfio::There => Check::ok("vfio", "the kernel has vfio-pci"),
        Vfio::Missing => Check::fail(
            "vfio",
            "the kernel has no driver vfio-pci, and VMs are to have PCI devices",
            "install the package of the kernel's modules that has it, or run a kernel with CONFIG_VFIO_PCI",
        ),
    });
    for (id, address) in wanted {
        let name = format!("vm {id}");
        let Some(device) = seen.there.get(&address) else {
            checks.push(Check::fail(
                name,
                format!("its PCI device {address} is not there"),
                "`lspci -D` lists those that there are",
            ));
            continue;
        };
        let driver = device.driver.as_deref().unwrap_or("no driver");
        let group = device.group.map_or("no IOMMU group".to_owned(), |group| {
            format!("IOMMU group {group}")
        });
        checks.push(Check::ok(
            name,
            format!("its PCI device {address} is in {group} and has {driver}"),
        ));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;
    use crate::host::IommuGroup;
    use crate::observe::PciDevice;

    fn verdicts(seen: &PciDevices) -> Vec<(String, Verdict)> {
        let sources = [crate::config::Source {
            name: "nkudo.toml".to_owned(),
            text: "[vm.gpu]\nkernel = \"/k\"\n[[vm.gpu.pci]]\naddress = \"01:00.0\"\n".to_owned(),
        }];
        let host = crate::config::load(&sources).host.unwrap();
        let checks = checks(Distribution::Debian, seen, &host.vms);
        let checks = checks.into_iter();
        checks.map(|check| (check.name, check.verdict)).collect()
    }

    #[test]
    fn a_host_that_cannot_hand_devices_over_is_told_why() {
        let said = verdicts(&PciDevices::default());
        let all = ["iommu", "vfio", "vm gpu"].map(|name| (name.to_owned(), Verdict::Fail));
        assert_eq!(said, all);
    }

    #[test]
    fn a_host_that_can_is_fine() {
        let device = PciDevice {
            group: Some(IommuGroup(3)),
            ..PciDevice::default()
        };
        let seen = PciDevices {
            iommu: Iommu::On,
            vfio: Vfio::There,
            there: BTreeMap::from([("0000:01:00.0".parse().unwrap(), device)]),
            taken: BTreeMap::new(),
        };
        let said = verdicts(&seen);
        assert!(
            said.iter().all(|(_, verdict)| *verdict == Verdict::Ok),
            "{said:?}"
        );
    }
}
