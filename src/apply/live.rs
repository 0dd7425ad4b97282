//! Changes VMs while they run.
//!
//! Each effect is an "ensure", and the booted specification is brought up to date last: a run that is
//! killed in between is repeated by the next one.

use std::time::Duration;

use anyhow::{Context as _, bail};
use camino::Utf8PathBuf;
use futures_util::{StreamExt as _, stream};
use zbus::Variant;

use super::{Apply, Failure, Outcome, run_files};
use crate::booted::Booted;
use crate::files;
use crate::generation::Unneeded;
use crate::host::{Disk, DiskAccess, OnOff, Vm, VmId};
use crate::hypervisor::{disk_config, disk_id};
use crate::interruption::effect;
use crate::machined;
use crate::observe::booted;
use crate::plan::{Live, OnFailure, Plan, VmStep};
use crate::steps;
use crate::systemd::{Interface, property};
use crate::talk::Progress;
use crate::unit::{Limit, TRANSIENT, runtime_directory, vm_unit_name};
use crate::vmm::Vmm;

/// How long a guest may take to let go of a disk.
const UNPLUG_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks whether it has. The VMM has no event for it.
const INTERVAL: Duration = Duration::from_millis(100);

impl Apply<'_> {
    /// Changes the VMs that run on.
    pub(super) async fn live(&self, plan: &Plan, outcome: &mut Outcome, progress: &Progress) {
        let changing: Vec<(&VmId, &VmStep)> = plan
            .vms
            .iter()
            .filter(|(id, step)| {
                (!step.live.is_empty() || step.becomes.is_some())
                    && !outcome.vms.contains_key(*id)
                    && !outcome.stopped.contains(*id)
            })
            .collect();
        let mut changed: Vec<(&VmId, &VmStep)> = Vec::new();
        {
            let all = changing.into_iter().map(|(id, step)| async move {
                let done = self.change(id, step).await;
                (id, step, done)
            });
            let mut all = stream::iter(all).buffer_unordered(plan.at_once.get());
            while let Some((id, step, done)) = all.next().await {
                progress.advance();
                match done {
                    Ok(()) => changed.push((id, step)),
                    Err(_) if self.was_stopped(id).await => {
                        outcome.stopped.insert(id.clone());
                    }
                    Err(err) => {
                        outcome.fail(
                            id,
                            Failure::of(err.context("cannot change it while it runs")),
                        );
                        if plan.on_failure == OnFailure::Stop {
                            break;
                        }
                    }
                }
            }
        }
        let written = changed
            .iter()
            .any(|(_, step)| step.live.contains(&Live::Unit));
        if written && let Err(err) = self.connections.manager.reload().await {
            outcome.host.push(anyhow::Error::from(err).context(
                "systemd does not read its units anew, so that what changed in them is not in effect",
            ));
            return;
        }
        effect();
        for (id, step) in changed {
            let Some(vm) = &step.becomes else { continue };
            match record(id, vm) {
                Ok(()) => {
                    let done: Vec<String> = step.live.iter().map(ToString::to_string).collect();
                    if !done.is_empty() {
                        tracing::info!(nkudo_vm = %id, "changed {id}: {}", done.join(", "));
                    }
                }
                Err(err) => outcome.fail(id, Failure::of(err)),
            }
        }
    }

    async fn change(&self, id: &VmId, step: &VmStep) -> anyhow::Result<()> {
        if let Some(vm) = &step.becomes {
            // What its unit runs is that of its start.
            run_files::keep_store_paths(id, vm, &booted(id)?.programs, Unneeded::Keep)?;
        }
        self.set_limits(id, &step.live).await?;
        for live in &step.live {
            match live {
                Live::Limit { .. } => {}
                Live::AddDisk(disk) => self
                    .add_disk(id, disk)
                    .await
                    .with_context(|| format!("cannot plug in disk {}", disk.name))?,
                Live::RemoveDisk(disk) => remove_disk(id, disk)
                    .await
                    .with_context(|| format!("cannot unplug disk {}", disk.name))?,
                Live::Resize { vcpus, memory } => Vmm::of(id)
                    .resize(vcpus.get().into(), memory.bytes())
                    .await
                    .with_context(|| format!("cannot resize it to {vcpus} vCPUs and {memory}"))?,
                Live::Balloon(size) => Vmm::of(id)
                    .resize_balloon(size.bytes())
                    .await
                    .with_context(|| format!("cannot set its balloon to {size}"))?,
                Live::Seed => {
                    if let Some(vm) = &step.becomes {
                        self.ensure_seed(id, vm)?;
                    }
                }
                Live::Unit => {
                    if let Some(vm) = &step.becomes {
                        write_unit(&booted(id)?.becoming(vm))?;
                    }
                }
                Live::Machined(wanted) => self.tell_machined(id, *wanted, step).await,
            }
        }
        Ok(())
    }

    /// Registers it with systemd-machined, or takes it out. A VM runs as well without, so that is nothing to fail for.
    async fn tell_machined(&self, id: &VmId, wanted: OnOff, step: &VmStep) {
        let done = async {
            match (wanted, &step.becomes) {
                (OnOff::On, Some(vm)) => {
                    let leader = self.main_pid(id).await?;
                    machined::register(&self.connections.bus, id, leader, &vm.nics).await?;
                }
                _ => machined::unregister(&self.connections.bus, id).await?,
            }
            anyhow::Ok(())
        };
        match done.await {
            Ok(()) => effect(),
            Err(err) => {
                tracing::warn!(nkudo_vm = %id, "`machinectl` does not know what became of {id}: {err:#}");
            }
        }
    }

    async fn main_pid(&self, id: &VmId) -> zbus::Result<u32> {
        let connections = self.connections;
        let path = connections.manager.get_unit(&vm_unit_name(id)).await?;
        property(&connections.bus, &path, Interface::Service, "MainPID").await
    }

    /// Sets its limits. systemd keeps them beside the unit's text, so a restart by systemd has them.
    async fn set_limits(&self, id: &VmId, steps: &[Live]) -> anyhow::Result<()> {
        let manager = &self.connections.manager;
        let mut properties = Vec::new();
        for step in steps {
            let Live::Limit { limit, value } = step else {
                continue;
            };
            let value = match value.or(limit.none()) {
                Some(value) => value,
                None => manager
                    .default_tasks_max()
                    .await
                    .context("systemd does not say its DefaultTasksMax")?,
            };
            properties.push((limit.property().to_owned(), Variant::new(value)));
        }
        if properties.is_empty() {
            return Ok(());
        }
        manager
            .set_unit_properties(&vm_unit_name(id), true, &properties)
            .await
            .context("systemd does not take its limits")?;
        effect();
        Ok(())
    }

    /// Makes the disk be there in the VMM's sandbox, and the VMM open it.
    async fn add_disk(&self, id: &VmId, disk: &Disk) -> anyhow::Result<()> {
        let vmm = Vmm::of(id);
        if has_disk(&vmm, disk).await?.is_some() {
            return Ok(());
        }
        let manager = &self.connections.manager;
        let unit = vm_unit_name(id);
        let path = disk.path.as_str();
        steps::grant_disk(steps::user(&runtime_directory(id))?, disk)?;
        if disk.path.starts_with("/dev/") {
            let access = match disk.access {
                DiskAccess::ReadWrite => "rw",
                DiskAccess::ReadOnly => "r",
            };
            let allow = Variant::new(vec![(path.to_owned(), access.to_owned())]);
            manager
                .set_unit_properties(&unit, true, &[("DeviceAllow".to_owned(), allow)])
                .await
                .context("systemd does not let the VM use the device")?;
        }
        let files = [Some(&disk.path), disk.backing.as_ref()];
        for path in files.into_iter().flatten() {
            let read_only = *path != disk.path || disk.access == DiskAccess::ReadOnly;
            run_files::ensure_mount_point(id, path.as_path())?;
            let path = path.as_str();
            manager
                .bind_mount_unit(&unit, path, path, read_only, false)
                .await
                .with_context(|| format!("systemd does not bind {path} into the VM's sandbox"))?;
            effect();
        }
        let version = booted(id)?.programs.hypervisor_version;
        vmm.add_disk(&disk_config(disk, version)).await?;
        effect();
        Ok(())
    }
}

/// The VMM's name for a disk, if it has it.
async fn has_disk(vmm: &Vmm, disk: &Disk) -> anyhow::Result<Option<String>> {
    let disks = vmm.info().await?.config.disks.unwrap_or_default();
    let found = disks
        .into_iter()
        .find(|one| one.serial.as_deref() == Some(disk.name.as_str()));
    Ok(found.map(|one| one.id.unwrap_or_else(|| disk_id(disk))))
}

/// Asks the guest to let go of a disk, and waits until it has.
async fn remove_disk(id: &VmId, disk: &Disk) -> anyhow::Result<()> {
    let vmm = Vmm::of(id);
    let own = disk_id(disk);
    let device = has_disk(&vmm, disk).await?.unwrap_or(own);
    let is_there = async || {
        let tree = vmm.info().await?.device_tree.unwrap_or_default();
        anyhow::Ok(tree.contains_key(&device))
    };
    if is_there().await? {
        vmm.remove_device(&device).await?;
        let end = tokio::time::Instant::now() + UNPLUG_LIMIT;
        while is_there().await? {
            if tokio::time::Instant::now() > end {
                bail!(
                    "the guest has been asked to, and did not let go of it within {} s; \
                     it goes when the guest lets go, or with `nkudo restart {id}`",
                    UNPLUG_LIMIT.as_secs()
                );
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
    steps::revoke_disk(steps::user(&runtime_directory(id)).ok(), disk)
}

/// Puts the unit's text where systemd keeps that of transient units; it goes with the unit.
pub(super) fn write_unit(booted: &Booted) -> anyhow::Result<()> {
    let unit = booted.to_unit();
    let path = Utf8PathBuf::from(TRANSIENT).join(&unit.name);
    let text = format!(
        "# This is a transient unit, changed by nkudo while it ran. Do not edit.\n{}",
        unit.text()
    );
    files::replace(&path, text.as_bytes(), 0o644)
        .with_context(|| format!("cannot write the unit's text {path}"))?;
    // The text has it now.
    let beside = Utf8PathBuf::from(format!("{path}.d"));
    let drop_ins = Limit::ALL.map(Limit::drop_in);
    for name in drop_ins
        .iter()
        .map(String::as_str)
        .chain(["50-DeviceAllow.conf"])
    {
        let drop_in = beside.join(name);
        files::remove(&drop_in).with_context(|| format!("cannot remove {drop_in}"))?;
    }
    // systemd removes the directory with the drop-ins that it made, if there are any.
    files::remove_if_empty(&beside).with_context(|| format!("cannot remove {beside}"))
}

/// Brings the booted specification up to date, after what changed took effect.
fn record(id: &VmId, vm: &Vm) -> anyhow::Result<()> {
    run_files::write_booted(&booted(id)?.becoming(vm))
}
