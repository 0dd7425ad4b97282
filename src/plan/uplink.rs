//! What becomes of uplinks, of VLANs' links and of macvtaps.

use std::collections::{BTreeMap, BTreeSet};

use super::network_plan::{PortOwner, PortStep, VlanStep};
use super::{Action, Hosts, Plan, Request};
use crate::host::{Host, LinkName, Network, Uplink, Vlan};
use crate::observe::{Admin, Link, LinkKind, Observed, Specification};

/// Whether a link is of a VLAN and nkudo made it: it has the address that its name leads to.
pub(crate) fn is_our_vlan(name: &LinkName, link: &Link) -> bool {
    matches!(link.kind, LinkKind::Vlan(_)) && link.has_mac(Network::vlan_mac(name))
}

pub(super) fn steps(plan: &mut Plan, hosts: &Hosts<'_>, observed: &Observed, request: &Request) {
    macvtaps(plan, hosts.declared, observed, request);
    if matches!(request, Request::Stop(_)) {
        return;
    }
    let mut wanted: BTreeMap<&LinkName, Option<&LinkName>> = BTreeMap::new();
    for (name, network) in &hosts.declared.networks {
        let Some(uplink) = network.uplink() else {
            continue;
        };
        let bridge = network.own().map(|bridge| &bridge.name);
        wanted.insert(uplink.port(), bridge);
        if !hosts.made.networks.contains_key(name) {
            continue;
        }
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
        if !stays && !hosts.leaves(bridge) && !plan.network.ports.contains_key(&link) {
            let bridge = bridge.clone();
            plan.network
                .ports
                .insert(link, PortStep::Release { bridge });
        }
    }
    let is_left = |master: u32| {
        let mut links = observed.links.iter();
        links.any(|(name, link)| link.index == master && hosts.leaves(name))
    };
    for (name, link) in &observed.links {
        if let Ok(name) = name.parse::<LinkName>()
            && is_our_vlan(&name, link)
            && !wanted.contains_key(&name)
            && !link.master.is_some_and(is_left)
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
