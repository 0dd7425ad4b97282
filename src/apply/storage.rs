//! Disks: what VMs need before they start.

use std::collections::BTreeMap;

use anyhow::Context as _;

use super::{Apply, Failure, Outcome};
use crate::disk::{self, Making, Place};
use crate::host::{Disk, DiskName, Host, Size, VmId};
use crate::plan::{DiskStep, GrowWhen, Plan};
use crate::vmm::Vmm;

/// Why an image is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoImage(pub String);

impl Apply<'_> {
    /// Makes disks. VMs that go without are among the failed.
    pub(super) async fn prepare_storage(&self, plan: &Plan, failed: &mut BTreeMap<VmId, Failure>) {
        for step in &plan.images {
            let why = self.no_images.get(&step.file);
            let why = why.map_or("it is not there", |NoImage(why)| why);
            for id in &step.vms {
                let err = anyhow::anyhow!("cannot get image {}: {why}", step.image);
                fail(failed, id, err);
            }
        }
        for step in &plan.kernels {
            let why = self.no_kernels.get(&step.image);
            let why = why.map_or("it was not tried", |NoImage(why)| why);
            for id in &step.vms {
                let err = anyhow::anyhow!("cannot boot the kernel in image {}: {why}", step.image);
                fail(failed, id, err);
            }
        }
        for ((id, name), step) in &plan.disks {
            if !matches!(step, DiskStep::Make(_)) || failed.contains_key(id) {
                continue;
            }
            if let Err(err) = self.make_disk(id, name).await {
                fail(
                    failed,
                    id,
                    err.context(format!("cannot make its disk {name}")),
                );
            }
        }
    }

    async fn make_disk(&self, id: &VmId, name: &DiskName) -> anyhow::Result<()> {
        let disk = self.disk(id, name)?.clone();
        // What making looks at of the host; the rest of it may be large.
        let host = Host {
            networks: BTreeMap::new(),
            vms: BTreeMap::new(),
            ..self.wanted.host.clone()
        };
        let id = id.clone();
        blocking(move || {
            disk::make(Making {
                host: &host,
                id: &id,
                disk: &disk,
                place: Place::Final,
            })
        })
        .await
    }

    /// Grows disks, once the VMs that do not run on are stopped. A disk that stays as it is keeps its VM from
    /// nothing: the failures are for the end.
    pub(super) async fn grow_disks(
        &self,
        plan: &Plan,
        outcome: &Outcome,
    ) -> BTreeMap<VmId, Failure> {
        let mut not_grown = BTreeMap::new();
        for ((id, name), step) in &plan.disks {
            let DiskStep::Grow { from, to, when } = step else {
                continue;
            };
            if outcome.vms.contains_key(id) || outcome.left_out.contains(id) {
                continue;
            }
            let grown = match when {
                GrowWhen::AtNextStart => continue,
                GrowWhen::WhileItRuns => self.grow_live(id, name, *to).await,
                GrowWhen::WhileItIsStopped => self.grow_stopped(id, name, *to).await,
            };
            match grown {
                Ok(()) => {
                    tracing::info!(nkudo_vm = %id, "grew disk {name} of {id} from {from} to {to}");
                }
                Err(err) => fail(
                    &mut not_grown,
                    id,
                    err.context(format!("cannot grow its disk {name}")),
                ),
            }
        }
        not_grown
    }

    async fn grow_live(&self, id: &VmId, name: &DiskName, size: Size) -> anyhow::Result<()> {
        let disk = self.disk(id, name)?;
        let vmm = Vmm::of(id);
        let device = crate::hypervisor::disk_id(disk);
        Ok(vmm.resize_disk(&device, size.bytes()).await?)
    }

    async fn grow_stopped(&self, id: &VmId, name: &DiskName, size: Size) -> anyhow::Result<()> {
        let disk = self.disk(id, name)?.clone();
        blocking(move || disk::grow(&disk, size)).await
    }

    fn disk(&self, id: &VmId, name: &DiskName) -> anyhow::Result<&Disk> {
        let vm = self.wanted.host.vms.get(id);
        let mut disks = vm.into_iter().flat_map(|vm| &vm.disks);
        disks
            .find(|disk| disk.name == *name)
            .with_context(|| format!("VM {id} has no disk {name}"))
    }
}

/// Nothing of the VM's unit was reached, so the journal has nothing to tell.
fn fail(failed: &mut BTreeMap<VmId, Failure>, id: &VmId, why: anyhow::Error) {
    failed.entry(id.clone()).or_insert_with(|| Failure::of(why));
}

/// Runs what blocks beside what waits: the bus must be read on meanwhile.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .context("it was given up")?
}
