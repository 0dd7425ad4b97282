//! Bridges, TAPs, and the host's own links.

use std::collections::BTreeMap;

use nkudo::generation::Manifest;
use nkudo::host::{Autostart, Network};
use nkudo::observe::{Admin, Link, LinkKind, Observed};

use super::differs::{LinkDiffers, Presence};

/// The bridges, and the TAPs in them.
pub(super) fn links(before: &Manifest) -> BTreeMap<String, Link> {
    let mut links = BTreeMap::new();
    let mut next = 2..;
    // The host's own, which its default route leads over, and another one.
    for name in ["eth0", "eth1"] {
        let mut own = Link::new(next.next().unwrap(), LinkKind::Other);
        if name == "eth0" {
            own.addresses.insert("203.0.113.5/24".parse().unwrap());
        }
        links.insert(name.to_owned(), own);
    }
    for network in before.host.networks.values() {
        let mut master = None;
        if let Some(own) = network.own() {
            let mut bridge = Link::new(next.next().unwrap(), LinkKind::Bridge);
            bridge.mac = Some(Network::bridge_mac(&own.name).octets());
            bridge.addresses.extend(&own.address);
            bridge.addresses.insert("fe80::1/64".parse().unwrap());
            master = Some(bridge.index);
            links.insert(own.name.to_string(), bridge);
        }
        let Some(uplink) = network.uplink() else {
            continue;
        };
        if let Some(vlan) = &uplink.vlan {
            let mut port = Link::new(next.next().unwrap(), LinkKind::Vlan(vlan.id.get()));
            port.mac = Some(Network::vlan_mac(&vlan.link).octets());
            port.below = links.get(uplink.link.as_str()).map(|link| link.index);
            links.insert(vlan.link.to_string(), port);
        }
        if let Some(port) = links.get_mut(uplink.port().as_str()) {
            port.master = master;
        }
    }
    for vm in before.host.vms.values() {
        if vm.autostart == Autostart::No {
            continue;
        }
        for nic in &vm.nics {
            let mut tap = Link::new(next.next().unwrap(), LinkKind::Tun);
            let network = &before.host.networks[&nic.network];
            tap.isolation = network.isolation;
            if let Some(bridge) = network.bridge() {
                tap.master = links.get(bridge.as_str()).map(|link| link.index);
            } else {
                tap.kind = LinkKind::Macvtap;
                let below = network.uplink().map(|uplink| uplink.port().as_str());
                tap.below = below
                    .and_then(|name| links.get(name))
                    .map(|link| link.index);
            }
            links.insert(nic.tap.to_string(), tap);
        }
    }
    links
}

pub(super) fn change_link(observed: &mut Observed, name: &str, change: &LinkDiffers) {
    if change.is == Some(Presence::Absent) {
        let gone = observed.links.remove(name);
        // A link that goes lets go of its ports.
        for link in observed.links.values_mut() {
            if link.master == gone.as_ref().map(|gone| gone.index) {
                link.master = None;
            }
        }
        return;
    }
    let master = change
        .master
        .as_ref()
        .map(|name| observed.links[name].index);
    let count = u32::try_from(observed.links.len()).unwrap();
    let link = observed
        .links
        .entry(name.to_owned())
        .or_insert_with(|| Link::new(100 + count, LinkKind::Other));
    match change.kind.as_deref() {
        Some("bridge") => link.kind = LinkKind::Bridge,
        Some("tun") => link.kind = LinkKind::Tun,
        Some("macvtap") => link.kind = LinkKind::Macvtap,
        Some("other") => link.kind = LinkKind::Other,
        None => {}
        other => panic!("{other:?} is no kind"),
    }
    match change.mac.as_deref() {
        Some("foreign") => link.mac = Some([2, 0, 0, 0, 0, 1]),
        Some("ours") => {
            link.mac = Some(Network::bridge_mac(&name.parse().unwrap()).octets());
        }
        None => {}
        other => panic!("{other:?} is no mac"),
    }
    link.master = master.or(link.master);
    if let Some(addresses) = &change.addresses {
        link.addresses = addresses.iter().copied().collect();
    }
    if change.down {
        link.admin = Admin::Down;
    }
}
