//! A directory of the host that a guest has.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{AbsolutePath, DiskAccess, by_text};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Share {
    pub tag: ShareTag,
    pub source: AbsolutePath,
    pub access: DiskAccess,
}

/// What the guest mounts a share by, unique in its VM: 1 to 35 letters, digits, `-` and `_`.
///
/// virtio-fs has room for 36 bytes (virtio specification, 5.11.4), and it is a part of a unit's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ShareTag(String);

/// Why a text is not a tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadShareTag {
    #[error("it is empty")]
    Empty,
    #[error("it is {0} bytes long; the longest is 35")]
    TooLong(usize),
    #[error("it holds {0:?}; only letters of ASCII, digits, `-` and `_` are allowed")]
    Character(char),
}

impl ShareTag {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ShareTag {
    type Err = BadShareTag;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        match text.chars().find(|c| !allowed(*c)) {
            _ if text.is_empty() => Err(BadShareTag::Empty),
            _ if text.len() > 35 => Err(BadShareTag::TooLong(text.len())),
            Some(bad) => Err(BadShareTag::Character(bad)),
            None => Ok(Self(text.to_owned())),
        }
    }
}

by_text!(ShareTag);

impl fmt::Display for ShareTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
