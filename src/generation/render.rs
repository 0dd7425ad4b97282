//! Rendering: a resolved host as a tree of files.

#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest, Sha256};

use super::{Input, Manifest, Origin, Role};
use crate::document::FormatVersion;
use crate::host::{Host, NetworkBackend, Vm, VmId};
use crate::network::{self, Backend};
use crate::seed::{self, FirstBoot};
use crate::tuning;
use crate::unit::{self, Programs, Unit};

/// A rendered generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    pub manifest: Manifest,
    /// The tree, by path relative to the generation's directory.
    pub files: BTreeMap<Utf8PathBuf, Vec<u8>>,
}

/// All that rendering depends on.
#[derive(Debug, Clone, Copy)]
pub struct Rendering<'a> {
    pub host: &'a Host,
    /// What the seeds are made of.
    pub first_boots: &'a BTreeMap<VmId, FirstBoot>,
    pub programs: &'a Programs,
    pub origin: Origin,
    pub inputs: &'a [Input],
}

impl Rendering<'_> {
    /// The generation with this number. The number is in the units' `NKUDO_GENERATION`, and not in
    /// the id.
    ///
    /// The id is the SHA-256 of the tree without the number and the id. Everything is rendered once:
    /// the hash passes over those two.
    pub fn generation(self, number: u64) -> serde_json::Result<Generation> {
        let mut manifest = self.manifest()?;
        let mut files: BTreeMap<Utf8PathBuf, Vec<u8>> = BTreeMap::new();
        // Whether networkd runs is only known when switching; these are its files if it does.
        let backend = match self.host.network_backend {
            NetworkBackend::Auto | NetworkBackend::Networkd => Backend::Networkd,
            NetworkBackend::Netlink => Backend::Netlink,
        };
        for (name, text) in network::files(self.host, backend) {
            files.insert(format!("network/{name}").into(), text.into_bytes());
        }
        if let Some(text) = network::network_manager(self.host) {
            files.insert("network/NetworkManager.conf".into(), text.into_bytes());
        }
        for (vm_id, first_boot) in self.first_boots {
            let vm = self.host.vms.get(vm_id);
            if let Some((vm, cloud_init)) = vm.and_then(|vm| Some((vm, vm.cloud_init.as_ref()?))) {
                for (name, text) in
                    seed::files(cloud_init, first_boot, &vm.nics, &self.host.networks)
                {
                    let path = seed::directory(vm_id).join(name);
                    files.insert(path, text.into_bytes());
                }
            }
        }
        for (vm_id, vm) in &self.host.vms {
            let companions = unit::companions(vm_id, vm, self.programs);
            let readiness = unit::readiness(vm_id, vm, self.programs);
            for unit in companions.into_iter().chain(readiness) {
                let path = format!("units/{}", unit.name);
                files.insert(path.into(), unit.text().into_bytes());
            }
        }
        if let Some(rules) = network::rules(self.host) {
            files.insert("nftables.conf".into(), rules.into_bytes());
        }
        let tuned = [
            ("tuning/sysctl.conf", tuning::sysctl(&self.host.tuning)),
            ("tuning/tmpfiles.conf", tuning::tmpfiles(&self.host.tuning)),
        ];
        for (path, text) in tuned {
            if let Some(text) = text {
                files.insert(path.into(), text.into_bytes());
            }
        }
        files.insert("manifest.json".into(), manifest.to_json()?);
        let mut hash = Sha256::new();
        for (path, bytes) in &files {
            hash_file(&mut hash, path.as_str(), [bytes]);
        }
        let numbered = format!("{}={number}\n", unit::GENERATION_FIELD);
        for vm_id in self.host.vms.keys() {
            if let Some(unit) = manifest.unit(vm_id, number) {
                let (path, text) = (format!("units/{}", unit.name), unit.text());
                let (before, after) = text.split_once(&numbered).unwrap_or((&text, ""));
                hash_file(&mut hash, &path, [before, after]);
                files.insert(path.into(), text.into_bytes());
            }
        }
        manifest.id = hex::encode(hash.finalize());
        if let Some(json) = files.get_mut(Utf8Path::new("manifest.json")) {
            manifest.set_id(json)?;
        }
        Ok(Generation { manifest, files })
    }

    /// The manifest without an id.
    fn manifest(self) -> serde_json::Result<Manifest> {
        let mut digests = BTreeMap::new();
        for (vm_id, vm) in &self.host.vms {
            digests.insert(vm_id.clone(), vm_digest(vm_id, vm)?);
        }
        Ok(Manifest {
            version: FormatVersion,
            id: String::new(),
            rendered_by: env!("CARGO_PKG_VERSION").to_owned(),
            programs: self.programs.clone(),
            origin: self.origin,
            inputs: self.inputs.to_vec(),
            digests,
            host: self.host.clone(),
        })
    }
}

/// Adds a file to the hash. Lengths as well, so that no two trees run into the same bytes.
fn hash_file<const N: usize>(hash: &mut Sha256, path: &str, parts: [impl AsRef<[u8]>; N]) {
    let length: usize = parts.iter().map(|part| part.as_ref().len()).sum();
    hash.update((path.len() as u64).to_le_bytes());
    hash.update(path);
    hash.update((length as u64).to_le_bytes());
    for part in parts {
        hash.update(part);
    }
}

impl Manifest {
    /// The unit of a VM of this generation.
    pub fn unit(&self, id: &VmId, number: u64) -> Option<Unit> {
        let vm = self.host.vms.get(id)?;
        let digest = self.digests.get(id)?;
        let source = unit::Source {
            digest,
            generation: number,
        };
        // The IOMMU groups of PCI devices are known on the host alone.
        Some(unit::vm_unit(
            id,
            vm,
            &self.programs,
            source,
            &BTreeSet::new(),
        ))
    }
}

/// Identifies a VM's specification: 32 hexadecimal digits of the SHA-256 of its JSON.
pub fn vm_digest(id: &VmId, vm: &Vm) -> serde_json::Result<String> {
    let hash = Sha256::new()
        .chain_update(id.as_str())
        .chain_update([0])
        .chain_update(serde_json::to_vec(vm)?)
        .finalize();
    Ok(hex::encode(&hash[..16]))
}

impl Input {
    pub fn new(name: String, text: &str, role: Role) -> Self {
        Self {
            name,
            role,
            sha256: hex::encode(Sha256::digest(text)),
        }
    }
}
