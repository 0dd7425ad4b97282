//! The state of a host's networks, out of what was declared and what was observed.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::Serialize;

use crate::document::FormatVersion;
use crate::generation::Manifest;
use crate::host::{
    Bridge, Forward, Host, LinkName, Mac, Network, NetworkKind, NetworkName, Nic, Uplink, VmId,
};
use crate::network::{self, Backend};
use crate::observe::{Admin, Link, LinkKind, Observed, Rules};
use crate::plan::{self, NetworksLeftOut};

/// `nkudo status --network --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct NetworksStatus {
    pub version: FormatVersion,
    /// The generation that was switched to last; `null` before the first switch.
    pub generation: Option<u64>,
    /// Who makes bridges; `null` before the first switch.
    pub backend: Option<BackendStatus>,
    pub rules: RulesStatus,
    /// Those of the generation.
    pub networks: Vec<NetworkStatus>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendStatus {
    Networkd,
    Netlink,
}

/// nkudo's nftables tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RulesStatus {
    AsDeclared,
    Changed,
    Missing,
    /// nft cannot be run.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct NetworkStatus {
    pub name: NetworkName,
    pub kind: KindStatus,
    /// The bridge, or what macvtaps are on.
    pub link: LinkName,
    pub state: NetworkLinkState,
    /// What stands in its way, so that a switch refuses and a boot leaves it out.
    pub obstacle: Option<String>,
    /// Those that the link has now.
    pub addresses: Vec<IpNet>,
    /// Bytes that the link has received and sent; `null` where there is no link.
    pub received_bytes: Option<u64>,
    pub sent_bytes: Option<u64>,
    pub ports: Vec<PortStatus>,
    /// `null` where the network hands out none, or whoever does it cannot be asked.
    pub leases: Option<Vec<LeaseStatus>>,
    pub forwards: Vec<ForwardStatus>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KindStatus {
    Bridge,
    ExistingBridge,
    Macvtap,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkLinkState {
    Up,
    /// There, and not set up.
    Present,
    Missing,
    /// A link of the name that is not what was declared.
    Foreign,
}

/// A NIC's link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PortStatus {
    pub vm: VmId,
    pub mac: Mac,
    pub tap: LinkName,
    pub state: PortState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortState {
    /// In the network's bridge, or on its uplink.
    Attached,
    /// There, and not where it belongs.
    Elsewhere,
    /// It is not there, and its VM runs.
    Missing,
    /// It is not there, as its VM does not run.
    Stopped,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LeaseStatus {
    pub address: Ipv4Addr,
    pub mac: String,
    /// The VM whose NIC has that Ethernet address.
    pub vm: Option<VmId>,
    /// Microseconds since 1970.
    pub expires: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ForwardStatus {
    pub proto: String,
    /// The host's address; `null`: each of them.
    pub address: Option<IpAddr>,
    pub port: u16,
    pub vm: VmId,
    pub to_port: u16,
    /// How often it was connected to since the rules were loaded; `null` where its rule is not there.
    pub connections: Option<u64>,
}

/// An address that is handed out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lease {
    pub address: Ipv4Addr,
    pub mac: [u8; 6],
    /// Microseconds since 1970.
    pub expires: u64,
}

/// The leases of networks whose DHCP server could be asked.
pub type Leases = BTreeMap<NetworkName, Vec<Lease>>;

pub fn networks_status(
    current: Option<(u64, &Manifest)>,
    observed: &Observed,
    leases: &Leases,
    counted: Option<&str>,
) -> NetworksStatus {
    let host = current.map(|(_, manifest)| &manifest.host);
    let obstructed = current.map_or_else(NetworksLeftOut::new, |(_, manifest)| {
        plan::obstructed(manifest, observed)
    });
    let declared = host.and_then(|host| plan::rules_without(host, &obstructed, observed));
    NetworksStatus {
        version: FormatVersion,
        generation: current.map(|(number, _)| number),
        backend: host.map(|host| match plan::backend(host, observed) {
            Backend::Networkd => BackendStatus::Networkd,
            Backend::Netlink => BackendStatus::Netlink,
        }),
        rules: rules(declared, &observed.network.rules),
        networks: host.map_or_else(Vec::new, |host| {
            let networks = host.networks.iter();
            let one = |(name, declared)| {
                let obstacles = obstructed.get(name);
                NetworkStatus {
                    obstacle: obstacles.map(|obstacles| plan::said(obstacles)),
                    ..network(host, name, declared, observed, leases.get(name), counted)
                }
            };
            networks.map(one).collect()
        }),
    }
}

fn rules(declared: Option<String>, seen: &Rules) -> RulesStatus {
    match (declared, seen) {
        (_, Rules::Unusable(_) | Rules::Refused(_)) => RulesStatus::Unknown,
        (None, Rules::Absent) => RulesStatus::AsDeclared,
        (Some(_), Rules::Absent) => RulesStatus::Missing,
        (Some(declared), Rules::Loaded(loaded)) if declared == *loaded => RulesStatus::AsDeclared,
        (_, Rules::Loaded(_) | Rules::Changed) => RulesStatus::Changed,
    }
}

fn network(
    host: &Host,
    name: &NetworkName,
    declared: &Network,
    observed: &Observed,
    leases: Option<&Vec<Lease>>,
    counted: Option<&str>,
) -> NetworkStatus {
    let (kind, link) = match &declared.kind {
        NetworkKind::Bridge(bridge) => (KindStatus::Bridge, &bridge.name),
        NetworkKind::ExistingBridge(bridge) => (KindStatus::ExistingBridge, bridge),
        NetworkKind::Macvtap(uplink) => (KindStatus::Macvtap, uplink.port()),
    };
    let seen = observed.links.get(link.as_str());
    let state = match seen {
        None => NetworkLinkState::Missing,
        Some(seen) if !is_as_declared(declared, link, seen) => NetworkLinkState::Foreign,
        Some(seen) => match seen.admin {
            Admin::Up => NetworkLinkState::Up,
            Admin::Down => NetworkLinkState::Present,
        },
    };
    let port = |(vm, nic): (&VmId, &Nic)| PortStatus {
        vm: vm.clone(),
        mac: nic.mac,
        tap: nic.tap.clone(),
        state: port_state(vm, nic, seen, observed),
    };
    let lease = |lease: &Lease| LeaseStatus {
        address: lease.address,
        mac: text_of(lease.mac),
        vm: network::nics(host, name)
            .find(|(_, nic)| nic.mac.octets() == lease.mac)
            .map(|(vm, _)| vm.clone()),
        expires: lease.expires,
    };
    NetworkStatus {
        name: name.clone(),
        kind,
        link: link.clone(),
        state,
        obstacle: None,
        addresses: seen.map_or_else(Vec::new, |seen| seen.addresses.iter().copied().collect()),
        received_bytes: seen.map(|seen| seen.traffic.received_bytes),
        sent_bytes: seen.map(|seen| seen.traffic.sent_bytes),
        ports: network::nics(host, name).map(port).collect(),
        leases: leases.map(|leases| leases.iter().map(lease).collect()),
        forwards: declared
            .own()
            .map_or_else(Vec::new, |bridge| forwards(bridge, counted)),
    }
}

/// Whether a link is what nkudo, or somebody else where the network says so, is to have made.
fn is_as_declared(declared: &Network, name: &LinkName, seen: &Link) -> bool {
    match &declared.kind {
        NetworkKind::Bridge(_) => plan::is_our_bridge(name, seen),
        NetworkKind::ExistingBridge(_) => seen.kind == LinkKind::Bridge,
        NetworkKind::Macvtap(Uplink { vlan: None, .. }) => true,
        NetworkKind::Macvtap(_) => plan::is_our_vlan(name, seen),
    }
}

fn port_state(vm: &VmId, nic: &Nic, network: Option<&Link>, observed: &Observed) -> PortState {
    let Some(tap) = observed.links.get(nic.tap.as_str()) else {
        return if observed.running().contains(vm) {
            PortState::Missing
        } else {
            PortState::Stopped
        };
    };
    let place = match tap.kind {
        LinkKind::Macvtap => tap.below,
        _ => tap.master,
    };
    if place.is_some() && place == network.map(|link| link.index) {
        PortState::Attached
    } else {
        PortState::Elsewhere
    }
}

fn forwards(bridge: &Bridge, counted: Option<&str>) -> Vec<ForwardStatus> {
    let forward = |forward: &Forward| ForwardStatus {
        proto: forward.proto.to_string(),
        address: forward.address,
        port: forward.port.get(),
        vm: forward.vm.clone(),
        to_port: forward.to_port.get(),
        connections: connections(forward, counted.unwrap_or_default()),
    };
    bridge.forward.iter().map(forward).collect()
}

/// What the rules of a forward counted: its own for each family, and those of the host's own connections. A rule of NAT
/// sees the first packet of each connection.
fn connections(forward: &Forward, counted: &str) -> Option<u64> {
    let rule = format!(" {} dport {} counter packets ", forward.proto, forward.port);
    let address = forward
        .address
        .map_or_else(String::new, |address| format!("daddr {address} "));
    counted
        .lines()
        .filter(|line| line.contains(&address) && line.contains(" dnat "))
        .filter_map(|line| line.split_once(&rule)?.1.split(' ').next()?.parse().ok())
        .reduce(u64::saturating_add)
}

fn text_of(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_those_of_all_rules_of_a_forward() {
        let forward = Forward {
            proto: crate::host::Proto::Tcp,
            port: 8080.try_into().unwrap(),
            address: None,
            vm: "web".parse().unwrap(),
            to_port: 80.try_into().unwrap(),
        };
        let listed = "chain prerouting {\n\
             fib daddr type local tcp dport 8080 counter packets 3 bytes 180 dnat ip to 10.0.0.2:80\n\
             fib daddr type local tcp dport 8081 counter packets 9 bytes 540 dnat ip to 10.0.0.2:80\n\
             ip daddr != 127.0.0.0/8 tcp dport 8080 counter packets 2 bytes 120 dnat ip to 10.0.0.2:80\n}";
        assert_eq!(connections(&forward, listed), Some(5));
        assert_eq!(connections(&forward, ""), None);
    }
}
