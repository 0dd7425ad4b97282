//! Networks: who makes them, whether they are as declared, and what stands in their way.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeSet;

use super::{declare, install};
use crate::doctor::facts::{Distribution, Facts};
use crate::doctor::{Check, ports};
use crate::generation::Manifest;
use crate::host::{Family, Host, Network, NetworkKind, NetworkName};
use crate::network;
use crate::observe::{Admin, Networkd, Observed, Rules};
use crate::plan::{self, About, Difference, Obstacle, Request, differences};

const AGAIN: &str = "`nkudo switch` makes it be as declared";

pub(super) fn networkd(
    distribution: Distribution,
    manifest: Option<&Manifest>,
    observed: &Observed,
) -> Check {
    let name = "networkd";
    let wanted = manifest
        .is_some_and(|one| one.host.network_backend == crate::host::NetworkBackend::Networkd);
    match observed.networkd {
        Networkd::Runs => Check::ok(name, "runs"),
        Networkd::Absent if wanted => Check::fail(
            name,
            "`network-backend` is `networkd`, and systemd-networkd does not run",
            if distribution == Distribution::Nixos {
                "systemd.network.enable = true;"
            } else {
                "`systemctl enable --now systemd-networkd.service`, or `network-backend = \"auto\"`"
            },
        ),
        Networkd::Absent => Check::ok(name, "does not run; nkudo makes bridges itself"),
    }
}

/// What is declared, against what there is.
pub(super) fn networks(facts: &Facts, manifest: &Manifest, observed: &Observed) -> Vec<Check> {
    // Of a network that cannot be made all else would be gone too, and follows from that.
    let mut obstructed = plan::obstructed(manifest, observed);
    obstructed.retain(|_, obstacles| {
        obstacles.retain(|obstacle| matches!(obstacle, Obstacle::Network { .. }));
        !obstacles.is_empty()
    });
    let differences = differences(manifest, observed, &Request::switch(), &obstructed);
    let host = &manifest.host;
    let mut checks: Vec<Check> = host
        .networks
        .iter()
        .flat_map(|(name, network)| {
            let subject = format!("network {name}");
            let mut checks = vec![match obstructed.get(name) {
                Some(obstacles) => Check::fail(&subject, plan::said(obstacles), AGAIN),
                None => one(name, network, host, observed, &differences),
            }];
            checks.extend(ports::taken(&subject, network, &facts.listeners));
            checks
        })
        .collect();
    checks.extend(rules(facts, host, observed, &differences));
    checks.extend(forwarding(host, observed, &differences));
    let left = of(&differences, |about| *about == About::Links);
    if !left.is_empty() {
        checks.push(Check::warn("links", left.join("; "), AGAIN));
    }
    if facts.sysctls.bridge_netfilter == Some(true) && !host.networks.is_empty() {
        checks.push(Check::warn(
            "bridge-netfilter",
            "frames between VMs of one bridge go through the host's IP firewall (Docker switches this on), which often \
             drops them",
            format!(
                "let the firewall accept them (`iptables -I DOCKER-USER -i nk-+ -j ACCEPT`), or {}",
                declare(facts.distribution, "sysctl.\"net.bridge.bridge-nf-call-iptables\"", "0")
            ),
        ));
    }
    checks
}

fn of(differences: &[Difference], wanted: impl Fn(&About) -> bool) -> Vec<String> {
    let found = differences.iter().filter(|one| wanted(&one.about));
    found.map(ToString::to_string).collect()
}

/// One network: its bridge or its uplink, their addresses, the TAPs in it, and who hands out addresses.
fn one(
    name: &NetworkName,
    network: &Network,
    host: &Host,
    observed: &Observed,
    differences: &[Difference],
) -> Check {
    let subject = format!("network {name}");
    let own = |about: &About| match about {
        About::Network(network) | About::Dhcp(network) => network == name,
        About::Rules | About::Forwarding | About::Links => false,
    };
    let found = of(differences, own);
    if !found.is_empty() {
        return Check::fail(subject, found.join("; "), AGAIN);
    }
    let (what, link) = match &network.kind {
        NetworkKind::Bridge(bridge) => ("the bridge", &bridge.name),
        NetworkKind::ExistingBridge(bridge) => ("the bridge", bridge),
        NetworkKind::Macvtap(uplink) => ("the uplink", uplink.port()),
    };
    let there = observed.links.get(link.as_str());
    if there.is_some_and(|there| there.admin == Admin::Down) {
        // One of the host's: nkudo's own is up, or differs.
        return Check::fail(
            subject,
            format!("{what} {link} is down, and not nkudo's to set up"),
            format!("`ip link set {link} up`; for good, whoever configures it on this host has to"),
        );
    }
    let mut text = format!("{what} {link} is up");
    let addresses: Vec<String> = network
        .own()
        .into_iter()
        .flat_map(|own| &own.address)
        .map(ToString::to_string)
        .collect();
    if !addresses.is_empty() {
        text = format!("{text}, with {}", addresses.join(" and "));
    }
    let index = there.map(|there| there.index);
    let ports = network::nics(host, name)
        .filter_map(|(_, nic)| observed.links.get(nic.tap.as_str()))
        .filter(|tap| index.is_some() && (tap.master == index || tap.below == index))
        .count();
    match ports {
        0 => {}
        1 => text.push_str("; one VM's NIC is on it"),
        _ => text = format!("{text}; {ports} NICs of VMs are on it"),
    }
    Check::ok(subject, text)
}

/// nkudo's tables of nftables.
fn rules(
    facts: &Facts,
    host: &Host,
    observed: &Observed,
    differences: &[Difference],
) -> Option<Check> {
    let name = "rules";
    let needed = network::rules(host).is_some();
    if let (true, Rules::Unusable(why)) = (needed, &observed.network.rules) {
        return Some(Check::fail(
            name,
            format!("the firewall rules that networks need cannot be looked at: {why}"),
            match facts.distribution {
                Distribution::Nixos => "environment.systemPackages = [ pkgs.nftables ];".to_owned(),
                other => install(other, "nftables"),
            },
        ));
    }
    let found = of(differences, |about| *about == About::Rules);
    if !found.is_empty() {
        return Some(Check::fail(
            name,
            found.join("; "),
            "`nkudo switch` loads them; `nft monitor` shows who flushes them: a firewall has to flush its own tables alone",
        ));
    }
    needed.then(|| Check::ok(name, "the firewall rules are loaded, as declared"))
}

/// What networks with `nat`, `route` or `forward` need of the kernel, link by link.
fn forwarding(host: &Host, observed: &Observed, differences: &[Difference]) -> Vec<Check> {
    let name = "forwarding";
    let needed = plan::forwarding(host, observed);
    if needed.is_empty() {
        return Vec::new();
    }
    let mut checks = Vec::new();
    let found = of(differences, |about| *about == About::Forwarding);
    if !found.is_empty() {
        checks.push(Check::fail(
            name,
            format!("what is passed on is not as networks need it: {}", found.join("; ")),
            "`nkudo switch` sets it; `grep -r forward /etc/sysctl.d /etc/sysctl.conf`, and networkd's `IPv4Forwarding=`, tell who else does",
        ));
    }
    for family in Family::ALL {
        let (word, directory) = match family {
            Family::Ipv4 => ("IPv4", "net/ipv4/conf/"),
            Family::Ipv6 => ("IPv6", "net/ipv6/conf/"),
        };
        let links: BTreeSet<&str> = needed
            .iter()
            .filter(|(name, _)| name.ends_with("forwarding"))
            .filter_map(|(name, _)| name.strip_prefix(directory)?.split_once('/'))
            .map(|(link, _)| if link == "all" { "all links" } else { link })
            .collect();
        if links.is_empty() {
            continue;
        }
        let links: Vec<&str> = links.into_iter().collect();
        if plan::defaults(family, observed).is_empty() {
            checks.push(Check::warn(
                name,
                format!("the host has no default route for {word}: guests get no further than its own networks"),
                "`ip route` and `networkctl status` show what the host reaches; `nkudo switch` once it has one",
            ));
        } else if found.is_empty() {
            checks.push(Check::ok(
                name,
                format!("{word} is passed on by {}", links.join(", ")),
            ));
        }
    }
    checks
}
