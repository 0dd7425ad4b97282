//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::by_text;

/// A unicast Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

/// Why a text or six bytes are not an address that a NIC can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMac {
    #[error("it is not six pairs of hexadecimal digits with `:` between them")]
    Notation,
    #[error("it is a multicast address (the lowest bit of its first byte is set)")]
    Multicast,
    #[error("it is all zeros")]
    Zero,
}

impl Mac {
    /// The address that a text always leads to: locally administered, the other 46 bits from
    /// SHA-256. `purpose` keeps the addresses of VMs and of bridges apart.
    pub fn derived(purpose: &str, text: &str) -> Self {
        let hash = Sha256::new()
            .chain_update(b"nkudo mac\0")
            .chain_update(purpose)
            .chain_update(b"\0")
            .chain_update(text)
            .finalize();
        let mut bytes = [0; 6];
        bytes.copy_from_slice(&hash[..6]);
        // IEEE 802: bit 0 of the first byte says multicast, bit 1 locally administered.
        bytes[0] = (bytes[0] & 0xfc) | 0x02;
        Self(bytes)
    }

    pub const fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl TryFrom<[u8; 6]> for Mac {
    type Error = BadMac;

    fn try_from(bytes: [u8; 6]) -> Result<Self, Self::Error> {
        if bytes[0] & 1 == 1 {
            Err(BadMac::Multicast)
        } else if bytes == [0; 6] {
            Err(BadMac::Zero)
        } else {
            Ok(Self(bytes))
        }
    }
}

impl FromStr for Mac {
    type Err = BadMac;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 6];
        let mut pairs = text.split(':');
        for byte in &mut bytes {
            let pair = pairs.next().ok_or(BadMac::Notation)?;
            // from_str_radix alone would take "+f".
            if pair.len() != 2 || !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(BadMac::Notation);
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| BadMac::Notation)?;
        }
        match pairs.next() {
            Some(_) => Err(BadMac::Notation),
            None => bytes.try_into(),
        }
    }
}

by_text!(Mac);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ":" };
            write!(f, "{separator}{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_address_is_stable_unicast_and_locally_administered() {
        let mac = Mac::derived("vm", "web/0");
        assert_eq!(mac, Mac::derived("vm", "web/0"));
        assert_ne!(mac, Mac::derived("bridge", "web/0"));
        assert_eq!(mac.octets()[0] & 3, 2);
        assert_eq!(mac.to_string().parse::<Mac>().unwrap(), mac);
    }

    #[test]
    fn what_a_nic_cannot_have_is_refused() {
        assert_eq!("01:00:5e:00:00:01".parse::<Mac>(), Err(BadMac::Multicast));
        assert_eq!("00:00:00:00:00:00".parse::<Mac>(), Err(BadMac::Zero));
        for text in [
            "52:54:00:00:00",
            "52-54-00-00-00-01",
            "+f:54:00:00:00:01",
            "52:54:00:00:00:01:02",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(BadMac::Notation), "{text}");
        }
    }
}
