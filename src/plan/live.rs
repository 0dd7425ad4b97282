//! What is done to a VM while it runs, and what it is afterwards.

use std::fmt;
use std::num::NonZeroU8;

use super::{Change, Cost};
use crate::booted::Booted;
use crate::host::{Disk, DiskName, OnOff, Size, Vm};
use crate::unit::{Limit, LimitValues, limit_values};

/// One effect on a running VM. Each is an "ensure": done again it changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Live {
    /// A cgroup limit is set, or goes back to systemd's default.
    Limit { limit: Limit, value: Option<u64> },
    /// The VMM gets the disk: it is bound into its sandbox first.
    AddDisk(Disk),
    /// The guest is asked to let go of it, and the VMM closes it.
    RemoveDisk(Disk),
    /// The VMM is told of another number of vCPUs or another size of the memory.
    Resize { vcpus: NonZeroU8, memory: Size },
    /// The guest is asked to do without so much of its memory.
    Balloon(Size),
    /// The seed is written anew, for the VM's next start.
    Seed,
    /// The unit's text is written anew, for systemd to read: what it does at the next start by
    /// itself and at the stop. One daemon-reload, however many VMs of a switch need it.
    Unit,
    /// systemd-machined learns of it, or forgets it.
    Machined(OnOff),
}

/// The specification that a VM has once what can change while it runs has changed, and the rest has
/// not.
pub(super) fn merged(booted: &Booted, wanted: &Vm, changes: &[Change]) -> Vm {
    let is_live = |field: &str| {
        changes
            .iter()
            .any(|change| change.field == field && change.cost == Cost::Live)
    };
    let mut vm = booted.vm.clone();
    vm.autostart = wanted.autostart;
    vm.restart = wanted.restart;
    vm.on_change = wanted.on_change;
    vm.start_timeout = wanted.start_timeout;
    vm.stop_timeout = wanted.stop_timeout;
    vm.ready = wanted.ready;
    vm.machined = wanted.machined;
    vm.after.clone_from(&wanted.after);
    vm.limits = wanted.limits.clone();
    if let (Some(old), Some(new)) = (&vm.cloud_init, &wanted.cloud_init)
        && old.instance_id == new.instance_id
    {
        vm.cloud_init = Some(new.clone());
    }
    if is_live("vcpus.boot") {
        vm.vcpus.boot = wanted.vcpus.boot;
    }
    if is_live("memory.size") {
        vm.memory.size = wanted.memory.size;
    }
    if is_live("memory.balloon.size")
        && let (Some(balloon), Some(wanted)) = (&mut vm.memory.balloon, &wanted.memory.balloon)
    {
        balloon.size = wanted.size;
    }
    for (index, (nic, wanted)) in vm.nics.iter_mut().zip(&wanted.nics).enumerate() {
        if is_live(&format!("nic[{index}].network")) {
            nic.network = wanted.network.clone();
        }
        if is_live(&format!("nic[{index}].address")) {
            nic.address.clone_from(&wanted.address);
        }
        if is_live(&format!("nic[{index}].gateway")) {
            nic.gateway.clone_from(&wanted.gateway);
        }
        if is_live(&format!("nic[{index}].trust")) {
            nic.trust = wanted.trust;
        }
    }
    let disk_is_live = |name: &DiskName| is_live(&format!("disk.{name}.path"));
    vm.disks.retain(|disk| {
        wanted.disks.iter().any(|other| other.name == disk.name) || !disk_is_live(&disk.name)
    });
    for disk in &mut vm.disks {
        let wanted = wanted.disks.iter().find(|other| other.name == disk.name);
        if let Some(wanted) = wanted.filter(|wanted| wanted.path == disk.path) {
            disk.origin.clone_from(&wanted.origin);
        }
    }
    for disk in &wanted.disks {
        let is_there = vm.disks.iter().any(|other| other.name == disk.name);
        if !is_there && disk_is_live(&disk.name) {
            vm.disks.push(disk.clone());
        }
    }
    vm
}

/// What makes the running VM be `vm`. `limits` are those that its unit has now.
pub(super) fn steps(booted: &Booted, limits: &LimitValues, vm: &Vm) -> Vec<Live> {
    let mut steps = limit_steps(booted, limits, vm);
    let old = &booted.vm;
    let missing = |disk: &&Disk, from: &[Disk]| from.iter().all(|other| other.name != disk.name);
    let removed = old.disks.iter().filter(|disk| missing(disk, &vm.disks));
    steps.extend(removed.cloned().map(Live::RemoveDisk));
    let added = vm.disks.iter().filter(|disk| missing(disk, &old.disks));
    steps.extend(added.cloned().map(Live::AddDisk));
    if old.vcpus.boot != vm.vcpus.boot || old.memory.size != vm.memory.size {
        steps.push(Live::Resize {
            vcpus: vm.vcpus.boot,
            memory: vm.memory.size,
        });
    }
    if let (Some(before), Some(balloon)) = (old.memory.balloon, vm.memory.balloon)
        && before.size != balloon.size
    {
        steps.push(Live::Balloon(balloon.size));
    }
    if vm.cloud_init.is_some() && (&old.cloud_init, &old.nics) != (&vm.cloud_init, &vm.nics) {
        steps.push(Live::Seed);
    }
    if old.machined != vm.machined {
        steps.push(Live::Machined(vm.machined));
    }
    let of_unit = |vm: &Vm| (vm.restart, vm.start_timeout, vm.stop_timeout, vm.machined);
    let plugs = |step: &Live| matches!(step, Live::AddDisk(_) | Live::RemoveDisk(_));
    if of_unit(old) != of_unit(vm) || steps.iter().any(plugs) {
        steps.push(Live::Unit);
    }
    steps
}

fn limit_steps(booted: &Booted, have: &LimitValues, vm: &Vm) -> Vec<Live> {
    let wanted = limit_values(&vm.limits);
    let set = limit_values(&booted.vm.limits);
    let is_dropped = |limit: &Limit| set.contains_key(limit) && !wanted.contains_key(limit);
    Limit::ALL
        .into_iter()
        .filter(|limit| is_dropped(limit) || differs(*limit, have, &wanted))
        .map(|limit| Live::Limit {
            limit,
            value: wanted.get(&limit).copied(),
        })
        .collect()
}

fn differs(limit: Limit, have: &LimitValues, wanted: &LimitValues) -> bool {
    match (have.get(&limit), wanted.get(&limit)) {
        // One that was taken away stands there as the number that is systemd's default.
        (Some(_), None) => limit != Limit::TasksMax,
        (have, wanted) => have != wanted,
    }
}

/// Limits that are not what nkudo set: somebody else's `systemctl set-property`.
pub(super) fn drift(booted: &Booted, limits: &LimitValues) -> Vec<Change> {
    let set = limit_values(&booted.vm.limits);
    let text = |value: Option<&u64>| value.map(u64::to_string);
    Limit::ALL
        .into_iter()
        .filter(|limit| differs(*limit, limits, &set))
        .map(|limit| Change {
            field: limit.to_string(),
            old: text(limits.get(&limit)),
            new: text(set.get(&limit)),
            cost: Cost::Live,
        })
        .collect()
}

impl fmt::Display for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit {
                limit,
                value: Some(value),
            } => write!(f, "set {}={value}", limit.property()),
            Self::Limit { limit, value: None } => write!(f, "unset {}", limit.property()),
            Self::AddDisk(disk) => write!(f, "plug in disk {}", disk.name),
            Self::RemoveDisk(disk) => write!(f, "unplug disk {}", disk.name),
            Self::Resize { vcpus, memory } => write!(f, "resize to {vcpus} vCPUs and {memory}"),
            Self::Balloon(size) => write!(f, "set its balloon to {size}"),
            Self::Seed => f.write_str("write its seed anew"),
            Self::Unit => f.write_str("write its unit anew"),
            Self::Machined(OnOff::On) => f.write_str("register it with systemd-machined"),
            Self::Machined(OnOff::Off) => f.write_str("unregister it from systemd-machined"),
        }
    }
}
