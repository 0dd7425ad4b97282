//! What stands in the way of networks.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::Plan;
use super::network::{is_link_local, is_our_bridge};
use super::network_plan::RulesStep;
use super::obstacle::Obstacle;
use super::services::{Overlap, overlaps};
use super::uplink::is_our_vlan;
use crate::generation::Manifest;
use crate::host::{LinkName, Network, NetworkBackend, NetworkKind, NetworkName, Uplink};
use crate::network::{self, Backend};
use crate::observe::{Link, LinkKind, Networkd, Observed, Rules};

/// What stands in the way of one network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkObstacle {
    #[error(
        "the link {name} is there already and is not nkudo's ({kind}), and the network needs a bridge \
         of that name; give the network another one with `bridge =`, or remove the link"
    )]
    ForeignBridge { name: LinkName, kind: &'static str },
    #[error(
        "the bridge {name} is not there, and the network joins it (`existing-bridge`); make it first, \
         or say `bridge = \"{name}\"`, and nkudo makes it"
    )]
    NoBridge { name: LinkName },
    #[error("{name} is no bridge, and the network joins it as one (`existing-bridge`)")]
    NotABridge { name: LinkName },
    #[error("the uplink {link} is not there; `ip link` lists the host's links")]
    NoUplink { link: LinkName },
    #[error(
        "the uplink {link} has addresses of the host's ({addresses}), which stop working once it is in \
         a bridge; take them off it and give them to the network (`address`), or put VMs on a VLAN \
         of it (`vlan`), or on the link itself (`macvtap = true`)"
    )]
    UplinkHasAddresses { link: LinkName, addresses: String },
    #[error(
        "the uplink {link} is a port of another link already, and cannot go into {bridge}; take it out \
         there, or name another uplink"
    )]
    UplinkInUse { link: LinkName, bridge: LinkName },
    #[error(
        "the uplink {link} is a bridge, and a bridge cannot go into another; \
         `existing-bridge = \"{link}\"` puts VMs into it"
    )]
    UplinkIsBridge { link: LinkName },
    #[error(
        "the link {name} is there already and is not nkudo's, and the network needs a VLAN's link of that \
         name; remove it, or rename the network"
    )]
    ForeignVlan { name: LinkName },
    #[error(
        "{prefix} of the bridge {bridge} overlaps {other}, which the host reaches over {link}; give \
         the network other addresses"
    )]
    AddressOverlap {
        bridge: LinkName,
        prefix: IpNet,
        other: IpNet,
        link: String,
    },
    #[error(
        "it has `dhcp`, systemd-networkd does not hand out addresses on this host, and there is no \
         dnsmasq; install it (dnsmasq-base), or leave `dhcp` out"
    )]
    NoDnsmasq,
    /// This run has tried.
    #[error("{0}")]
    NotMade(String),
}

/// What stands in the way of the networks.
pub(super) fn obstacles(plan: &Plan, wanted: &Manifest, observed: &Observed) -> Vec<Obstacle> {
    let host = &wanted.host;
    let mut obstacles = Vec::new();
    let bridges = || {
        let own = host
            .networks
            .iter()
            .filter_map(|(name, network)| Some((name, network.own()?)));
        own.map(|(name, bridge)| (name.clone(), bridge))
    };
    let networks: BTreeSet<NetworkName> = bridges().map(|(name, _)| name).collect();
    if host.network_backend == NetworkBackend::Networkd
        && observed.networkd == Networkd::Absent
        && plan.backend == Backend::Networkd
        && !networks.is_empty()
    {
        obstacles.push(Obstacle::NoNetworkd { networks });
    }
    for (name, network) in &host.networks {
        let mut whats = Vec::new();
        whats.extend(of_bridge(network, observed));
        whats.extend(of_uplink(network, observed));
        let dhcp = network.own().is_some_and(|bridge| bridge.dhcp.is_some());
        if dhcp && plan.backend == Backend::Netlink && observed.network.dnsmasq.is_none() {
            whats.push(NetworkObstacle::NoDnsmasq);
        }
        let not_made = observed.network.not_made.get(name);
        whats.extend(not_made.cloned().map(NetworkObstacle::NotMade));
        obstacles.extend(whats.into_iter().map(|what| Obstacle::Network {
            network: name.clone(),
            what,
        }));
    }
    for (bridge, prefix, overlap) in overlaps(host, observed) {
        if let Overlap::OnLink(other, link) = overlap
            && let Some((network, _)) = bridges().find(|(_, own)| own.name == *bridge)
        {
            obstacles.push(Obstacle::Network {
                network,
                what: NetworkObstacle::AddressOverlap {
                    bridge: bridge.clone(),
                    prefix,
                    other,
                    link,
                },
            });
        }
    }
    if let RulesStep::Load { .. } = plan.network.rules {
        let networks = network::with_rules(host);
        match &observed.network.rules {
            Rules::Unusable(why) => obstacles.push(Obstacle::NoNft {
                why: why.clone(),
                networks,
            }),
            Rules::Refused(why) => obstacles.push(Obstacle::RulesRefused {
                why: why.clone(),
                networks,
            }),
            Rules::Absent | Rules::Loaded(_) | Rules::Changed => {}
        }
    }
    obstacles
}

fn of_bridge(network: &Network, observed: &Observed) -> Option<NetworkObstacle> {
    let name = network.bridge()?;
    let link = observed.links.get(name.as_str());
    match (&network.kind, link) {
        (NetworkKind::Bridge(_), Some(link)) if !is_our_bridge(name, link) => {
            let kind = match link.kind {
                LinkKind::Bridge => "a bridge; `existing-bridge =` joins it",
                LinkKind::Tun => "a TUN or TAP",
                LinkKind::Vlan(_) | LinkKind::Macvtap | LinkKind::Other => "no bridge",
            };
            Some(NetworkObstacle::ForeignBridge {
                name: name.clone(),
                kind,
            })
        }
        (NetworkKind::ExistingBridge(_), None) => {
            Some(NetworkObstacle::NoBridge { name: name.clone() })
        }
        (NetworkKind::ExistingBridge(_), Some(link)) if link.kind != LinkKind::Bridge => {
            Some(NetworkObstacle::NotABridge { name: name.clone() })
        }
        _ => None,
    }
}

/// What stands in the way of using a network's uplink.
fn of_uplink(network: &Network, observed: &Observed) -> Vec<NetworkObstacle> {
    let mut obstacles = Vec::new();
    let Some(uplink) = network.uplink() else {
        return obstacles;
    };
    let name = &uplink.link;
    let Some(link) = observed.links.get(name.as_str()) else {
        obstacles.push(NetworkObstacle::NoUplink { link: name.clone() });
        return obstacles;
    };
    obstacles.extend(foreign_vlan(uplink, observed));
    let NetworkKind::Bridge(bridge) = &network.kind else {
        return obstacles;
    };
    if uplink.vlan.is_some() {
        return obstacles;
    }
    match link.master {
        Some(index) if is_own(index, observed) => return obstacles,
        Some(_) => obstacles.push(NetworkObstacle::UplinkInUse {
            link: name.clone(),
            bridge: bridge.name.clone(),
        }),
        None => {}
    }
    if link.kind == LinkKind::Bridge {
        obstacles.push(NetworkObstacle::UplinkIsBridge { link: name.clone() });
    }
    obstacles.extend(addresses(name, link));
    obstacles
}

fn foreign_vlan(uplink: &Uplink, observed: &Observed) -> Option<NetworkObstacle> {
    let vlan = uplink.vlan.as_ref()?;
    let there = observed.links.get(vlan.link.as_str())?;
    (!is_our_vlan(&vlan.link, there)).then(|| NetworkObstacle::ForeignVlan {
        name: vlan.link.clone(),
    })
}

/// Whether the link of this index is a bridge of nkudo's.
fn is_own(index: u32, observed: &Observed) -> bool {
    let mut links = observed.links.iter();
    links
        .find(|(_, master)| master.index == index)
        .and_then(|(name, master)| Some((name.parse::<LinkName>().ok()?, master)))
        .is_some_and(|(name, master)| is_our_bridge(&name, master))
}

fn addresses(name: &LinkName, link: &Link) -> Option<NetworkObstacle> {
    let addresses: Vec<String> = link
        .addresses
        .iter()
        .filter(|net| !is_link_local(net))
        .map(ToString::to_string)
        .collect();
    (!addresses.is_empty()).then(|| NetworkObstacle::UplinkHasAddresses {
        link: name.clone(),
        addresses: addresses.join(", "),
    })
}
