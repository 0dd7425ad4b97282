//! What the facts mean, and what mends it on this host.

#![deny(clippy::disallowed_methods)]

mod hypervisor;
mod machine;
mod memory;
mod network;
mod programs;
mod storage;
mod tuning;

use super::facts::{Distribution, Facts, HostState};
use super::{Check, pci, vm};
use crate::host::VmId;

/// Everything, or what concerns one VM: of the host only what is wrong, then that VM.
pub fn checks(facts: &Facts, only: Option<&VmId>) -> Vec<Check> {
    let mut checks = host(facts);
    if only.is_some() {
        checks.retain(|check| check.remedy.is_some());
    }
    match &facts.state {
        HostState::Unknown(why) => checks.push(Check::fail(
            "declared",
            format!("what is declared cannot be compared with what there is: {why}"),
            "mend that, and look again",
        )),
        HostState::Known {
            manifest,
            observed,
            status,
            ..
        } => {
            if let Some(why) = &status.unreadable {
                checks.push(Check::fail(
                    "declared",
                    format!("what is declared is not known: {why}"),
                    "`nkudo render` and `nkudo switch`; VMs that run are not touched by this, and start at no boot until then",
                ));
            }
            if let (Some(manifest), None) = (manifest, only) {
                checks.extend(network::networks(facts, manifest, observed));
            }
            let vms = status.vms.iter();
            for vm in vms.filter(|vm| only.is_none_or(|only| vm.id == *only)) {
                let declared = manifest
                    .as_ref()
                    .and_then(|manifest| manifest.host.vms.get(&vm.id));
                checks.extend(vm::checks(facts, vm, declared));
            }
        }
    }
    checks
}

fn host(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![
        machine::systemd(facts),
        hypervisor::hypervisor(facts),
        hypervisor::kvm_device(facts.distribution, &facts.kvm),
        machine::cgroups(&facts.cgroups),
        machine::landlock(facts.sysctls.landlock),
    ];
    checks.extend(facts.filesystems.iter().flat_map(|(path, filesystem)| {
        [
            storage::space(path.as_str(), filesystem),
            storage::inodes(path.as_str(), filesystem),
        ]
    }));
    checks.push(machine::load(facts));
    if let HostState::Known {
        manifest,
        observed,
        boot,
        slice,
        machined,
        ..
    } = &facts.state
    {
        checks.extend(machine::units(facts, observed, *boot, *slice));
        if let Some(manifest) = manifest {
            checks.push(memory::memory(facts, manifest));
            checks.extend(memory::hugepages(facts, manifest));
            checks.extend(memory::ksm(facts, manifest));
            checks.extend(tuning::tuning(facts, manifest, observed));
            checks.extend(super::machined::check(
                facts.distribution,
                manifest,
                *machined,
            ));
            checks.extend(pci::checks(
                facts.distribution,
                &facts.pci,
                &manifest.host.vms,
            ));
        }
        checks.push(network::networkd(
            facts.distribution,
            manifest.as_deref(),
            observed,
        ));
    }
    checks.push(programs::programs(facts));
    checks
}

/// How a package is installed here.
pub(in crate::doctor) fn install(distribution: Distribution, package: &str) -> String {
    match distribution {
        Distribution::Nixos => format!("environment.systemPackages = [ pkgs.{package} ];"),
        Distribution::Debian => format!("apt install {package}"),
        Distribution::Fedora => format!("dnf install {package}"),
        Distribution::Arch => format!("pacman -S {package}"),
        Distribution::Other => format!("install the package {package}"),
    }
}

/// How a key of `[host.tuning]` is declared here.
fn declare(distribution: Distribution, key: &str, value: &str) -> String {
    if distribution == Distribution::Nixos {
        format!("virtualisation.nkudo.settings.host.tuning.{key} = {value};")
    } else {
        format!("`{key} = {value}` under `[host.tuning]`, then `nkudo render` and `nkudo switch`")
    }
}

/// Bytes for people, in powers of two.
pub(in crate::doctor) fn size(bytes: u64) -> String {
    let mut value = bytes;
    let mut tenths = 0;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024 {
            break;
        }
        tenths = value % 1024 * 10 / 1024;
        value /= 1024;
        unit = next;
    }
    if unit == "B" || value >= 100 {
        format!("{value} {unit}")
    } else {
        format!("{value}.{tenths} {unit}")
    }
}
