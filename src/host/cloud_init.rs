//! What a guest's first boot is made of, as far as a specification says it.
//!
//! The texts themselves, which can hold passwords and keys, are not here but in the generation's
//! `seeds/<id>/`: a specification is shown in plans, kept in /run and handed to the VM's steps.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{VmId, by_text};

/// `[vm.<id>.cloud-init]`, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CloudInit {
    pub instance_id: InstanceId,
    /// Every other key that is set, with its value, or a fingerprint of it.
    pub keys: BTreeMap<String, String>,
}

/// What cloud-init knows an instance by: 1 to 64 letters, digits, `-`, `_` and `.`.
///
/// cloud-init runs its first boot again when it meets an instance-id that it has not seen last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(String);

/// Why a text is not an instance-id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadInstanceId {
    #[error("it is empty")]
    Empty,
    #[error("it is longer than 64 bytes")]
    TooLong,
    #[error("it holds {0:?}; only letters of ASCII, digits, `-`, `_` and `.` are allowed")]
    Character(char),
}

/// The namespace of UUIDs that are made from a VM's id (UUIDv5, RFC 9562).
const NAMESPACE: Uuid = Uuid::from_u128(0x5d3c_0f0e_8a3b_5a53_9d0c_51f6_c6e4_2b77);

/// The UUID that a VM's id always leads to.
pub fn uuid(id: &VmId) -> Uuid {
    Uuid::new_v5(&NAMESPACE, id.as_str().as_bytes())
}

impl InstanceId {
    /// The one that a VM's id always leads to: whatever else changes in the file, a disk on which
    /// first boot has been is not made anew by it.
    pub fn derived(id: &VmId) -> Self {
        Self(uuid(id).to_string())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InstanceId {
    type Err = BadInstanceId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        match text.chars().find(|c| !allowed(*c)) {
            _ if text.is_empty() => Err(BadInstanceId::Empty),
            _ if text.len() > 64 => Err(BadInstanceId::TooLong),
            Some(bad) => Err(BadInstanceId::Character(bad)),
            None => Ok(Self(text.to_owned())),
        }
    }
}

by_text!(InstanceId);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A guest's host name, with or without its domain: labels of 1 to 63 letters, digits and `-`
/// (RFC 1123), together at most 253.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(String);

/// Why a text is not a host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHostName {
    #[error("it is longer than 253 bytes")]
    TooLong,
    #[error("it has a part of {0} bytes between its dots; they have 1 to 63")]
    Label(usize),
    #[error("it holds {0:?}; only letters of ASCII, digits, `-` and `.` are allowed")]
    Character(char),
    #[error("a part of it begins or ends with `-`")]
    Dash,
}

impl HostName {
    /// The id is one already: its alphabet is that of RFC 1123.
    pub fn of(id: &VmId) -> Self {
        Self(id.to_string())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = BadHostName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > 253 {
            return Err(BadHostName::TooLong);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
        if let Some(bad) = text.chars().find(|c| !allowed(*c)) {
            return Err(BadHostName::Character(bad));
        }
        for label in text.split('.') {
            if label.is_empty() || label.len() > 63 {
                return Err(BadHostName::Label(label.len()));
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err(BadHostName::Dash);
            }
        }
        Ok(Self(text.to_owned()))
    }
}

/// A few digits by which two texts can be told apart, and from which neither can be read.
pub fn fingerprint(text: &str) -> String {
    let hash = Sha256::new()
        .chain_update(b"nkudo seed\0")
        .chain_update(text)
        .finalize();
    format!("#{}", hex::encode(&hash[..4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_id_is_the_vms_own_and_stays() {
        let web: VmId = "web".parse().unwrap();
        let db: VmId = "db".parse().unwrap();
        // Written out: another value would run first boot again in every guest there is.
        assert_eq!(
            InstanceId::derived(&web).as_str(),
            "61e0326d-ca85-53c2-9061-83b28dd4b1e6"
        );
        assert_ne!(InstanceId::derived(&web), InstanceId::derived(&db));
        assert_eq!("".parse::<InstanceId>(), Err(BadInstanceId::Empty));
        assert_eq!(
            "a b".parse::<InstanceId>(),
            Err(BadInstanceId::Character(' '))
        );
    }

    #[test]
    fn host_names_are_those_of_rfc_1123() {
        for good in ["web", "Web-1.example.org", "1a"] {
            assert!(good.parse::<HostName>().is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", BadHostName::Label(0)),
            ("web.", BadHostName::Label(0)),
            ("-web", BadHostName::Dash),
            ("web_1", BadHostName::Character('_')),
        ] {
            assert_eq!(bad.parse::<HostName>(), Err(why), "{bad}");
        }
    }
}
