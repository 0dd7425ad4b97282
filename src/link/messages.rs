//! What the kernel's rtnetlink(7) messages say of links, addresses and routes.

#![deny(clippy::disallowed_methods)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType,
};

use super::netlink::MACVTAP_GROUP;
use crate::host::Isolation;
use crate::observe::{Admin, Link, LinkKind, Route, Traffic};

pub(super) fn seen(message: LinkMessage) -> (String, Link) {
    let mut name = String::new();
    let mut in_group = false;
    let mut link = Link::new(message.header.index, LinkKind::Other);
    if !message.header.flags.contains(LinkFlags::Up) {
        link.admin = Admin::Down;
    }
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = text,
            LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok(),
            LinkAttribute::Controller(index) => link.master = Some(index),
            LinkAttribute::Link(index) => link.below = Some(index),
            LinkAttribute::Group(MACVTAP_GROUP) => in_group = true,
            LinkAttribute::Stats64(stats) => {
                link.traffic = Traffic {
                    received_bytes: stats.rx_bytes,
                    received_packets: stats.rx_packets,
                    received_dropped: stats.rx_dropped,
                    sent_bytes: stats.tx_bytes,
                    sent_packets: stats.tx_packets,
                    sent_dropped: stats.tx_dropped,
                }
            }
            LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|info| note(info, &mut link)),
            _ => {}
        }
    }
    // Somebody else's is just a link.
    if link.kind == LinkKind::Macvtap && !in_group {
        link.kind = LinkKind::Other;
    }
    (name, link)
}

fn note(info: &LinkInfo, link: &mut Link) {
    match info {
        LinkInfo::Kind(InfoKind::Bridge) => link.kind = LinkKind::Bridge,
        LinkInfo::Kind(InfoKind::Tun) => link.kind = LinkKind::Tun,
        LinkInfo::Kind(InfoKind::MacVtap) => link.kind = LinkKind::Macvtap,
        LinkInfo::Data(InfoData::Vlan(data)) => {
            let id = data.iter().find_map(|info| match info {
                InfoVlan::Id(id) => Some(*id),
                _ => None,
            });
            link.kind = id.map_or(LinkKind::Other, LinkKind::Vlan);
        }
        LinkInfo::PortData(InfoPortData::BridgePort(infos))
            if infos.contains(&InfoBridgePort::Isolated(true)) =>
        {
            link.isolation = Isolation::On;
        }
        _ => {}
    }
}

pub(super) fn route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    if header.kind != RouteType::Unicast || header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let mut destination = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let mut link = None;
    let mut on_link = true;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => destination = (*ip).into(),
            RouteAttribute::Destination(RouteAddress::Inet6(ip)) => destination = (*ip).into(),
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => on_link = false,
            // Of several ways, the first.
            RouteAttribute::MultiPath(ways) => {
                link = ways.first().map(|way| way.interface_index);
                on_link = false;
            }
            _ => {}
        }
    }
    Some(Route {
        destination: IpNet::new(destination, header.destination_prefix_length).ok()?,
        link: link?,
        on_link,
    })
}

/// The host's own address: on links with a peer, `Address` is the other end.
pub(super) fn address_of(attributes: &[AddressAttribute]) -> Option<IpAddr> {
    let local = attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    local.or_else(|| {
        attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        })
    })
}
