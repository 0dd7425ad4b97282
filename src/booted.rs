//! The booted specification: what a VM that runs now was started from.
//!
//! `/run/nkudo/booted/<id>.json`, which the steps of its unit read. Ending a VM must use what was
//! booted, not what is configured since. It dies with the boot, as the units do.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeSet;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use crate::document::{FormatVersion, to_json};
use crate::host::{IommuGroup, Size, Vm, VmId};
use crate::unit::{self, Programs, RUNTIME_ROOT, Source, Unit};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Booted {
    pub version: FormatVersion,
    pub id: VmId,
    /// The generation that it was started from.
    pub generation: u64,
    /// The digest of its unit in that generation.
    pub digest: String,
    /// What its unit runs.
    pub programs: Programs,
    /// SHA-256 of its unit's text, as the nkudo that made it would write it: another nkudo may make
    /// another one of the same.
    pub unit: String,
    /// The memory that it was booted with. The rest up to `vm.memory.size` was plugged in since; it
    /// cannot be made smaller than this while it runs.
    pub boot_memory: Size,
    /// The IOMMU groups of its PCI devices.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub iommu_groups: BTreeSet<IommuGroup>,
    /// What it is now: what it was started from, with what changed while it ran.
    pub vm: Vm,
}

impl Booted {
    /// The specification of a VM that starts now.
    pub fn new(id: &VmId, vm: &Vm, generation: u64, digest: &str, programs: &Programs) -> Self {
        let mut booted = Self {
            version: FormatVersion,
            id: id.clone(),
            generation,
            digest: digest.to_owned(),
            programs: programs.clone(),
            unit: String::new(),
            boot_memory: vm.memory.size,
            iommu_groups: BTreeSet::new(),
            vm: vm.clone(),
        };
        booted.unit = booted.to_unit().digest();
        booted
    }

    /// The same VM, with PCI devices of these IOMMU groups.
    #[must_use]
    pub fn in_groups(mut self, groups: BTreeSet<IommuGroup>) -> Self {
        self.iommu_groups = groups;
        self.unit = self.to_unit().digest();
        self
    }

    /// The same VM, with the memory that it had booted with when a snapshot of it was taken.
    #[must_use]
    pub fn booted_with(mut self, memory: Size) -> Self {
        self.boot_memory = memory;
        self.unit = self.to_unit().digest();
        self
    }

    /// The same VM, after what changed while it runs.
    #[must_use]
    pub fn becoming(&self, vm: &Vm) -> Self {
        let mut booted = Self {
            vm: vm.clone(),
            ..self.clone()
        };
        booted.unit = booted.to_unit().digest();
        booted
    }

    /// Its unit. With the memory that it booted with, so that what is plugged in can be taken out
    /// again after a restart by systemd too; `ready` plugs it in.
    pub fn to_unit(&self) -> Unit {
        let mut vm = self.vm.clone();
        vm.memory.size = self.boot_memory;
        let source = Source {
            digest: &self.digest,
            generation: self.generation,
        };
        unit::vm_unit(&self.id, &vm, &self.programs, source, &self.iommu_groups)
    }

    /// Where all specifications are.
    pub fn directory() -> Utf8PathBuf {
        format!("{RUNTIME_ROOT}/booted").into()
    }

    pub fn path(id: &VmId) -> Utf8PathBuf {
        Self::directory().join(format!("{id}.json"))
    }

    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        to_json(self)
    }

    pub fn from_json(json: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }
}
