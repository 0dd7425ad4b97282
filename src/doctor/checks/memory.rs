//! Memory: how much there is, in which pages, and whether it is merged.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use super::{declare, size};
use crate::doctor::Check;
use crate::doctor::facts::{Distribution, Facts};
use crate::generation::Manifest;
use crate::host::{Autostart, HugePages, Sharing, Size};

pub(super) fn memory(facts: &Facts, manifest: &Manifest) -> Check {
    let name = "memory";
    let declared: u64 = manifest
        .host
        .vms
        .values()
        .filter(|vm| vm.autostart == Autostart::Yes && vm.memory.hugepages == HugePages::Off)
        .map(|vm| vm.memory.size.bytes())
        .fold(0, u64::saturating_add);
    let Some(total) = facts.capacity.memory else {
        return Check::ok(name, "unknown");
    };
    let set_aside: u64 = facts
        .hugepages
        .iter()
        .map(|(size, pool)| size.bytes().saturating_mul(pool.total))
        .fold(0, u64::saturating_add);
    let usable = total.bytes().saturating_sub(set_aside);
    let available = facts.memory_available.map_or(0, Size::bytes);
    let what = format!(
        "{} of {} available; VMs that start by themselves have {} together",
        size(available),
        size(total.bytes()),
        size(declared)
    );
    if declared > usable {
        Check::warn(
            name,
            what,
            "give VMs less `memory`, or let them share it (`memory.mergeable` with KSM, `memory.balloon`): when all of them \
             use what they have, the kernel kills one",
        )
    } else if available < total.bytes() / 20 {
        Check::warn(name, what, "`systemd-cgtop -m` shows who uses it")
    } else {
        Check::ok(name, what)
    }
}

/// Huge pages, by their size: what VMs want, against those that are free and those that VMs have already.
pub(super) fn hugepages(facts: &Facts, manifest: &Manifest) -> Vec<Check> {
    let name = "hugepages";
    let mut wanted: BTreeMap<Size, u64> = BTreeMap::new();
    for vm in manifest.host.vms.values() {
        if let Some(page) = vm.memory.hugepages.page(facts.hugepage_default) {
            *wanted.entry(page).or_default() += vm.memory.size.bytes().div_ceil(page.bytes());
        }
    }
    if wanted.is_empty() {
        return vec![Check::ok(name, "no VM wants any")];
    }
    let check = |(page, wanted): (Size, u64)| {
        let Some(pool) = facts.hugepages.get(&page) else {
            return Check::fail(
                name,
                format!("VMs want {wanted} pages of {page}, and the host has none of that size"),
                "another size under `memory.hugepages`; pages of 1G take a CPU with `pdpe1gb`",
            );
        };
        let used = facts.hugepages_used.get(&page).copied().unwrap_or_default();
        let there = pool.free + used;
        let what = format!(
            "VMs want {wanted} pages of {page}; the host has {}, of which VMs use {used} and {} are free",
            pool.total, pool.free
        );
        if wanted <= there {
            return Check::ok(name, what);
        }
        // What others have is not to be had.
        let count = wanted + pool.total.saturating_sub(there);
        let declared = manifest
            .host
            .tuning
            .hugepages
            .get(&page)
            .copied()
            .map(u64::from);
        let kib = page.bytes() / 1024;
        let remedy = if declared.is_some_and(|declared| declared >= count) {
            let at_boot = match facts.distribution {
                Distribution::Nixos => {
                    format!("boot.kernelParams = [ \"hugepagesz={kib}K\" \"hugepages={count}\" ];")
                }
                _ => format!("`hugepagesz={kib}K hugepages={count}` on the kernel's command line"),
            };
            format!(
                "`nkudo switch` tries to make them again; at boot there is memory for them: {at_boot}"
            )
        } else {
            let key = format!("hugepages.\"{page}\"");
            declare(facts.distribution, &key, &count.to_string())
        };
        Check::fail(name, what, remedy)
    };
    wanted.into_iter().map(check).collect()
}

pub(super) fn ksm(facts: &Facts, manifest: &Manifest) -> Option<Check> {
    let wanted = manifest
        .host
        .vms
        .values()
        .any(|vm| vm.memory.sharing == Sharing::Mergeable);
    match (wanted, facts.sysctls.ksm) {
        (true, Some(false)) => Some(Check::warn(
            "ksm",
            "VMs want their memory merged, and KSM does not run",
            declare(facts.distribution, "ksm.run", "true"),
        )),
        (true, None) => Some(Check::warn(
            "ksm",
            "VMs want their memory merged, and the kernel has no KSM",
            "run a kernel with CONFIG_KSM, or take `memory.mergeable` away",
        )),
        (true, Some(true)) => Some(Check::ok("ksm", "runs")),
        (false, _) => None,
    }
}
