//! What is no mistake, and surprises nevertheless.

use std::collections::BTreeSet;

use super::diagnostic::{Diagnostic, Place};
use super::origin::{Origins, Path};
use crate::host::{Autostart, Boot, Capacity, Disk, DiskOrigin, Host, HugePages, Size, Vm, VmId};

/// What cloud-hypervisor itself needs at the least beside the guest's memory.
const VMM_MEMORY: Size = Size::from_mib(64);

/// What would surprise whoever switches to `host` on a host that has `capacity`.
pub fn warnings(host: &Host, origins: &Origins, capacity: &Capacity) -> Vec<Diagnostic> {
    let mut page = Page {
        host,
        origins,
        found: Vec::new(),
    };
    page.unused_networks();
    page.unused_images();
    for (id, vm) in &host.vms {
        page.boot(id, vm);
        page.order(id, vm);
        page.limits(id, vm);
        page.cpus(id, vm, capacity);
    }
    page.memory(capacity);
    page.hugepages(capacity);
    page.found
        .sort_by_key(|one| (one.place.source, one.place.span.start));
    page.found
}

struct Page<'a> {
    host: &'a Host,
    origins: &'a Origins,
    found: Vec<Diagnostic>,
}

impl Page<'_> {
    /// The place of a key, or of the nearest thing around it that the file has.
    fn place(&self, steps: &[&str]) -> Option<Place> {
        let whole = Path::of(steps);
        let found = whole.and_above().find_map(|path| {
            let key = self.origins.get(&path).and_then(|key| key.place.clone());
            key.or_else(|| self.origins.entry(&path).cloned())
        });
        debug_assert!(found.is_some(), "{whole} is nowhere");
        found
    }

    fn warn(&mut self, steps: &[&str], message: String, label: &str, hint: &str) {
        if let Some(place) = self.place(steps) {
            let warning = Diagnostic::warning(place, message).label(label);
            self.found.push(match hint {
                "" => warning,
                hint => warning.hint(hint),
            });
        }
    }

    fn unused_networks(&mut self) {
        let nics = self.host.vms.values().flat_map(|vm| &vm.nics);
        let used: BTreeSet<_> = nics.map(|nic| &nic.network).collect();
        for name in self.host.networks.keys() {
            if !used.contains(name) {
                self.warn(
                    &["network", name.as_str()],
                    format!("no VM is on network `{name}`"),
                    "",
                    "a switch makes its bridge nevertheless",
                );
            }
        }
    }

    fn unused_images(&mut self) {
        let disks = self.host.vms.values().flat_map(|vm| &vm.disks);
        let used: BTreeSet<_> = disks.filter_map(|disk| disk.origin.image()).collect();
        for name in self.host.images.keys() {
            if !used.contains(name) {
                self.warn(
                    &["image", name.as_str()],
                    format!("no disk is made from image `{name}`"),
                    "",
                    "it is not fetched",
                );
            }
        }
    }

    fn boot(&mut self, id: &VmId, vm: &Vm) {
        // What nkudo makes empty, holds nothing to boot the first time.
        let empty = |disk: &Disk| matches!(disk.origin, DiskOrigin::Volume { .. });
        if matches!(vm.boot, Boot::Firmware(_)) && vm.disks.iter().all(empty) {
            self.warn(
                &["vm", id.as_str(), "firmware"],
                format!("VM `{id}` has a firmware and no disk that it could boot"),
                "",
                &format!("give it a `[[vm.{id}.disk]]`, or a `kernel` in place of the firmware"),
            );
        }
    }

    fn order(&mut self, id: &VmId, vm: &Vm) {
        for other in &vm.after {
            let never = self.host.vms.get(other);
            if never.is_some_and(|other| other.autostart == Autostart::No)
                && vm.autostart == Autostart::Yes
            {
                self.warn(
                    &["vm", id.as_str(), "after"],
                    format!("VM `{id}` starts without waiting for `{other}`"),
                    &format!("a switch does not start `{other}`"),
                    &format!("`{other}` has `autostart = false`"),
                );
            }
        }
    }

    fn limits(&mut self, id: &VmId, vm: &Vm) {
        // Huge pages are not counted against a control group's memory.
        if vm.memory.hugepages != HugePages::Off {
            return;
        }
        let size = vm.memory.size;
        let least = Size::from_bytes(size.bytes().saturating_add(VMM_MEMORY.bytes()));
        if let Some(max) = vm.limits.memory_max.filter(|max| *max < least) {
            self.warn(
                &["vm", id.as_str(), "limits", "memory-max"],
                format!("VM `{id}` will be killed when the guest uses all of its memory"),
                &format!("{max} for a guest with {size}"),
                &format!("cloud-hypervisor needs some memory of its own: allow at least `{least}`"),
            );
        }
        if let Some(high) = vm.limits.memory_high.filter(|high| *high < size) {
            self.warn(
                &["vm", id.as_str(), "limits", "memory-high"],
                format!("VM `{id}` will be slowed down before the guest uses all of its memory"),
                &format!("{high} for a guest with {size}"),
                "",
            );
        }
    }

    fn cpus(&mut self, id: &VmId, vm: &Vm, capacity: &Capacity) {
        let boot = u32::from(vm.vcpus.boot.get());
        if let Some(cpus) = capacity.cpus.filter(|cpus| *cpus < boot) {
            self.warn(
                &["vm", id.as_str(), "vcpus", "boot"],
                format!("VM `{id}` has {boot} vCPUs, and this host has {cpus} CPUs"),
                "",
                "more vCPUs than CPUs make a guest slower",
            );
        }
    }

    /// The VMs that a switch starts, the ones with the most of it first, and how much they have together.
    fn most(&self, of: impl Fn(&Vm) -> u64) -> (Vec<(&VmId, u64)>, u64) {
        let started = self.host.vms.iter();
        let started = started.filter(|(_, vm)| vm.autostart == Autostart::Yes);
        let mut parts: Vec<_> = started.map(|(id, vm)| (id, of(vm))).collect();
        parts.sort_by_key(|(_, part)| std::cmp::Reverse(*part));
        let sum = parts
            .iter()
            .fold(0_u64, |sum, (_, part)| sum.saturating_add(*part));
        (parts, sum)
    }

    fn memory(&mut self, capacity: &Capacity) {
        let Some(memory) = capacity.memory else {
            return;
        };
        let (parts, sum) = self.most(|vm| vm.memory.size.bytes());
        let Some((id, most)) = parts.first().filter(|_| sum > memory.bytes()) else {
            return;
        };
        let (id, most) = (id.to_string(), readable(*most));
        let (sum, memory) = (readable(sum), readable(memory.bytes()));
        let message = if parts.len() == 1 {
            format!("VM `{id}` has {most} of memory, and this host has {memory}")
        } else {
            format!("the VMs have {sum} of memory together, and this host has {memory}")
        };
        let label = format!("the most of it: {most}");
        let label = if parts.len() == 1 { "" } else { &label };
        self.warn(
            &["vm", &id, "memory", "size"],
            message,
            label,
            "the host runs out of it when the guests use what they have",
        );
    }

    fn hugepages(&mut self, capacity: &Capacity) {
        for (size, have) in &capacity.hugepages {
            // What a switch makes goes before what there is.
            let declared = self.host.tuning.hugepages.get(size).copied();
            let have = declared.map_or(*have, u64::from);
            let (parts, sum) = self.most(|vm| match vm.memory.hugepages {
                HugePages::Of(page) if page == *size => vm.memory.size.bytes(),
                _ => 0,
            });
            let need = sum / size.bytes().max(1);
            let Some((id, _)) = parts.first().filter(|_| need > have) else {
                continue;
            };
            let id = id.to_string();
            self.warn(
                &["vm", &id, "memory", "hugepages"],
                format!("the VMs need {need} huge pages of {size}, and this host keeps {have}"),
                "",
                &format!("`hugepages = {{ {size} = {need} }}` under `[host.tuning]` makes them"),
            );
        }
    }
}

/// An amount of memory to about three digits: `31.2G`.
fn readable(bytes: u64) -> String {
    let mib = bytes >> 20;
    if mib < 1024 || mib.is_multiple_of(1024) {
        return Size::from_mib(mib).to_string();
    }
    let tenths = mib * 10 / 1024;
    format!("{}.{}G", tenths / 10, tenths % 10)
}
