//! `manifest.json` of a snapshot: what the VM was, and what there has to be of it.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::booted::Booted;
use crate::document::{FormatVersion, to_json};
use crate::host::{AbsolutePath, DiskName, SnapshotName, VmId};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    pub version: FormatVersion,
    pub id: VmId,
    pub name: SnapshotName,
    /// Microseconds since 1970.
    pub taken: u64,
    /// What the VM was then, its hypervisor's version included.
    pub booted: Booted,
    /// What the VMM calls its NICs, in their order.
    pub nics: Vec<NicId>,
    /// Bytes of memory that the VM had.
    pub memory: u64,
    /// What the VMM wrote: the names and the bytes of its files.
    pub vmm: BTreeMap<String, u64>,
    pub disks: Vec<DiskCopy>,
    /// Bytes of the copy of the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// What the VM reads and does not write, which has to be as it was.
    pub unchanged: Vec<Unchanged>,
}

/// A disk that the VM writes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DiskCopy {
    pub name: DiskName,
    /// Its name in `disks/`.
    pub file: String,
    pub length: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Unchanged {
    pub path: AbsolutePath,
    pub length: u64,
    /// Nanoseconds since 1970.
    pub modified: i128,
}

/// What the VMM calls a NIC: letters, digits, `-` and `_`. It is the VMM's to say, and becomes a part of a
/// command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NicId(String);

impl TryFrom<String> for NicId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if text.is_empty() || text.len() > 64 || !text.chars().all(allowed) {
            return Err(format!("`{}` is no NIC's id", text.escape_debug()));
        }
        Ok(Self(text))
    }
}

impl From<NicId> for String {
    fn from(id: NicId) -> Self {
        id.0
    }
}

impl fmt::Display for NicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Manifest {
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        to_json(self)
    }

    pub fn from_json(json: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nics_id_can_be_nothing_but_an_id() {
        let read = |text: &str| NicId::try_from(text.to_owned());
        assert!(read("_net0").is_ok());
        for bad in ["", "a,b", "a@[3]", "a b", "é", &"a".repeat(65)] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
