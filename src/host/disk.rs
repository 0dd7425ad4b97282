//! A VM's disk.

use serde::{Deserialize, Serialize};

use super::{AbsolutePath, DiskName};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Disk {
    /// Unique in the VM; the guest sees it as the disk's serial number
    /// (`/dev/disk/by-id/virtio-<name>`).
    pub name: DiskName,
    pub path: AbsolutePath,
    pub format: DiskFormat,
    pub access: DiskAccess,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskFormat {
    Raw,
    Qcow2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskAccess {
    ReadWrite,
    ReadOnly,
}
