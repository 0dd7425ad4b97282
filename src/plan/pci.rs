//! What becomes of PCI devices of the host.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Obstacle, Plan, Request};
use crate::generation::Manifest;
use crate::host::{IommuGroup, PciAddress, VmId};
use crate::observe::{Iommu, Observed, PciDevice, Specification, UnitState, Vfio};
use crate::pci::VFIO_PCI;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PciStep {
    /// It is bound to `vfio-pci` before the VM starts.
    Take { vm: VmId, from: Option<String> },
    /// Its VM does not have it any more.
    GiveBack { vm: VmId, to: Option<String> },
}

pub(super) fn steps(plan: &mut Plan, wanted: &Manifest, observed: &Observed, request: &Request) {
    let mut steps = BTreeMap::new();
    let after = after(plan, wanted, observed);
    for (address, taken) in &observed.pci.taken {
        let concerns = request.is_whole() || plan.vms.contains_key(&taken.vm);
        // The kernel gives no driver a device of a group that a VM has.
        let group = group(observed, *address);
        let group_is_used = after
            .keys()
            .any(|other| group.is_some() && self::group(observed, *other) == group);
        if concerns && !after.contains_key(address) && !group_is_used {
            let step = PciStep::GiveBack {
                vm: taken.vm.clone(),
                to: taken.driver.clone(),
            };
            steps.insert(*address, step);
        }
    }
    for (id, address) in starting(plan, wanted) {
        let device = observed.pci.there.get(&address);
        let driver = device.and_then(|device| device.driver.clone());
        if driver.as_deref() != Some(VFIO_PCI) {
            let step = PciStep::Take {
                vm: id.clone(),
                from: driver,
            };
            steps.insert(address, step);
        }
    }
    plan.pci = steps;
}

fn group(observed: &Observed, address: PciAddress) -> Option<IommuGroup> {
    observed.pci.there.get(&address)?.group
}

/// The devices of VMs that start.
fn starting<'a>(
    plan: &'a Plan,
    wanted: &'a Manifest,
) -> impl Iterator<Item = (&'a VmId, PciAddress)> {
    let starts = |action: Action| matches!(action, Action::Start | Action::Restart);
    let starts = plan.vms.iter().filter(move |(_, step)| starts(step.action));
    starts.flat_map(|(id, _)| {
        let vm = wanted.host.vms.get(id).into_iter();
        vm.flat_map(move |vm| vm.pci.iter().map(move |address| (id, *address)))
    })
}

/// Who has which device once the plan is carried out.
fn after(plan: &Plan, wanted: &Manifest, observed: &Observed) -> BTreeMap<PciAddress, VmId> {
    let mut after = staying(plan, observed);
    after.extend(starting(plan, wanted).map(|(id, address)| (address, id.clone())));
    after
}

/// The devices of VMs that run on as they are.
fn staying(plan: &Plan, observed: &Observed) -> BTreeMap<PciAddress, VmId> {
    let mut staying = BTreeMap::new();
    for (id, unit) in &observed.units {
        let stays = match plan.vms.get(id).map(|step| step.action) {
            Some(Action::Stop | Action::Clean | Action::Start | Action::Restart) => false,
            _ => !matches!(unit.state, UnitState::Failed | UnitState::Inactive),
        };
        if !stays {
            continue;
        }
        let remains = observed.remains.get(id);
        if let Some(Specification::Known(booted)) = remains.map(|remains| &remains.specification) {
            staying.extend(booted.vm.pci.iter().map(|address| (*address, id.clone())));
        } else {
            let taken = observed.pci.taken.iter();
            let its = taken.filter(|(_, taken)| taken.vm == *id);
            staying.extend(its.map(|(address, _)| (*address, id.clone())));
        }
    }
    staying
}

/// What stands in the way of VMs getting their devices.
pub(super) fn obstacles(plan: &Plan, wanted: &Manifest, observed: &Observed) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    let staying = staying(plan, observed);
    let after = after(plan, wanted, observed);
    let mut said = BTreeSet::new();
    for (id, address) in starting(plan, wanted) {
        let vm = id.clone();
        let Some(device) = observed.pci.there.get(&address) else {
            obstacles.push(Obstacle::NoPciDevice { vm, address });
            continue;
        };
        // Of the host, and so once for a VM.
        if observed.pci.iommu == Iommu::Off || observed.pci.vfio == Vfio::Missing {
            if said.insert((id, None)) {
                obstacles.push(match observed.pci.iommu {
                    Iommu::Off => Obstacle::NoIommu { vm },
                    Iommu::On => Obstacle::NoVfio { vm },
                });
            }
            continue;
        }
        let Some(group) = device.group else {
            obstacles.push(Obstacle::NoIommuGroup { vm, address });
            continue;
        };
        if let Some(other) = staying.get(&address).filter(|other| *other != id) {
            obstacles.push(Obstacle::PciHeld {
                vm,
                address,
                other: other.clone(),
            });
            continue;
        }
        for what in uses(device, wanted, observed) {
            obstacles.push(Obstacle::PciInUse {
                vm: vm.clone(),
                address,
                what,
            });
        }
        if !said.insert((id, Some(group))) {
            continue;
        }
        let others =
            observed.pci.there.iter().filter(|(other, device)| {
                device.group == Some(group) && after.get(*other) != Some(id)
            });
        let mut of_the_host = Vec::new();
        for (other, device) in others {
            if let Some(vm) = after.get(other) {
                obstacles.push(Obstacle::GroupOfTwo {
                    vm: id.clone(),
                    address,
                    group,
                    other: *other,
                    others: vm.clone(),
                });
            } else if let Some(driver) = device.driver.as_deref().filter(|name| !is_harmless(name))
            {
                of_the_host.push(format!("{other} ({driver})"));
            }
        }
        if !of_the_host.is_empty() {
            obstacles.push(Obstacle::GroupOfHost {
                vm: id.clone(),
                address,
                group,
                others: of_the_host.join(", "),
            });
        }
    }
    obstacles
}

/// Drivers that may have other devices of a group that is VFIO's: they have no device access memory, or do so
/// for VFIO (Documentation/driver-api/vfio.rst).
fn is_harmless(driver: &str) -> bool {
    [VFIO_PCI, "pcieport", "pci-stub"].contains(&driver)
}

/// What the host would lose with a device that it has a driver for.
fn uses(device: &PciDevice, wanted: &Manifest, observed: &Observed) -> Vec<String> {
    let mut uses = device.uses.clone();
    let networks = &wanted.host.networks;
    let default = observed.network.routes.iter();
    let default: BTreeSet<u32> = default
        .filter(|route| route.destination.prefix_len() == 0)
        .map(|route| route.link)
        .collect();
    for name in &device.links {
        let link = observed.links.get(name);
        let network = networks.iter().find(|(_, network)| {
            let mut uplinks = network.uplink().into_iter();
            uplinks.any(|uplink| uplink.link.as_str() == name)
        });
        if let Some((network, _)) = network {
            uses.push(format!("{name}, which is the uplink of network {network}"));
        } else if link.is_some_and(|link| default.contains(&link.index)) {
            uses.push(format!("{name}, which the host's default route leads over"));
        } else if link.is_some_and(|link| link.master.is_some()) {
            uses.push(format!("{name}, which is a port of another link"));
        }
    }
    uses
}
