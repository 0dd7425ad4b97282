//! What becomes of uplinks, of VLANs' links and of macvtaps.

use std::collections::{BTreeMap, BTreeSet};

use super::network::is_our_bridge;
use super::network_plan::{PortOwner, PortStep, VlanStep};
use super::{Action, Plan, Request};
use crate::host::{Host, LinkName, Network, NetworkKind, Uplink, Vlan};
use crate::observe::{Admin, Link, LinkKind, Observed, Specification};

/// Whether a link is of a VLAN and nkudo made it: it has the address that its name leads to.
pub(crate) fn is_our_vlan(name: &LinkName, link: &Link) -> bool {
    matches!(link.kind, LinkKind::Vlan(_)) && link.has_mac(Network::vlan_mac(name))
}

pub(super) fn steps(plan: &mut Plan, host: &Host, observed: &Observed, request: &Request) {
    macvtaps(plan, host, observed, request);
    if matches!(request, Request::Stop(_)) {
        return;
    }
    let mut wanted: BTreeMap<&LinkName, Option<&LinkName>> = BTreeMap::new();
    for network in host.networks.values() {
        let Some(uplink) = network.uplink() else {
            continue;
        };
        let bridge = network.own().map(|bridge| &bridge.name);
        wanted.insert(uplink.port(), bridge);
        if let Some(vlan) = &uplink.vlan
            && let Some(step) = vlan_step(vlan, uplink, observed)
        {
            plan.network.vlans.insert(vlan.link.clone(), step);
        }
        if let Some(bridge) = bridge
            && let Some(step) = port_step(uplink, bridge, plan, observed)
        {
            plan.network.ports.insert(uplink.port().clone(), step);
        }
    }
    if !request.is_whole() {
        return;
    }
    for (name, bridge) in &observed.network.uplinks {
        let Ok(link) = name.parse::<LinkName>() else {
            continue;
        };
        let stays = wanted
            .get(&link)
            .is_some_and(|wanted| wanted.is_some_and(|wanted| wanted.as_str() == bridge));
        // One that goes into another bridge is put there, and noted so.
        if !stays && !plan.network.ports.contains_key(&link) {
            let bridge = bridge.clone();
            plan.network
                .ports
                .insert(link, PortStep::Release { bridge });
        }
    }
    for (name, link) in &observed.links {
        if let Ok(name) = name.parse::<LinkName>()
            && is_our_vlan(&name, link)
            && !wanted.contains_key(&name)
        {
            plan.network.vlans.insert(name, VlanStep::Remove);
        }
    }
}

fn vlan_step(vlan: &Vlan, uplink: &Uplink, observed: &Observed) -> Option<VlanStep> {
    let below = observed
        .links
        .get(uplink.link.as_str())
        .map(|below| below.index);
    match observed.links.get(vlan.link.as_str()) {
        Some(link) if link.kind == LinkKind::Vlan(vlan.id.get()) && link.below == below => {
            (link.admin == Admin::Down).then_some(VlanStep::SetUp)
        }
        _ => Some(VlanStep::Create {
            vlan: vlan.clone(),
            uplink: uplink.link.clone(),
        }),
    }
}

fn port_step(
    uplink: &Uplink,
    bridge: &LinkName,
    plan: &Plan,
    observed: &Observed,
) -> Option<PortStep> {
    let port = uplink.port();
    let whose = match uplink.vlan {
        Some(_) => PortOwner::Nkudo,
        None => PortOwner::Host,
    };
    let link = observed.links.get(port.as_str());
    let index = observed.links.get(bridge.as_str()).map(|link| link.index);
    let noted = whose == PortOwner::Nkudo
        || observed
            .network
            .uplinks
            .get(port.as_str())
            .is_some_and(|noted| noted == bridge.as_str());
    let is_there = link.is_some_and(|link| link.master.is_some() && link.master == index)
        && !plan
            .bridges
            .get(bridge)
            .is_some_and(super::network::creates)
        && !plan
            .network
            .vlans
            .get(port)
            .is_some_and(|step| matches!(step, VlanStep::Create { .. }));
    let up = link.is_some_and(|link| link.admin == Admin::Up);
    (!(is_there && noted && up)).then(|| PortStep::Put {
        bridge: bridge.clone(),
        whose,
    })
}

/// Macvtaps are links that stay when their VM has ended by itself.
fn macvtaps(plan: &mut Plan, host: &Host, observed: &Observed, request: &Request) {
    let ours: Vec<LinkName> = observed
        .links
        .iter()
        .filter(|(_, link)| link.kind == LinkKind::Macvtap)
        .filter_map(|(name, _)| name.parse().ok())
        .collect();
    if ours.is_empty() {
        return;
    }
    let booted = |id| match &observed.remains.get(id)?.specification {
        Specification::Known(booted) => Some(&booted.vm.nics),
        Specification::Absent | Specification::Unreadable => None,
    };
    let mut needed: BTreeSet<LinkName> = BTreeSet::new();
    let mut asked: BTreeSet<LinkName> = BTreeSet::new();
    for (id, step) in &plan.vms {
        let names = booted(id)
            .into_iter()
            .chain(host.vms.get(id).map(|vm| &vm.nics))
            .flatten()
            .map(|nic| nic.tap.clone());
        let runs_on = match step.action {
            Action::Stop | Action::Clean => false,
            Action::Nothing | Action::Pending => observed.units.contains_key(id),
            // A start makes them anew.
            _ => true,
        };
        if runs_on {
            needed.extend(names);
        } else {
            asked.extend(names);
        }
    }
    plan.network.macvtaps = ours
        .into_iter()
        .filter(|name| !needed.contains(name))
        .filter(|name| request.is_whole() || asked.contains(name))
        .collect();
}

/// The links that nkudo put into bridges of its own: no reason to keep such a bridge.
pub(super) fn is_ours_in(observed: &Observed, port: &str, bridge: &str) -> bool {
    let vlan = observed.links.get(port).zip(port.parse::<LinkName>().ok());
    observed
        .network
        .uplinks
        .get(port)
        .is_some_and(|noted| noted == bridge)
        || vlan.is_some_and(|(link, name)| is_our_vlan(&name, link))
}

/// What stands in the way of using a network's uplink.
pub(super) fn obstacles(network: &Network, observed: &Observed) -> Vec<super::Obstacle> {
    let mut obstacles = Vec::new();
    let Some(uplink) = network.uplink() else {
        return obstacles;
    };
    let name = &uplink.link;
    let Some(link) = observed.links.get(name.as_str()) else {
        obstacles.push(super::Obstacle::NoUplink { link: name.clone() });
        return obstacles;
    };
    if let Some(vlan) = &uplink.vlan
        && let Some(there) = observed.links.get(vlan.link.as_str())
        && !is_our_vlan(&vlan.link, there)
    {
        obstacles.push(super::Obstacle::ForeignVlan {
            name: vlan.link.clone(),
        });
    }
    let NetworkKind::Bridge(bridge) = &network.kind else {
        return obstacles;
    };
    if uplink.vlan.is_some() {
        return obstacles;
    }
    let own = |index: u32| {
        observed
            .links
            .iter()
            .find(|(_, master)| master.index == index)
            .and_then(|(name, master)| Some((name.parse::<LinkName>().ok()?, master)))
            .is_some_and(|(name, master)| is_our_bridge(&name, master))
    };
    match link.master {
        Some(index) if own(index) => return obstacles,
        Some(_) => obstacles.push(super::Obstacle::UplinkInUse {
            link: name.clone(),
            bridge: bridge.name.clone(),
        }),
        None => {}
    }
    if link.kind == LinkKind::Bridge {
        obstacles.push(super::Obstacle::UplinkIsBridge { link: name.clone() });
    }
    let addresses: Vec<String> = link
        .addresses
        .iter()
        .filter(|net| !super::network::is_link_local(net))
        .map(ToString::to_string)
        .collect();
    if !addresses.is_empty() {
        obstacles.push(super::Obstacle::UplinkHasAddresses {
            link: name.clone(),
            addresses: addresses.join(", "),
        });
    }
    obstacles
}
