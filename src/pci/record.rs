//! What nkudo remembers of a device that it took from the host: written before the device is touched.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::Place;
use crate::files;
use crate::host::{PciAddress, VmId};
use crate::unit::RUNTIME_ROOT;

/// A device that is not as the host had it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Taken {
    /// For whom.
    pub vm: VmId,
    /// The driver that it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Its `driver_override`, which an administrator may have set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_override: Option<String>,
}

/// Where the records are. They die with the boot, as what they tell of does.
pub fn records_directory() -> Utf8PathBuf {
    Utf8Path::new(RUNTIME_ROOT).join("pci")
}

impl Place {
    /// The record of a device. One that is damaged is as good as none: the device is the host's business then.
    pub(super) fn taken(&self, address: PciAddress) -> io::Result<Option<Taken>> {
        let json = files::read(&self.record(address))?;
        Ok(json.and_then(|json| serde_json::from_slice(&json).ok()))
    }

    pub(super) fn note(&self, address: PciAddress, taken: &Taken) -> io::Result<()> {
        files::ensure_directory(&self.records, 0o755)?;
        let json = serde_json::to_vec(taken).map_err(io::Error::other)?;
        files::replace(&self.record(address), &json, 0o644)
    }

    pub(super) fn forget(&self, address: PciAddress) -> io::Result<()> {
        files::remove(&self.record(address))
    }
}
