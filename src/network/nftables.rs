//! The host's rules for networks, as the text that nft(8) reads.
//!
//! They are two tables of nkudo's own. `inet nkudo` says what passes between networks and the rest
//! of the world; `bridge nkudo` says what may leave a VM. Links are named, not numbered, so rules
//! hold for links that come later. The text replaces both tables in one transaction.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::nics;
use crate::host::{
    Bridge, Family, Forward, Forwarding, Host, Isolation, Mac, Network, NetworkKind, NetworkName,
    Nic, Trust,
};

/// nkudo's tables, as nft names them.
pub const TABLES: [&str; 2] = ["inet nkudo", "bridge nkudo"];

/// What removes the tables. The first of each two lines is for a table that is not there.
pub const NO_RULES: &str = "table inet nkudo\ndelete table inet nkudo\n\
                            table bridge nkudo\ndelete table bridge nkudo\n";

/// The rules of a host; nothing where no network needs any.
pub fn rules(host: &Host) -> Option<String> {
    let inet = inet(host);
    let bridge = bridge(host);
    if inet.is_none() && bridge.is_none() {
        return None;
    }
    let mut text = format!(
        "# nkudo's own tables, replaced as a whole. `nkudo render` wrote this.\n{NO_RULES}"
    );
    for table in [inet, bridge].into_iter().flatten() {
        text.push('\n');
        text.push_str(&table);
    }
    Some(text)
}

/// The bridges that nkudo makes.
fn bridges(host: &Host) -> impl Iterator<Item = (&NetworkName, &Network, &Bridge)> {
    host.networks
        .iter()
        .filter_map(|(name, network)| Some((name, network, network.own()?)))
}

fn inet(host: &Host) -> Option<String> {
    bridges(host).next()?;
    let mut forward = "ct state established,related accept\nct status dnat accept\n".to_owned();
    let mut drops = String::new();
    let mut dnat = String::new();
    let mut dnat_own = String::new();
    let mut postrouting = String::new();
    for (name, network, bridge) in bridges(host) {
        let link = &bridge.name;
        // Where br_netfilter is loaded, frames between ports of a bridge come by here too. Between VMs
        // that are isolated there are none, but what one sends to another by way of the host.
        match (network.isolation, &bridge.uplink) {
            (Isolation::On, None) => {
                let _ = writeln!(
                    forward,
                    "iifname \"{link}\" oifname \"{link}\" counter drop"
                );
            }
            _ => {
                let _ = writeln!(forward, "iifname \"{link}\" oifname \"{link}\" accept");
            }
        }
        for family in Family::ALL {
            let forwarding = bridge.forwarding(family);
            let proto = nfproto(family);
            if forwarding != Forwarding::Route {
                let _ = writeln!(
                    drops,
                    "oifname \"{link}\" meta nfproto {proto} counter drop"
                );
            }
            if forwarding == Forwarding::Off {
                let _ = writeln!(
                    drops,
                    "iifname \"{link}\" meta nfproto {proto} counter drop"
                );
            }
            for net in bridge.addresses(family) {
                let (ip, net) = (ip_word(family), net.trunc());
                if forwarding == Forwarding::Masquerade {
                    let _ = writeln!(
                        postrouting,
                        "{ip} saddr {net} oifname != \"{link}\" counter masquerade"
                    );
                }
                if !bridge.forward.is_empty() {
                    // A VM that reaches its neighbour by the host's port: the answer has to come back
                    // by the host.
                    let _ = writeln!(
                        postrouting,
                        "{ip} saddr {net} oifname \"{link}\" ct status dnat counter masquerade"
                    );
                }
            }
        }
        for one in &bridge.forward {
            for to in targets(host, name, one) {
                dnat_rule(&mut dnat, one, to, "");
                let loopback = match Family::of(to) {
                    Family::Ipv4 => "ip daddr != 127.0.0.0/8 ",
                    Family::Ipv6 => "ip6 daddr != ::1 ",
                };
                dnat_rule(&mut dnat_own, one, to, loopback);
            }
        }
    }
    forward.push_str(&drops);
    let mut table = "table inet nkudo {\n".to_owned();
    let mut first = true;
    let mut chain = |name: &str, hook: &str, rules: &str| {
        if !rules.is_empty() {
            if !first {
                table.push('\n');
            }
            first = false;
            write_chain(&mut table, name, Some(hook), rules);
        }
    };
    chain(
        "prerouting",
        "type nat hook prerouting priority dstnat",
        &dnat,
    );
    // What the host itself sends to a port of its own.
    chain("output", "type nat hook output priority -100", &dnat_own);
    chain(
        "forward",
        "type filter hook forward priority filter",
        &forward,
    );
    chain(
        "postrouting",
        "type nat hook postrouting priority srcnat",
        &postrouting,
    );
    table.push_str("}\n");
    Some(table)
}

/// The addresses of a VM that a forward leads to: the first of each family.
fn targets(host: &Host, name: &NetworkName, forward: &Forward) -> Vec<IpAddr> {
    Family::ALL
        .into_iter()
        .filter(|family| forward.address.is_none_or(|ip| Family::of(ip) == *family))
        .filter_map(|family| {
            nics(host, name)
                .filter(|(id, _)| **id == forward.vm)
                .flat_map(|(_, nic)| nic.addresses(family))
                .map(IpNet::addr)
                .next()
        })
        .collect()
}

fn dnat_rule(rules: &mut String, forward: &Forward, to: IpAddr, also: &str) {
    let family = Family::of(to);
    let ip = ip_word(family);
    let Forward {
        proto,
        port,
        to_port,
        vm,
        ..
    } = forward;
    let on = match forward.address {
        Some(address) => format!("{ip} daddr {address}"),
        None => format!("meta nfproto {} fib daddr type local", nfproto(family)),
    };
    let to = match to {
        IpAddr::V4(to) => format!("{to}:{to_port}"),
        IpAddr::V6(to) => format!("[{to}]:{to_port}"),
    };
    let _ = writeln!(
        rules,
        "{on} {also}{proto} dport {port} counter dnat {ip} to {to} comment \"{vm}\""
    );
}

/// The networks that rules are for.
pub fn with_rules(host: &Host) -> BTreeSet<NetworkName> {
    let needs = |name: &NetworkName, network: &Network| {
        network.own().is_some() || !checked(host, name, network).is_empty()
    };
    let networks = host.networks.iter();
    let networks = networks.filter(|(name, network)| needs(name, network));
    networks.map(|(name, _)| name.clone()).collect()
}

/// The NICs that may not send whatever they like. What a macvtap sends passes no bridge.
fn checked<'a>(host: &'a Host, name: &'a NetworkName, network: &Network) -> Vec<&'a Nic> {
    if matches!(network.kind, NetworkKind::Macvtap(_)) {
        return Vec::new();
    }
    nics(host, name)
        .map(|(_, nic)| nic)
        .filter(|nic| nic.trust == Trust::Checked)
        .collect()
}

/// What may leave each VM.
fn bridge(host: &Host) -> Option<String> {
    let mut sets = String::new();
    let mut verdicts = Vec::new();
    let mut chains = String::new();
    for (name, network) in &host.networks {
        let checked = checked(host, name, network);
        if checked.is_empty() {
            continue;
        }
        for family in Family::ALL {
            let taken = taken(host, name, network, family);
            if !taken.is_empty() {
                let kind = match family {
                    Family::Ipv4 => "ipv4_addr",
                    Family::Ipv6 => "ipv6_addr",
                };
                let _ = write!(
                    sets,
                    "\tset {} {{\n\t\ttype {kind}\n\t\telements = {{ {} }}\n\t}}\n\n",
                    set_name(name, family),
                    taken.join(", ")
                );
            }
        }
        for nic in checked {
            verdicts.push(format!("\"{0}\" : jump {0}", nic.tap));
            chains.push('\n');
            write_chain(
                &mut chains,
                nic.tap.as_str(),
                None,
                &checks(host, name, network, nic),
            );
        }
    }
    if verdicts.is_empty() {
        return None;
    }
    let mut table = format!("table bridge nkudo {{\n{sets}");
    let map = format!(
        "iifname vmap {{\n\t\t\t{}\n\t\t}}\n",
        verdicts.join(",\n\t\t\t")
    );
    // Before br_netfilter, and before the bridge learns the address.
    write_chain(
        &mut table,
        "prerouting",
        Some("type filter hook prerouting priority -300"),
        &map,
    );
    table.push_str(&chains);
    table.push_str("}\n");
    Some(table)
}

fn set_name(network: &NetworkName, family: Family) -> String {
    format!("{}-{network}", nfproto(family))
}

/// The addresses on a network that are somebody's: the host's, and those that NICs have in the file.
fn taken(host: &Host, name: &NetworkName, network: &Network, family: Family) -> Vec<String> {
    let mut taken: Vec<IpAddr> = Vec::new();
    if let Some(bridge) = network.own() {
        taken.extend(bridge.addresses(family).map(IpNet::addr));
        if family == Family::Ipv6 {
            taken.push(link_local(Network::bridge_mac(&bridge.name)).into());
        }
    }
    for (_, nic) in nics(host, name) {
        taken.extend(nic.addresses(family).map(IpNet::addr));
        if family == Family::Ipv6 {
            taken.push(link_local(nic.mac).into());
        }
    }
    taken.sort_unstable();
    taken.dedup();
    taken.iter().map(ToString::to_string).collect()
}

/// What a VM may send. What is not dropped goes on.
fn checks(host: &Host, name: &NetworkName, network: &Network, nic: &Nic) -> String {
    let mac = nic.mac;
    let mut rules = String::new();
    let mut rule = |text: String| {
        let _ = writeln!(rules, "{text} counter drop");
    };
    rule(format!("ether saddr != {mac}"));
    // No VLAN tags, no spanning tree, nothing that the rest of these rules would not look into.
    rule("ether type != { arp, ip, ip6 }".to_owned());
    // Servers' and routers' answers: DHCP's, DHCPv6's, advertisements and redirects.
    rule("udp sport { 67, 547 }".to_owned());
    rule("icmpv6 type { nd-router-advert, nd-redirect }".to_owned());

    rule(format!("arp saddr ether != {mac}"));
    let fixed = listed_addresses(nic, Family::Ipv4);
    let others = fixed.is_empty() && !taken(host, name, network, Family::Ipv4).is_empty();
    let allowed = if fixed.is_empty() {
        prefixes(network, Family::Ipv4)
    } else {
        fixed
    };
    for selector in ["arp saddr ip", "ip saddr"] {
        if others {
            rule(format!("{selector} @{}", set_name(name, Family::Ipv4)));
        }
        if !allowed.is_empty() {
            // A guest without an address asks whether one is free, and for one (RFC 5227, RFC 2131).
            rule(format!(
                "{selector} != {{ 0.0.0.0, {} }}",
                allowed.join(", ")
            ));
        }
    }

    let own = {
        let mut own = listed_addresses(nic, Family::Ipv6);
        own.push(link_local(mac).to_string());
        own.join(", ")
    };
    let fixed = listed_addresses(nic, Family::Ipv6);
    let mut allowed = if fixed.is_empty() {
        prefixes(network, Family::Ipv6)
    } else {
        fixed
    };
    if !allowed.is_empty() {
        allowed.push("fe80::/10".to_owned());
    }
    let set = set_name(name, Family::Ipv6);
    for (when, selector) in [
        // Who claims an address, and who asks whether it is free (RFC 4861, RFC 4862).
        ("icmpv6 type nd-neighbor-advert ", "icmpv6 taddr"),
        (
            "ip6 saddr :: icmpv6 type nd-neighbor-solicit ",
            "icmpv6 taddr",
        ),
        ("", "ip6 saddr"),
    ] {
        rule(format!("{when}{selector} != {{ {own} }} {selector} @{set}"));
        if !allowed.is_empty() {
            let mut allowed = allowed.clone();
            if when.is_empty() {
                // For the question whether an address is free, and for what comes before one.
                allowed.insert(0, "::".to_owned());
            }
            rule(format!("{when}{selector} != {{ {} }}", allowed.join(", ")));
        }
    }
    rules
}

fn listed_addresses(nic: &Nic, family: Family) -> Vec<String> {
    nic.addresses(family)
        .map(|net| net.addr().to_string())
        .collect()
}

fn prefixes(network: &Network, family: Family) -> Vec<String> {
    network
        .own()
        // An uplink leads to others' prefixes, of which nothing is known here.
        .filter(|bridge| bridge.uplink.is_none())
        .into_iter()
        .flat_map(|bridge| bridge.addresses(family))
        .map(|net| net.trunc().to_string())
        .collect()
}

/// The address that a link gives itself from its Ethernet address (RFC 4291, appendix A).
fn link_local(mac: Mac) -> Ipv6Addr {
    let [first, second, third, rest @ ..] = mac.octets();
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        u16::from_be_bytes([first ^ 2, second]),
        u16::from_be_bytes([third, 0xff]),
        u16::from_be_bytes([0xfe, rest[0]]),
        u16::from_be_bytes([rest[1], rest[2]]),
    )
}

fn nfproto(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    }
}

fn ip_word(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ip",
        Family::Ipv6 => "ip6",
    }
}

fn write_chain(text: &mut String, name: &str, hook: Option<&str>, rules: &str) {
    let _ = writeln!(text, "\tchain {name} {{");
    if let Some(hook) = hook {
        let _ = writeln!(text, "\t\t{hook}; policy accept;");
    }
    for line in rules.lines() {
        // Lines of a rule of several lines bring their own.
        let indent = if line.starts_with('\t') { "" } else { "\t\t" };
        let _ = writeln!(text, "{indent}{line}");
    }
    text.push_str("\t}\n");
}
