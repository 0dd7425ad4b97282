//! What becomes of bridges, of the TAPs in them, and of networkd's files.

use std::borrow::Cow;
use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{Action, Attach, BridgeStep, Hosts, NetworkManagerStep, Plan, Request, TapAmiss};
use crate::host::{Bridge, Host, LinkName, Network, NetworkBackend};
use crate::network::{self, Backend};
use crate::observe::{Admin, Link, LinkKind, NetworkManager, Networkd, Observed};

pub(crate) fn backend(host: &Host, observed: &Observed) -> Backend {
    match (host.network_backend, observed.networkd) {
        (NetworkBackend::Networkd, _) | (NetworkBackend::Auto, Networkd::Runs) => Backend::Networkd,
        (NetworkBackend::Netlink, _) | (NetworkBackend::Auto, Networkd::Absent) => Backend::Netlink,
    }
}

/// Whether a link is a bridge that nkudo made: it has the address that its name leads to.
pub(crate) fn is_our_bridge(name: &LinkName, link: &Link) -> bool {
    link.kind == LinkKind::Bridge && link.has_mac(Network::bridge_mac(name))
}

pub(super) fn steps(plan: &mut Plan, hosts: &Hosts<'_>, observed: &Observed, request: &Request) {
    if matches!(request, Request::Stop(_)) {
        return;
    }
    let made = &hosts.made;
    for bridge in made.networks.values().filter_map(|network| network.own()) {
        if let Some(step) = wanted_step(bridge, observed) {
            plan.bridges.insert(bridge.name.clone(), step);
        }
    }
    attach(plan, made, observed);
    let seen = &observed.networkd_files;
    let declared = network::files(hosts.declared, plan.backend);
    if request.is_whole() {
        remove_bridges(plan, hosts.declared, observed);
        // That of an uplink, where the bridge that it is put into is left as it is.
        let stays = |text: &str| {
            let mut bridges = text.lines().filter_map(|line| line.strip_prefix("Bridge="));
            bridges.any(|bridge| hosts.leaves(bridge))
        };
        plan.remove_files = seen
            .iter()
            .filter(|(name, text)| !declared.contains_key(*name) && !stays(text))
            .map(|(name, _)| name.clone())
            .collect();
    }
    plan.network.network_manager = network_manager(hosts, observed, request);
    let mut files = declared;
    if let Cow::Owned(made) = made {
        // What networkd is told to leave alone stands in one file for all.
        let written = network::files(made, plan.backend);
        files = network::files(&hosts.kept, plan.backend);
        files.retain(|name, _| written.contains_key(name));
    }
    files.retain(|name, text| seen.get(name) != Some(text));
    plan.write_files = files;
}

/// What becomes of the file for NetworkManager.
fn network_manager(
    hosts: &Hosts<'_>,
    observed: &Observed,
    request: &Request,
) -> Option<NetworkManagerStep> {
    let NetworkManager::There(seen) = &observed.network.network_manager else {
        return None;
    };
    let needed = !hosts.declared.networks.is_empty();
    Some(match (network::network_manager(&hosts.kept), seen) {
        (Some(text), seen) if seen.as_ref() != Some(&text) => NetworkManagerStep::Write(text),
        (None, Some(_)) if request.is_whole() && !needed => NetworkManagerStep::Remove,
        _ => NetworkManagerStep::Keep,
    })
}

/// Whether a step makes the bridge.
pub(super) fn creates(step: &BridgeStep) -> bool {
    matches!(step, BridgeStep::Create { .. })
}

/// What a declared network's bridge needs.
fn wanted_step(bridge: &Bridge, observed: &Observed) -> Option<BridgeStep> {
    let Some(link) = observed.links.get(bridge.name.as_str()) else {
        return Some(BridgeStep::Create {
            addresses: bridge.address.clone(),
        });
    };
    let missing = |address: &&IpNet| !link.addresses.contains(*address);
    let add: Vec<IpNet> = bridge.address.iter().filter(missing).copied().collect();
    let remove: Vec<IpNet> = link
        .addresses
        .iter()
        .filter(|address| !bridge.address.contains(*address) && !is_link_local(address))
        .copied()
        .collect();
    let up = link.admin == Admin::Down;
    (up || !add.is_empty() || !remove.is_empty()).then_some(BridgeStep::Change { add, remove, up })
}

/// The kernel gives every link an address of fe80::/10 by itself.
pub(super) fn is_link_local(address: &IpNet) -> bool {
    match address {
        IpNet::V4(_) => false,
        IpNet::V6(v6) => v6.addr().is_unicast_link_local(),
    }
}

/// Puts the TAPs of VMs that run on into the bridges that they belong to, and sets them up.
fn attach(plan: &mut Plan, host: &Host, observed: &Observed) {
    for (id, step) in &plan.vms {
        let stays = matches!(
            step.action,
            Action::Nothing | Action::Live | Action::Pending | Action::Wait
        );
        let (true, Some(vm), Some(_)) = (stays, host.vms.get(id), observed.units.get(id)) else {
            continue;
        };
        for nic in &vm.nics {
            let (Some(tap), Some(network)) = (
                observed.links.get(nic.tap.as_str()),
                host.networks.get(&nic.network),
            ) else {
                continue;
            };
            let Some(name) = network.bridge() else {
                continue;
            };
            let bridge = observed.links.get(name.as_str());
            let is_in = tap.master.is_some() && tap.master == bridge.map(|bridge| bridge.index);
            let amiss = if !is_in || tap.isolation != network.isolation {
                TapAmiss::Elsewhere
            } else if tap.admin == Admin::Down {
                TapAmiss::Down
            } else {
                continue;
            };
            plan.attach.push(Attach {
                tap: nic.tap.clone(),
                bridge: name.clone(),
                isolation: network.isolation,
                amiss,
            });
        }
    }
}

/// Bridges that nkudo made and that no network lists any more.
fn remove_bridges(plan: &mut Plan, host: &Host, observed: &Observed) {
    let wanted: BTreeSet<&LinkName> = host.networks.values().filter_map(Network::bridge).collect();
    for (name, link) in &observed.links {
        let Ok(name) = name.parse::<LinkName>() else {
            continue;
        };
        if wanted.contains(&name) || !is_our_bridge(&name, link) {
            continue;
        }
        let others: Vec<String> = observed
            .links
            .iter()
            .filter(|(_, port)| port.master == Some(link.index))
            .map(|(port, _)| port.clone())
            .filter(|port| !port.starts_with(LinkName::TAP_PREFIX))
            .filter(|port| !super::uplink::is_ours_in(observed, port, name.as_str()))
            .collect();
        let step = if others.is_empty() {
            BridgeStep::Remove
        } else {
            BridgeStep::KeepFor(others)
        };
        plan.bridges.insert(name, step);
    }
}
