//! cloud-hypervisor's version, and what depends on it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::host::{Disk, DiskFormat};

/// A release of cloud-hypervisor, as `cloud-hypervisor --version` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    pub major: u16,
    pub minor: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a version of cloud-hypervisor, such as `cloud-hypervisor v48.0`")]
pub struct BadVersion(String);

impl Version {
    /// The first release whose disk locks, and whose options, nkudo counts on.
    pub const MINIMUM: Self = Self {
        major: 46,
        minor: 0,
    };

    /// Whether a qcow2 file can lie over an image of any format: since 51 over a raw one.
    pub fn knows_overlays(self) -> bool {
        self.major >= 51
    }

    /// Whether `vm.resize-disk` grows a disk while the guest runs: raw ones since 50, qcow2 files
    /// since 51, and none that lies over an image.
    pub fn can_grow(self, disk: &Disk) -> bool {
        match disk.format {
            _ if disk.backing.is_some() => false,
            DiskFormat::Raw => self.major >= 50,
            DiskFormat::Qcow2 => self.major >= 51,
        }
    }

    /// Whether `--disk` knows `image_type=`: 50.2, and 51 and later, do. Older ones guess the
    /// type from the disk's first bytes, which the guest writes.
    pub fn knows_image_type(self) -> bool {
        self >= Self {
            major: 50,
            minor: 2,
        }
    }
}

impl FromStr for Version {
    type Err = BadVersion;

    /// Reads the first line of `--version`: `cloud-hypervisor v53.0-246-gae44c2971-dirty`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadVersion(text.lines().next().unwrap_or("").to_owned());
        let number = text
            .lines()
            .next()
            .and_then(|line| line.split_whitespace().nth(1))
            .and_then(|word| word.strip_prefix('v'))
            .ok_or_else(bad)?;
        let number = number.split('-').next().unwrap_or(number);
        let mut parts = number.split('.').map(str::parse::<u16>);
        let mut next = || parts.next().and_then(Result::ok);
        match (next(), next()) {
            (Some(major), Some(minor)) => Ok(Self { major, minor }),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_and_builds_in_between_are_read() {
        let read = |text: &str| text.parse::<Version>();
        assert_eq!(
            read("cloud-hypervisor v46.0\n"),
            Ok(Version {
                major: 46,
                minor: 0
            })
        );
        assert_eq!(
            read("cloud-hypervisor v53.0-246-gae44c2971-dirty\nMigration Protocol Versions: 0"),
            Ok(Version {
                major: 53,
                minor: 0
            })
        );
        for text in [
            "",
            "QEMU emulator version 10.0.2",
            "cloud-hypervisor v",
            "cloud-hypervisor vX.1",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
