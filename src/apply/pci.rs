//! PCI devices go to a VM before it starts, and back to the host when it has none of it any more.

use std::collections::BTreeSet;

use super::{Apply, Failure, Outcome};
use crate::host::{IommuGroup, Vm, VmId};
use crate::pci::{self, Place};
use crate::plan::{PciStep, Plan};

impl Apply<'_> {
    /// Binds the VM's devices to `vfio-pci`; returns their groups.
    pub(super) async fn take_devices(
        &self,
        id: &VmId,
        vm: &Vm,
    ) -> anyhow::Result<BTreeSet<IommuGroup>> {
        let place = Place::host();
        let mut groups = BTreeSet::new();
        for address in &vm.pci {
            groups.insert(pci::take(&place, *address, id).await?);
        }
        Ok(groups)
    }

    /// Gives back what is to be given back; what a VM that could not be stopped has, stays its.
    pub(super) async fn give_devices_back(&self, plan: &Plan, outcome: &mut Outcome) {
        let place = Place::host();
        for (address, step) in &plan.pci {
            let PciStep::GiveBack { vm, .. } = step else {
                continue;
            };
            if outcome.vms.contains_key(vm) || outcome.left_out.contains(vm) {
                continue;
            }
            match pci::give_back(&place, *address).await {
                Ok(()) => tracing::info!("gave the PCI device {address} back to the host"),
                Err(err) => outcome.fail(vm, Failure::of(err)),
            }
        }
    }
}
