//! Names of network links.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{NetworkName, VmId, by_text};

/// A name that the kernel takes for a network link: 1 to 15 bytes (IFNAMSIZ less the NUL), no
/// white space, `/`, `:` or `%`, not `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkName(String);

/// Why a text is not a link's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLinkName {
    #[error("it is empty")]
    Empty,
    #[error("it is {0} bytes long; the kernel takes at most 15")]
    TooLong(usize),
    #[error("it holds {0:?}, which a link's name cannot")]
    Character(char),
    #[error("it is a number, and would be taken for a link's index")]
    Number,
    #[error("`{0}` is a word that the system keeps for itself")]
    Reserved(String),
}

impl LinkName {
    pub const LONGEST: usize = 15;
    /// Every TAP of nkudo begins with this, and no bridge may: networkd is told to leave
    /// `nkt-*` alone. (`vt-`, `ve-`, `vb-` and `vz-` would match files that systemd ships.)
    pub const TAP_PREFIX: &str = "nkt-";
    /// The bridges that nkudo names itself begin with this.
    pub const BRIDGE_PREFIX: &str = "nk-";

    /// The links of VLANs that nkudo makes begin with this.
    pub const VLAN_PREFIX: &str = "nkv-";

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The link of a network's VLAN: `nkv-lan`.
    pub fn vlan(network: &NetworkName) -> Self {
        Self::fitted(Self::VLAN_PREFIX, network.as_str(), "")
    }

    /// The TAP of a VM's NIC: `nkt-web-0`.
    pub fn tap(vm: &VmId, index: u8) -> Self {
        Self::fitted(Self::TAP_PREFIX, vm.as_str(), &format!("-{index}"))
    }

    /// The bridge of a network that does not name its own: `nk-lan`.
    pub fn bridge(network: &NetworkName) -> Self {
        Self::fitted(Self::BRIDGE_PREFIX, network.as_str(), "")
    }

    /// A name that does not fit is replaced by a hash, never cut: two long names that begin alike
    /// stay apart. The `_` marks a hash; an id cannot hold one, so no id can be taken for a hash.
    fn fitted(prefix: &str, name: &str, suffix: &str) -> Self {
        let room = Self::LONGEST - prefix.len() - suffix.len();
        if name.len() <= room {
            return Self(format!("{prefix}{name}{suffix}"));
        }
        let hash = hex::encode(&Sha256::digest(name)[..8]);
        Self(format!(
            "{prefix}_{}{suffix}",
            &hash[..(room - 1).min(hash.len())]
        ))
    }
}

impl FromStr for LinkName {
    type Err = BadLinkName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(BadLinkName::Empty);
        }
        if text.len() > Self::LONGEST {
            return Err(BadLinkName::TooLong(text.len()));
        }
        // The kernel (dev_valid_name) refuses white space, `/` and `:`, and takes `%` for a
        // pattern; systemd (ifname_valid) refuses more. What is left passes unescaped in
        // networkd's files and in nftables.
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if let Some(bad) = text.chars().find(|c| !allowed(*c)) {
            return Err(BadLinkName::Character(bad));
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(BadLinkName::Number);
        }
        if matches!(text, "." | ".." | "lo" | "all" | "default") {
            return Err(BadLinkName::Reserved(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

by_text!(LinkName);

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_ids_stay_readable() {
        assert_eq!(
            LinkName::tap(&"web".parse().unwrap(), 0).as_str(),
            "nkt-web-0"
        );
        assert_eq!(LinkName::bridge(&"lan".parse().unwrap()).as_str(), "nk-lan");
    }

    #[test]
    fn long_ids_are_hashed_and_stay_apart() {
        let one = LinkName::tap(&"customer-database-1".parse().unwrap(), 15);
        let two = LinkName::tap(&"customer-database-2".parse().unwrap(), 15);
        assert_ne!(one, two);
        for name in [one, two] {
            assert!(
                name.as_str().starts_with("nkt-_") && name.as_str().len() <= 15,
                "{name}"
            );
            assert!(name.as_str().ends_with("-15"));
            assert_eq!(name.as_str().parse::<LinkName>().unwrap(), name);
        }
    }
}
