//! A network: the link that VMs' NICs are on, and what the host does for it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use super::{LinkName, Mac, TimeSpan, VmId, by_text};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Network {
    pub kind: NetworkKind,
    pub isolation: Isolation,
    /// The DNS servers that guests are told of.
    pub dns: Vec<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
}

/// What VMs' NICs are on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkKind {
    /// A bridge that nkudo makes.
    Bridge(Bridge),
    /// A bridge of somebody else's, which is joined and never changed.
    ExistingBridge(LinkName),
    /// No bridge: each NIC is a macvtap on the uplink.
    Macvtap(Uplink),
}

/// A bridge of nkudo's, and what the host does for those on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bridge {
    pub name: LinkName,
    /// The host's own addresses on the bridge, each with its prefix length, in the file's order.
    pub address: Vec<IpNet>,
    /// A link of the host that is put into the bridge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uplink: Option<Uplink>,
    pub ipv4: Forwarding,
    pub ipv6: Forwarding,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<Dhcp>,
    pub forward: Vec<Forward>,
}

/// Whether VMs of one network reach each other there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    Off,
    /// They reach the host and the uplink only.
    On,
}

/// A link of the host's that leads out of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Uplink {
    pub link: LinkName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vlan>,
}

/// A VLAN of an uplink, as a link of nkudo's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Vlan {
    pub id: VlanId,
    pub link: LinkName,
}

/// An IEEE 802.1Q VLAN: 1 to 4094.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct VlanId(u16);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no VLAN: they are 1 to 4094")]
pub struct BadVlanId(pub u16);

/// What the host does with packets between a network and the rest of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forwarding {
    Off,
    /// Passes them on as they are, both ways.
    Route,
    /// Passes on what VMs begin, as if it came from the host.
    Masquerade,
}

/// Addresses are handed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Dhcp {
    /// Nothing where the network has no IPv4 address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    pub lease: TimeSpan,
}

/// The IPv4 addresses that are handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Pool {
    /// The host's own, which the server answers from.
    pub server: Ipv4Net,
    pub first: Ipv4Addr,
    /// Not before `first`.
    pub last: Ipv4Addr,
}

/// A port of the host that leads to a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Forward {
    pub proto: Proto,
    pub port: NonZeroU16,
    /// The host's address that it is a port of; without it, each of the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    pub vm: VmId,
    pub to_port: NonZeroU16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proto {
    Tcp,
    Udp,
}

impl Network {
    /// The Ethernet address of a bridge that nkudo made.
    ///
    /// It follows from the link's name alone, so it is there from the moment the link is, and
    /// tells a bridge of nkudo's from one of somebody else's, whichever backend made it, without
    /// a record to disagree. It also keeps the bridge's address from following its ports' as
    /// they come and go, which is what the kernel does with a bridge that was given none.
    pub fn bridge_mac(bridge: &LinkName) -> Mac {
        Mac::derived("bridge", bridge.as_str())
    }

    /// The Ethernet address of a VLAN's link that nkudo made; see [`Network::bridge_mac`].
    pub fn vlan_mac(vlan: &LinkName) -> Mac {
        Mac::derived("vlan", vlan.as_str())
    }

    /// The bridge that VMs' TAPs are ports of, whoever made it.
    pub fn bridge(&self) -> Option<&LinkName> {
        match &self.kind {
            NetworkKind::Bridge(bridge) => Some(&bridge.name),
            NetworkKind::ExistingBridge(name) => Some(name),
            NetworkKind::Macvtap(_) => None,
        }
    }

    /// The bridge, if nkudo makes it.
    pub fn own(&self) -> Option<&Bridge> {
        match &self.kind {
            NetworkKind::Bridge(bridge) => Some(bridge),
            NetworkKind::ExistingBridge(_) | NetworkKind::Macvtap(_) => None,
        }
    }

    pub fn uplink(&self) -> Option<&Uplink> {
        match &self.kind {
            NetworkKind::Bridge(bridge) => bridge.uplink.as_ref(),
            NetworkKind::ExistingBridge(_) => None,
            NetworkKind::Macvtap(uplink) => Some(uplink),
        }
    }
}

impl Bridge {
    pub fn forwarding(&self, family: Family) -> Forwarding {
        match family {
            Family::Ipv4 => self.ipv4,
            Family::Ipv6 => self.ipv6,
        }
    }

    /// The host's addresses of a family.
    pub fn addresses(&self, family: Family) -> impl Iterator<Item = &IpNet> {
        self.address
            .iter()
            .filter(move |net| Family::of(net.addr()) == family)
    }

    /// The host's address in the prefix that holds `ip`.
    pub fn holding(&self, ip: IpAddr) -> Option<&IpNet> {
        self.address.iter().find(|net| net.contains(&ip))
    }

    /// Whether anything from elsewhere may reach this network, or the other way round.
    pub fn forwards(&self, family: Family) -> bool {
        self.forwarding(family) != Forwarding::Off
            || (!self.forward.is_empty() && self.addresses(family).next().is_some())
    }
}

impl Uplink {
    /// The link that goes into the bridge, or that macvtaps are on.
    pub fn port(&self) -> &LinkName {
        self.vlan.as_ref().map_or(&self.link, |vlan| &vlan.link)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl VlanId {
    pub const RANGE: RangeInclusive<u16> = 1..=4094;

    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for VlanId {
    type Error = BadVlanId;

    fn try_from(id: u16) -> Result<Self, Self::Error> {
        if Self::RANGE.contains(&id) {
            Ok(Self(id))
        } else {
            Err(BadVlanId(id))
        }
    }
}

impl From<VlanId> for u16 {
    fn from(id: VlanId) -> Self {
        id.0
    }
}

/// A DNS domain: labels of letters, digits and `-`, in all at most 253 bytes (RFC 1035).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(String);

/// Why a text is not a domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDomain {
    #[error("it is empty")]
    Empty,
    #[error("it is {0} bytes long; the longest is 253")]
    TooLong(usize),
    #[error(
        "`{0}` in it is no label of a domain: 1 to 63 letters, digits and `-`, neither first nor last a `-`"
    )]
    Label(String),
}

impl Domain {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Domain {
    type Err = BadDomain;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(BadDomain::Empty);
        }
        if text.len() > 253 {
            return Err(BadDomain::TooLong(text.len()));
        }
        for label in text.split('.') {
            let good = (1..=63).contains(&label.len())
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                && !label.starts_with('-')
                && !label.ends_with('-');
            if !good {
                return Err(BadDomain::Label(label.to_owned()));
            }
        }
        Ok(Self(text.to_owned()))
    }
}

by_text!(Domain);

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
