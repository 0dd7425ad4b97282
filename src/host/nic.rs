//! A VM's NIC.

use std::net::IpAddr;
use std::num::NonZeroU8;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::network::Family;
use super::{LinkName, Mac, NetworkName};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Nic {
    pub network: NetworkName,
    /// The guest's Ethernet address.
    pub mac: Mac,
    /// The host's end. Derived from the VM's id and the NIC's place in the file.
    pub tap: LinkName,
    /// The guest's addresses, each with its prefix length. Without one of a family, the guest may
    /// have any of the network's that is nobody else's.
    pub address: Vec<IpNet>,
    /// Where the guest sends what is not on the network; at most one of a family.
    pub gateway: Vec<IpAddr>,
    pub queues: QueuePairs,
    pub trust: Trust,
}

/// Pairs of queues, one for each way: 1 to 16. A TAP has a file descriptor for each, and one D-Bus
/// message carries 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NonZeroU8", into = "NonZeroU8")]
pub struct QueuePairs(NonZeroU8);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is more than {max} queues", max = QueuePairs::MOST)]
pub struct TooManyQueues(NonZeroU8);

/// Whether what a VM sends is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// Only its own addresses leave it, and no answers of a DHCP server or router.
    Checked,
    Trusted,
}

impl Nic {
    /// The guest's addresses of a family.
    pub fn addresses(&self, family: Family) -> impl Iterator<Item = &IpNet> {
        self.address
            .iter()
            .filter(move |net| Family::of(net.addr()) == family)
    }
}

impl QueuePairs {
    pub const ONE: Self = Self(NonZeroU8::MIN);
    pub const MOST: u8 = 16;

    pub const fn get(self) -> u8 {
        self.0.get()
    }
}

impl TryFrom<NonZeroU8> for QueuePairs {
    type Error = TooManyQueues;

    fn try_from(pairs: NonZeroU8) -> Result<Self, Self::Error> {
        if pairs.get() <= Self::MOST {
            Ok(Self(pairs))
        } else {
            Err(TooManyQueues(pairs))
        }
    }
}

impl From<QueuePairs> for NonZeroU8 {
    fn from(pairs: QueuePairs) -> Self {
        pairs.0
    }
}
