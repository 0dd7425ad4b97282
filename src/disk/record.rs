//! `<name>.json` beside a disk: what the disk was made from.
//!
//! A file of root's, and not an extended attribute of the disk: the VMM can write the disk, and with it
//! any attribute `user.*` of it; what is below an overlay must not be for the VMM to say.

#![deny(clippy::disallowed_methods)]

use serde::{Deserialize, Serialize};

use crate::document::{FormatVersion, to_json};
use crate::host::{AbsolutePath, DiskFormat, DiskOrigin, InsideKernel};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DiskRecord {
    pub version: FormatVersion,
    /// As the file declared it then.
    pub origin: DiskOrigin,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSeen>,
}

/// The image that a disk was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ImageSeen {
    /// `sha256:…`, or `path:…` where the content's checksum was not known.
    pub identity: String,
    pub path: AbsolutePath,
    pub format: DiskFormat,
    /// Bytes of the file, and nanoseconds since 1970 of its last change: an overlay is worth nothing over
    /// another image.
    pub length: u64,
    pub modified: i128,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<AbsolutePath>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<AbsolutePath>,
    /// The kernel in it, where the image was booted by that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<InsideKernel>,
}

impl DiskRecord {
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        to_json(self)
    }

    pub fn from_json(json: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }
}
