//! A VM's disk.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{AbsolutePath, DiskName, ImageName, Size, by_text};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Disk {
    /// Unique in the VM; the guest sees it as the disk's serial number
    /// (`/dev/disk/by-id/virtio-<name>`).
    pub name: DiskName,
    pub path: AbsolutePath,
    pub format: DiskFormat,
    pub access: DiskAccess,
    /// The image that an overlay lies over; the VM reads it as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backing: Option<AbsolutePath>,
    pub origin: DiskOrigin,
    #[serde(default, skip_serializing_if = "RateLimit::is_none")]
    pub rate_limit: RateLimit,
}

/// What nkudo makes a disk from when it is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum DiskOrigin {
    /// Nothing: it is somebody else's file or block device.
    Existing,
    /// The image itself, for reading only.
    Image { image: ImageName },
    /// A copy of an image, as large as `size`, or as the image.
    Clone {
        image: ImageName,
        #[serde(skip_serializing_if = "Option::is_none")]
        size: Option<Size>,
    },
    /// A qcow2 file that holds only what differs from its image.
    Overlay {
        image: ImageName,
        #[serde(skip_serializing_if = "Option::is_none")]
        size: Option<Size>,
    },
    /// An empty disk.
    Volume {
        size: Size,
        #[serde(skip_serializing_if = "Option::is_none")]
        filesystem: Option<Filesystem>,
        #[serde(skip_serializing_if = "Option::is_none")]
        label: Option<Label>,
    },
}

impl DiskOrigin {
    /// Whether nkudo makes a file for the disk.
    pub const fn is_made(&self) -> bool {
        !matches!(self, Self::Existing | Self::Image { .. })
    }

    pub const fn image(&self) -> Option<&ImageName> {
        match self {
            Self::Image { image } | Self::Clone { image, .. } | Self::Overlay { image, .. } => {
                Some(image)
            }
            Self::Existing | Self::Volume { .. } => None,
        }
    }

    /// How large the disk is to be at least.
    pub const fn size(&self) -> Option<Size> {
        match self {
            Self::Clone { size, .. } | Self::Overlay { size, .. } => *size,
            Self::Volume { size, .. } => Some(*size),
            Self::Existing | Self::Image { .. } => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskFormat {
    Raw,
    Qcow2,
}

impl DiskFormat {
    /// The extension of a file's name, and the word of qemu-img.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

impl fmt::Display for DiskFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskAccess {
    ReadWrite,
    ReadOnly,
}

/// What a new volume is formatted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filesystem {
    Ext4,
    Xfs,
    Btrfs,
    Vfat,
}

impl Filesystem {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Vfat => "vfat",
        }
    }

    /// The longest label, in bytes: mke2fs(8), mkfs.xfs(8), mkfs.btrfs(8), mkfs.fat(8).
    pub const fn longest_label(self) -> usize {
        match self {
            Self::Ext4 => 16,
            Self::Xfs => 12,
            Self::Btrfs => 255,
            Self::Vfat => 11,
        }
    }

    /// The smallest volume. mkfs.xfs refuses less than 300 MB, mkfs.btrfs less than 109 MiB.
    pub const fn least_size(self) -> Size {
        Size::from_mib(match self {
            Self::Ext4 => 2,
            Self::Xfs => 300,
            Self::Btrfs => 128,
            Self::Vfat => 1,
        })
    }
}

impl fmt::Display for Filesystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A filesystem's label: 1 to 255 printable ASCII characters, not beginning with `-`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

/// Why a text is not a label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLabel {
    #[error("it is empty")]
    Empty,
    #[error("it holds {0:?}; only letters, digits, `-`, `_`, `.` and spaces within are allowed")]
    Character(char),
    #[error("it begins or ends with a space, or begins with `-`")]
    Edge,
    #[error("it is {0} bytes long; the longest is 255")]
    TooLong(usize),
}

impl Label {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = BadLabel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(BadLabel::Empty);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_. ".contains(c);
        if let Some(bad) = text.chars().find(|c| !allowed(*c)) {
            return Err(BadLabel::Character(bad));
        }
        if text.starts_with(['-', ' ']) || text.ends_with(' ') {
            return Err(BadLabel::Edge);
        }
        if text.len() > 255 {
            return Err(BadLabel::TooLong(text.len()));
        }
        Ok(Self(text.to_owned()))
    }
}

by_text!(Label);

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How much of the host a disk may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RateLimit {
    /// Bytes in a second, read and written together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Rate>,
    /// Requests in a second, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iops: Option<Rate>,
}

impl RateLimit {
    pub const fn is_none(&self) -> bool {
        self.bandwidth.is_none() && self.iops.is_none()
    }
}

/// So many in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rate {
    pub rate: NonZeroU64,
    /// How many more there may be once, after the VM's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<NonZeroU64>,
}
