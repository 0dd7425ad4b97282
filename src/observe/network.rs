//! What was seen of the host's network besides its links: plain data, for `plan`.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use ipnet::IpNet;

use super::UnitState;
use crate::host::NetworkName;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkFacts {
    /// The unicast routes of the main table.
    pub routes: Vec<Route>,
    pub rules: Rules,
    /// Chains of others' tables that drop what they do not accept of what the host passes on.
    pub dropping: Vec<DroppingChain>,
    /// Links that nkudo put into a bridge of its own, and that bridge, by name.
    pub uplinks: BTreeMap<String, String>,
    /// The units that hand out addresses.
    pub dhcp: BTreeMap<NetworkName, DhcpUnit>,
    pub sysctls: Sysctls,
    /// Where dnsmasq is, if it is there.
    pub dnsmasq: Option<Utf8PathBuf>,
    pub network_manager: NetworkManager,
    /// Networks that this run has tried to make and could not, and why.
    pub not_made: BTreeMap<NetworkName, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NetworkManager {
    #[default]
    Absent,
    /// It runs, or did since the host booted; with nkudo's file for it.
    There(Option<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// With a prefix of length 0: the default route.
    pub destination: IpNet,
    /// The link's index.
    pub link: u32,
    /// Whether what it leads to is on the link itself, without a gateway.
    pub on_link: bool,
}

/// nkudo's rules, as the kernel has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Rules {
    /// nft cannot be run, and why.
    Unusable(String),
    /// This run has tried to load others, and they were refused, and why.
    Refused(String),
    /// No table of nkudo's is there.
    #[default]
    Absent,
    /// They are there as this text made them.
    Loaded(String),
    /// They are there, and not as anything that is known made them.
    Changed,
}

/// A chain with `policy drop` where packets are forwarded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DroppingChain {
    /// `ip`, `ip6`, `inet`
    pub family: String,
    pub table: String,
    pub chain: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhcpUnit {
    pub state: UnitState,
    /// `NKUDO_DIGEST` of its `LogExtraFields`.
    pub digest: Option<String>,
}

/// Kernel settings, by their path below /proc/sys: `net/ipv4/conf/eth0/forwarding`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sysctls {
    /// Those about forwarding that there are.
    pub seen: BTreeMap<String, String>,
    /// Those that nkudo changed.
    pub ours: BTreeMap<String, String>,
}
