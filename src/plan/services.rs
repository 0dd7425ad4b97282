//! What the host does for networks: rules, forwarding, handing out addresses.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::left_out::{Hosts, LeftOut};
use super::network::is_our_bridge;
use super::network_plan::{DhcpStep, RulesReason, RulesStep, Sysctl, SysctlStep, Warning};
use super::{Plan, Request};
use crate::host::{Bridge, Family, Forwarding, Host, LinkName};
use crate::network::{self, Backend};
use crate::observe::{Link, Observed, Rules, UnitState};
use crate::unit;

pub(super) fn steps(
    plan: &mut Plan,
    hosts: &Hosts<'_>,
    left_out: &LeftOut,
    observed: &Observed,
    request: &Request,
) {
    if matches!(request, Request::Stop(_)) {
        return;
    }
    // Where none can be loaded, those that are there stay: VMs that run depend on them.
    if !left_out.rules() {
        plan.network.rules = rules(hosts, observed, request);
    }
    plan.network.sysctls = sysctls(hosts, observed, request);
    dhcp(plan, hosts, observed, request);
    warnings(plan, &hosts.made, observed);
}

fn rules(hosts: &Hosts<'_>, observed: &Observed, request: &Request) -> RulesStep {
    let seen = &observed.network.rules;
    match (network::rules(&hosts.kept), seen) {
        (Some(text), Rules::Loaded(loaded)) if text == *loaded => RulesStep::Keep,
        (Some(text), Rules::Loaded(loaded)) => {
            let why = RulesReason::Changed {
                old: only_in(loaded, &text),
                new: only_in(&text, loaded),
            };
            RulesStep::Load { text, why }
        }
        (Some(text), Rules::Changed) => RulesStep::Load {
            text,
            why: RulesReason::Damaged,
        },
        (Some(text), Rules::Absent | Rules::Unusable(_) | Rules::Refused(_)) => RulesStep::Load {
            text,
            why: RulesReason::Absent,
        },
        (None, Rules::Loaded(_) | Rules::Changed)
            if request.is_whole() && network::with_rules(hosts.declared).is_empty() =>
        {
            RulesStep::Remove
        }
        (None, _) => RulesStep::Keep,
    }
}

/// What a text has and the other has not: lines, and blocks by their first lines alone.
fn only_in(text: &str, other: &str) -> Vec<String> {
    let (blocks, others) = (blocks(text), blocks(other));
    let mut only = Vec::new();
    for (path, lines) in &blocks {
        let Some(there) = others.iter().find(|(other, _)| other == path) else {
            // With the block that it is in, if that is new too.
            if path.len() < 2
                || others
                    .iter()
                    .any(|(other, _)| *other == path[..path.len() - 1])
            {
                only.extend(path.last().map(|first| format!("{first} … }}")));
            }
            continue;
        };
        let mut left = there.1.clone();
        for line in lines {
            match left.iter().position(|other| other == line) {
                Some(at) => {
                    left.remove(at);
                }
                None => only.push((*line).to_owned()),
            }
        }
    }
    only
}

/// A block, by its first line and those of the blocks that it is in.
type Block<'a> = (Vec<&'a str>, Vec<&'a str>);

/// The blocks of a text in braces, each with its own lines.
fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut all: Vec<Block<'_>> = Vec::new();
    let mut path: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.ends_with('{') {
            path.push(line);
            all.push((path.clone(), Vec::new()));
        } else if line == "}" {
            path.pop();
        } else if line.is_empty() {
            // It parts blocks, and says nothing.
        } else if let Some((_, lines)) = all.iter_mut().rev().find(|(other, _)| *other == path) {
            // The last of a list has no comma after it, and may not be the last in the other.
            lines.push(line.trim_end_matches(','));
        }
    }
    all
}

fn bridges(host: &Host) -> impl Iterator<Item = &Bridge> {
    host.networks.values().filter_map(|network| network.own())
}

/// Forwarding is switched on link by link: for the bridges that need it, and for the links that the
/// host's default routes lead over. The host's other links stay as they are, so it becomes no
/// router between those.
pub(crate) fn forwarding(host: &Host, observed: &Observed) -> Vec<(String, &'static str)> {
    let facts = &observed.network.sysctls;
    let mut wanted: Vec<(String, &str)> = Vec::new();
    for family in Family::ALL {
        let inside: Vec<&LinkName> = bridges(host)
            .filter(|bridge| bridge.forwards(family))
            .map(|bridge| &bridge.name)
            .collect();
        if inside.is_empty() {
            continue;
        }
        let outside = defaults(family, observed);
        let links = inside.iter().map(|name| name.as_str()).chain(outside);
        match family {
            Family::Ipv4 => {
                wanted.extend(links.map(|link| (format!("net/ipv4/conf/{link}/forwarding"), "1")));
            }
            // Linux 6.17 and newer.
            Family::Ipv6 if seen_any(observed, "/force_forwarding") => {
                let name = |link| format!("net/ipv6/conf/{link}/force_forwarding");
                wanted.extend(links.map(|link| (name(link), "1")));
            }
            // Older ones forward IPv6 on all links or on none, and a host that forwards takes no more
            // advertisements on a link unless that is set to 2.
            Family::Ipv6 => {
                let takes = facts.seen.iter().filter(|(name, value)| {
                    name.ends_with("/accept_ra")
                        && (*value == "1" || facts.ours.contains_key(*name))
                });
                wanted.extend(takes.map(|(name, _)| (name.clone(), "2")));
                wanted.push(("net/ipv6/conf/all/forwarding".to_owned(), "1"));
            }
        }
    }
    wanted
}

fn sysctls(hosts: &Hosts<'_>, observed: &Observed, request: &Request) -> SysctlStep {
    let facts = &observed.network.sysctls;
    let made = forwarding(&hosts.made, observed);
    let wanted = forwarding(&hosts.kept, observed);
    let mut set = Vec::new();
    let mut note: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &wanted {
        let seen = facts.seen.get(name);
        let differs = seen.is_none_or(|seen| seen != value);
        let is_made = made.iter().any(|(made, _)| made == name);
        let differs = differs && is_made;
        if differs {
            set.push(Sysctl {
                name: name.clone(),
                old: seen.cloned(),
                new: (*value).to_owned(),
            });
        }
        // What was so before is not nkudo's to switch off.
        if differs || facts.ours.contains_key(name) {
            note.insert(name.clone(), (*value).to_owned());
        }
    }
    if request.is_whole() {
        set.extend(given_back(observed, &wanted));
    } else {
        for (name, value) in &facts.ours {
            note.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    SysctlStep {
        set,
        note: (note != facts.ours).then_some(note),
    }
}

/// What nkudo had changed and no network needs any more, unless the whole host forwards by now.
fn given_back(observed: &Observed, wanted: &[(String, &str)]) -> Vec<Sysctl> {
    let facts = &observed.network.sysctls;
    let mut back: Vec<Sysctl> = facts
        .ours
        .iter()
        .filter(|(name, _)| !wanted.iter().any(|(wanted, _)| wanted == *name))
        .filter_map(|(name, value)| {
            let old = facts.seen.get(name)?;
            let all = facts.seen.get("net/ipv4/conf/all/forwarding");
            let by_all = name.starts_with("net/ipv4/") && all.is_some_and(|all| all == "1");
            let new = if name.ends_with("/accept_ra") {
                "1"
            } else {
                "0"
            };
            (old == value && !by_all).then(|| Sysctl {
                name: name.clone(),
                old: Some(old.clone()),
                new: new.to_owned(),
            })
        })
        .collect();
    // Forwarding first, so that no advertisement is missed.
    back.sort_by_key(|sysctl| sysctl.name.ends_with("/accept_ra"));
    back
}

fn seen_any(observed: &Observed, suffix: &str) -> bool {
    let mut names = observed.network.sysctls.seen.keys();
    names.any(|name| name.ends_with(suffix))
}

/// The links that the host's default routes of a family lead over.
pub(crate) fn defaults(family: Family, observed: &Observed) -> BTreeSet<&str> {
    observed
        .network
        .routes
        .iter()
        .filter(|route| {
            route.destination.prefix_len() == 0 && Family::of(route.destination.addr()) == family
        })
        .filter_map(|route| named(observed, route.link))
        .map(|(name, _)| name)
        .collect()
}

fn named(observed: &Observed, index: u32) -> Option<(&str, &Link)> {
    observed
        .links
        .iter()
        .find(|(_, link)| link.index == index)
        .map(|(name, link)| (name.as_str(), link))
}

fn dhcp(plan: &mut Plan, hosts: &Hosts<'_>, observed: &Observed, request: &Request) {
    let host = hosts.declared;
    let mut wanted = BTreeSet::new();
    if plan.backend == Backend::Netlink {
        for name in host.networks.keys() {
            let Some(digest) = unit::dhcp_digest(host, name) else {
                continue;
            };
            wanted.insert(name);
            if !hosts.made.networks.contains_key(name) {
                continue;
            }
            let step = match observed.network.dhcp.get(name) {
                None => DhcpStep::Start,
                Some(unit)
                    if unit.state == UnitState::Active && unit.digest.as_ref() == Some(&digest) =>
                {
                    // It is bound to the link by its index: one that was made anew is another.
                    let own = host.networks.get(name).and_then(|network| network.own());
                    let created = own.and_then(|bridge| plan.bridges.get(&bridge.name));
                    if created.is_some_and(super::network::creates) {
                        DhcpStep::Restart
                    } else {
                        continue;
                    }
                }
                Some(_) => DhcpStep::Restart,
            };
            plan.network.dhcp.insert(name.clone(), step);
        }
    }
    if request.is_whole() {
        for name in observed.network.dhcp.keys() {
            if !wanted.contains(name) {
                plan.network.dhcp.insert(name.clone(), DhcpStep::Stop);
            }
        }
    }
}

fn warnings(plan: &mut Plan, host: &Host, observed: &Observed) {
    for chain in &observed.network.dropping {
        let concerned = |bridge: &&Bridge| {
            Family::ALL.into_iter().any(|family| {
                let of_family = match family {
                    Family::Ipv4 => chain.family != "ip6",
                    Family::Ipv6 => chain.family != "ip",
                };
                of_family
                    && (bridge.forwarding(family) != Forwarding::Off || !bridge.forward.is_empty())
                    && bridge.addresses(family).next().is_some()
            })
        };
        let bridges: Vec<LinkName> = bridges(host)
            .filter(concerned)
            .map(|bridge| bridge.name.clone())
            .collect();
        if !bridges.is_empty() {
            let chain = format!(
                "chain {} of the nftables table {} {}",
                chain.chain, chain.family, chain.table
            );
            plan.network
                .warnings
                .push(Warning::Dropped { chain, bridges });
        }
    }
    for (bridge, prefix, overlap) in overlaps(host, observed) {
        if let Overlap::Gateway(route) = overlap {
            let link =
                named(observed, route.1).map_or_else(String::new, |(name, _)| name.to_owned());
            plan.network.warnings.push(Warning::Covered {
                bridge: bridge.clone(),
                prefix,
                route: route.0,
                link,
            });
        }
    }
}

pub(super) enum Overlap {
    /// Others' machines are there, on this link.
    OnLink(IpNet, String),
    /// A route by a gateway, over the link of this index.
    Gateway((IpNet, u32)),
}

/// Where networks' prefixes overlap what the host reaches otherwise.
pub(super) fn overlaps<'a>(
    host: &'a Host,
    observed: &Observed,
) -> Vec<(&'a LinkName, IpNet, Overlap)> {
    let mut found = Vec::new();
    for bridge in bridges(host) {
        for address in &bridge.address {
            let prefix = address.trunc();
            for route in &observed.network.routes {
                let other = route.destination;
                let Some((name, link)) = named(observed, route.link) else {
                    continue;
                };
                let ours = name
                    .parse::<LinkName>()
                    .is_ok_and(|name| is_our_bridge(&name, link));
                let overlap = prefix.contains(&other) || other.contains(&prefix);
                if ours || !overlap || other.prefix_len() == 0 {
                    continue;
                }
                let overlap = if route.on_link {
                    Overlap::OnLink(other, name.to_owned())
                } else {
                    Overlap::Gateway((other, route.link))
                };
                found.push((&bridge.name, prefix, overlap));
                break;
            }
        }
    }
    found
}
