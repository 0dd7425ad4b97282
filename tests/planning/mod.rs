//! The host of a case: as `before.toml` says, but for what differs.

mod differs;
mod links;
mod network;
mod storage;
mod tuning;
mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::programs::programs;
use nkudo::config::{self, Source};
use nkudo::generation::{Manifest, Origin, Rendering};
use nkudo::host::{Autostart, Size, VmId};
use nkudo::network::Backend;
use nkudo::observe::{
    HeldBy, Hypervisor, Iommu, Needs, Networkd, Observed, PagePool, PciDevice, PciDevices, Remains,
    Specification, SystemdVersion, Vfio,
};

pub(crate) use differs::Differs;
pub(crate) use storage::storage;

use differs::Presence;
use links::{change_link, links};
use network::network_facts;
use tuning::tuning_facts;
use units::{booted, change_unit, unit};

pub(crate) fn manifest(text: &str, case: &Path) -> Manifest {
    let sources = [Source {
        name: "nkudo.toml".to_owned(),
        text: text.to_owned(),
    }];
    let outcome = config::load(&sources);
    let Some(host) = outcome.host else {
        let said = config::render(&outcome.diagnostics, &sources);
        panic!("{}: {said}", case.display());
    };
    let rendering = Rendering {
        first_boots: &outcome.first_boots,
        host: &host,
        programs: &programs(),
        origin: Origin::Default,
        inputs: &[],
    };
    rendering.generation(1).unwrap().manifest
}

/// A host that is as `before` says, but for what differs.
pub(crate) fn observed(before: &Manifest, after: &Manifest, differs: &Differs) -> Observed {
    let networkd = match differs.networkd {
        Some(Presence::Absent) => Networkd::Absent,
        _ => Networkd::Runs,
    };
    let backend = match networkd {
        Networkd::Runs => Backend::Networkd,
        Networkd::Absent => Backend::Netlink,
    };
    let mut observed = Observed {
        systemd: SystemdVersion(differs.systemd.unwrap_or(257)),
        networkd,
        hypervisor: match &differs.hypervisor {
            None => Hypervisor::Found(programs().hypervisor_version),
            Some(text) => match format!("cloud-hypervisor v{text}").parse() {
                Ok(version) => Hypervisor::Found(version),
                Err(_) => Hypervisor::Unusable(text.clone()),
            },
        },
        units: BTreeMap::new(),
        unit_files: differs
            .unit_files
            .iter()
            .map(|name| camino::Utf8Path::new("/etc/systemd/system").join(name))
            .collect(),
        links: links(before),
        networkd_files: nkudo::network::files(&before.host, backend),
        remains: BTreeMap::new(),
        held: held(differs),
        obstructed: BTreeMap::new(),
        needs: needs(differs),
        storage: storage(before, differs),
        pci: pci_devices(differs),
        network: network_facts(before, backend, differs),
        tuning: tuning_facts(&before.host.tuning, &after.host.tuning, &differs.tuning),
    };
    for (id, vm) in &before.host.vms {
        if vm.autostart == Autostart::No {
            continue;
        }
        observed.units.insert(id.clone(), unit(before, id));
        let booted = booted(before, id, vm, differs);
        let remains = Remains {
            specification: Specification::Known(Box::new(booted)),
            root: true,
        };
        observed.remains.insert(id.clone(), remains);
    }
    observed
        .networkd_files
        .retain(|name, _| !differs.missing_files.contains(name));
    for id in &differs.lost {
        observed.remains.remove(id);
    }
    for (id, change) in &differs.unit {
        change_unit(&mut observed, before, id, change);
    }
    for (name, change) in &differs.link {
        change_link(&mut observed, name, change);
    }
    observed
}

/// Huge pages of 2 MiB are what there is of them by default.
fn needs(differs: &Differs) -> Needs {
    let pools = differs.pages.iter().map(|(size, is)| {
        let pool = PagePool {
            total: is.total,
            free: is.free.unwrap_or(is.total),
            reserved: is.reserved,
            more: is.more,
        };
        (*size, pool)
    });
    let missing = differs.missing.iter();
    Needs {
        missing: missing
            .map(|path| (path.clone(), "No such file or directory".to_owned()))
            .collect(),
        hugepages: pools.collect(),
        default_hugepage: Some(Size::from_mib(2)),
    }
}

fn held(differs: &Differs) -> BTreeMap<VmId, HeldBy> {
    let by = |ids: &BTreeSet<VmId>, by: HeldBy| -> Vec<_> {
        ids.iter().map(|id| (id.clone(), by)).collect()
    };
    let mut held = by(&differs.held, HeldBy::Nkudo);
    held.extend(by(&differs.held_by_systemd, HeldBy::Systemd));
    held.into_iter().collect()
}

fn pci_devices(differs: &Differs) -> PciDevices {
    let mut devices = PciDevices {
        iommu: differs.iommu.map_or(Iommu::On, |_| Iommu::Off),
        vfio: differs.vfio.map_or(Vfio::There, |_| Vfio::Missing),
        ..PciDevices::default()
    };
    for (address, is) in &differs.pci {
        let device = PciDevice {
            driver: is.driver.clone(),
            group: is.group,
            uses: is.uses.clone(),
            links: is.links.clone(),
        };
        devices.there.insert(*address, device);
        if let Some(taken) = &is.taken {
            devices.taken.insert(*address, taken.clone());
        }
    }
    devices
}
