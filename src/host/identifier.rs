//! Names that a file gives to VMs, networks, images and disks, and people to snapshots.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::by_text;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadIdentifier {
    #[error("it is empty")]
    Empty,
    #[error("it is {0} bytes long; the longest is {1}")]
    TooLong(usize, usize),
    #[error("it holds {0:?}; only a-z, 0-9 and `-` are allowed")]
    Character(char),
    #[error("it begins with `-`")]
    LeadingDash,
    #[error("it ends with `-`")]
    TrailingDash,
}

/// The alphabet of RFC 1123 host names in lower case. A VM's id is also its unit's instance name
/// (systemd.unit(5)), a part of a user name, of link names and of paths, and the default host
/// name of the guest; what is legal in all of these needs no escaping in any.
fn check(text: &str, longest: usize) -> Result<(), BadIdentifier> {
    if text.is_empty() {
        return Err(BadIdentifier::Empty);
    }
    if text.len() > longest {
        return Err(BadIdentifier::TooLong(text.len(), longest));
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if let Some(bad) = text.chars().find(|c| !allowed(*c)) {
        return Err(BadIdentifier::Character(bad));
    }
    if text.starts_with('-') {
        return Err(BadIdentifier::LeadingDash);
    }
    if text.ends_with('-') {
        return Err(BadIdentifier::TrailingDash);
    }
    Ok(())
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $longest:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Length of the longest one, in bytes.
            pub const LONGEST: usize = $longest;

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadIdentifier;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                check(text, Self::LONGEST)?;
                Ok(Self(text.to_owned()))
            }
        }

        by_text!($name);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identifier!(
    /// A VM's id: the key of `[vm.<id>]`, and the instance of `nkudo-vm@<id>.service`.
    ///
    /// 1 to 63 of `a-z`, `0-9` and `-`, neither first nor last a `-`.
    VmId,
    63
);
identifier!(
    /// The key of `[network.<name>]`. 1 to 63 of `a-z`, `0-9` and `-`.
    NetworkName,
    63
);
identifier!(
    /// The key of `[image.<name>]`. 1 to 63 of `a-z`, `0-9` and `-`.
    ImageName,
    63
);
identifier!(
    /// The `name` of a disk, unique in its VM. 1 to 20 of `a-z`, `0-9` and `-`: it becomes the
    /// disk's serial number in the guest, and a virtio block serial has 20 bytes
    /// (virtio specification, 5.2.6).
    DiskName,
    20
);
identifier!(
    /// What `nkudo snapshot` calls a snapshot, unique in its VM. 1 to 63 of `a-z`, `0-9` and `-`: it is a
    /// directory's name.
    SnapshotName,
    63
);
