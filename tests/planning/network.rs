//! Firewall rules, routes, forwarding, and what hands out addresses.

use nkudo::generation::Manifest;
use nkudo::host::{Family, Network};
use nkudo::network::{self, Backend};
use nkudo::observe::{
    DhcpUnit, DroppingChain, NetworkFacts, NetworkManager, Route, Rules, UnitState,
};

use super::differs::{Differs, NetworkManagerIs};
use super::links::links;

fn network_manager(before: &Manifest, differs: &Differs) -> NetworkManager {
    match differs.network_manager {
        None => NetworkManager::Absent,
        Some(NetworkManagerIs::Untold) => NetworkManager::There(None),
        Some(NetworkManagerIs::Told) => {
            NetworkManager::There(network::network_manager(&before.host))
        }
    }
}

/// Everything else of the network that is as `before` says, but for what differs.
pub(super) fn network_facts(
    before: &Manifest,
    backend: Backend,
    differs: &Differs,
) -> NetworkFacts {
    let host = &before.host;
    let rules = match (differs.rules.as_deref(), network::rules(host)) {
        (Some("gone"), _) | (None, None) => Rules::Absent,
        (Some("changed"), _) => Rules::Changed,
        (None, Some(text)) => Rules::Loaded(text),
        (Some(why), _) => Rules::Unusable(why.to_owned()),
    };
    let rules = differs.rules_refused.clone().map_or(rules, Rules::Refused);
    let mut facts = NetworkFacts {
        rules,
        not_made: differs.not_made.clone(),
        dropping: differs.dropping.iter().map(|text| dropping(text)).collect(),
        dnsmasq: differs
            .dnsmasq
            .map_or(Some("/usr/sbin/dnsmasq".into()), |_| None),
        network_manager: network_manager(before, differs),
        ..NetworkFacts::default()
    };
    let links = links(before);
    let eth0 = links["eth0"].index;
    let mut route = |destination: &str, link: u32, on_link: bool| {
        facts.routes.push(Route {
            destination: destination.parse().unwrap(),
            link,
            on_link,
        });
    };
    route("0.0.0.0/0", eth0, false);
    route("::/0", eth0, false);
    route("203.0.113.0/24", eth0, true);
    for (destination, via) in &differs.routes {
        route(destination, links["eth1"].index, via == "link");
    }
    for (family, forwards) in [("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)] {
        let forwards = host
            .networks
            .values()
            .filter_map(Network::own)
            .any(|bridge| bridge.forwards(forwards));
        let key = if family == "ipv4" {
            "forwarding"
        } else {
            "force_forwarding"
        };
        for name in links.keys().filter(|name| !name.starts_with("nkt-")) {
            if differs.old_kernel && family == "ipv6" {
                continue;
            }
            let bridge = host
                .networks
                .values()
                .filter_map(Network::own)
                .find(|b| b.name.as_str() == name.as_str());
            let on = match bridge {
                Some(bridge) => bridge.forwards(if family == "ipv4" {
                    Family::Ipv4
                } else {
                    Family::Ipv6
                }),
                None => forwards && name == "eth0",
            };
            let sysctl = format!("net/{family}/conf/{name}/{key}");
            if on {
                facts.sysctls.ours.insert(sysctl.clone(), "1".to_owned());
            }
            facts
                .sysctls
                .seen
                .insert(sysctl, if on { "1" } else { "0" }.to_owned());
        }
        facts
            .sysctls
            .seen
            .insert(format!("net/{family}/conf/all/forwarding"), "0".to_owned());
    }
    facts
        .sysctls
        .seen
        .insert("net/ipv6/conf/eth0/accept_ra".to_owned(), "1".to_owned());
    for (name, network) in &host.networks {
        if let Some(own) = network.own()
            && let Some(uplink) = &own.uplink
            && uplink.vlan.is_none()
        {
            facts
                .uplinks
                .insert(uplink.link.to_string(), own.name.to_string());
        }
        if backend == Backend::Netlink
            && let Some(digest) = nkudo::unit::dhcp_digest(host, name)
        {
            let unit = DhcpUnit {
                state: UnitState::Active,
                digest: Some(digest),
            };
            facts.dhcp.insert(name.clone(), unit);
        }
    }
    facts
}

/// `inet filter forward`
fn dropping(text: &str) -> DroppingChain {
    let words: Vec<&str> = text.split(' ').collect();
    let [family, table, chain] = words.as_slice() else {
        panic!("{text} is no chain");
    };
    DroppingChain {
        family: (*family).to_owned(),
        table: (*table).to_owned(),
        chain: (*chain).to_owned(),
    }
}
