//! Addresses: the host's on a bridge, and those of NICs.

use std::net::IpAddr;

use ipnet::IpNet;

use super::cursor::Value;
use super::diagnostic::Diagnostic;
use super::network::Networks;
use super::unique::Unique;
use super::values;
use crate::host::{Bridge, Family, Forwarding, Network, NetworkName};

/// The host's own addresses on a network's bridge.
pub(super) fn of_host(
    value: &Value<'_>,
    name: &NetworkName,
    others: &mut Networks,
) -> Option<Vec<IpNet>> {
    let mut all = Some(Vec::new());
    for element in value.array("an array of addresses")? {
        let Some(address) = with_length(&element) else {
            all = None;
            continue;
        };
        check_against(&element, address, name, others);
        others
            .addresses
            .push((address, element.place.clone(), name.clone()));
        if let Some(all) = &mut all {
            all.push(address);
        }
    }
    all
}

/// An address with the length of its prefix, which is not the network's own.
fn with_length(value: &Value<'_>) -> Option<IpNet> {
    let text = value.text()?;
    let Ok(address) = text.parse::<IpNet>() else {
        let hint = match text.parse::<IpAddr>() {
            Ok(ip) => {
                let length = if ip.is_ipv4() { 24 } else { 64 };
                format!("add the length of the prefix: `{ip}/{length}`")
            }
            Err(_) => "write for example `192.168.100.1/24` or `fd00:100::1/64`".to_owned(),
        };
        value.error_with_hint(
            format!(
                "`{}` is not an address with a prefix length",
                values::shown(text)
            ),
            hint,
        );
        return None;
    };
    if is_networks_own(address) {
        let message = format!("`{address}` is the address of the network itself");
        let first = address.hosts().find(|host| *host != address.network());
        let hint = first.map(|host| {
            format!(
                "give the host's own address in it, for example `{host}/{}`",
                address.prefix_len()
            )
        });
        value
            .sink
            .report(value.diagnostic(message).maybe_hint(hint));
        return None;
    }
    Some(address)
}

fn is_networks_own(address: IpNet) -> bool {
    // Of prefixes of one or two addresses, all are hosts' (RFC 3021, RFC 6164).
    let hosts_only = address.prefix_len() + 1 >= address.max_prefix_len();
    !hosts_only && address.addr() == address.network()
}

fn check_against(value: &Value<'_>, address: IpNet, name: &NetworkName, others: &Networks) {
    for (other, place, owner) in &others.addresses {
        let diagnostic: Diagnostic = if owner == name {
            if other.addr() != address.addr() {
                continue;
            }
            value
                .diagnostic(format!(
                    "network `{name}` has the address `{}` twice",
                    address.addr()
                ))
                .also(place.clone(), "first here")
        } else {
            if !(other.contains(&address.network()) || address.contains(&other.network())) {
                continue;
            }
            value
                .diagnostic(format!("networks `{owner}` and `{name}` overlap"))
                .label(format!("{} of `{name}`", address.trunc()))
                .also(place.clone(), format!("{} of `{owner}`", other.trunc()))
        };
        value.sink.report(diagnostic);
        // One conflict is enough to say about one address.
        return;
    }
}

/// Addresses of NICs on one network are unique.
pub(super) type Taken = Unique<(NetworkName, IpAddr)>;

/// A NIC's network, as far as it could be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct On<'a> {
    pub(super) name: &'a NetworkName,
    /// Nothing where it has mistakes of its own.
    pub(super) network: Option<&'a Network>,
}

/// The addresses of a NIC. The length of the prefix may be left to the network, if that has one.
pub(super) fn of_nic(
    value: &Value<'_>,
    on: On<'_>,
    who: &str,
    taken: &mut Taken,
) -> Option<Vec<IpNet>> {
    let elements = if value.is_text() {
        vec![value.clone()]
    } else {
        value.array("an address or an array of addresses")?
    };
    let mut all = Some(Vec::new());
    for element in elements {
        let address = one_of_nic(&element, on);
        if let Some(address) = address {
            let what = (on.name.clone(), address.addr());
            taken.claim(element.sink, what, &element.place, who, || {
                format!("two NICs have the address {}", address.addr())
            });
        }
        all = all.zip(address).map(|(mut all, address)| {
            all.push(address);
            all
        });
    }
    all
}

fn one_of_nic(value: &Value<'_>, on: On<'_>) -> Option<IpNet> {
    let bridge = on.network.and_then(Network::own);
    let text = value.text()?;
    let address = if let Ok(ip) = text.parse::<IpAddr>() {
        // What the network's mistakes keep from being known is not one of this address.
        on.network?;
        let Some(host) = bridge.and_then(|bridge| bridge.holding(ip)) else {
            if bridge.is_some_and(|bridge| has_family(bridge, ip)) {
                return out_of(value, on, ip);
            }
            // It is known by nobody but whoever wrote it.
            return with_length(value);
        };
        IpNet::new(ip, host.prefix_len()).ok()?
    } else {
        with_length(value)?
    };
    let ip = address.addr();
    let Some(bridge) = bridge else {
        return Some(address);
    };
    let Some(host) = bridge.holding(ip) else {
        return if has_family(bridge, ip) {
            out_of(value, on, ip)
        } else {
            Some(address)
        };
    };
    if host.addr() == ip {
        value.error(format!(
            "`{ip}` is the host's own address on network `{}`",
            on.name
        ));
        return None;
    }
    let whole = host.max_prefix_len() - host.prefix_len() < 2;
    let is_broadcast = matches!(host, IpNet::V4(net) if IpAddr::V4(net.broadcast()) == ip);
    if !whole && (ip == host.network() || is_broadcast) {
        value.error(format!("`{ip}` is no host's address in {}", host.trunc()));
        return None;
    }
    Some(address)
}

fn has_family(bridge: &Bridge, ip: IpAddr) -> bool {
    bridge.addresses(Family::of(ip)).next().is_some()
}

fn out_of(value: &Value<'_>, on: On<'_>, ip: IpAddr) -> Option<IpNet> {
    let prefixes: Vec<String> = on
        .network
        .and_then(Network::own)
        .into_iter()
        .flat_map(|bridge| bridge.addresses(Family::of(ip)))
        .map(|net| net.trunc().to_string())
        .collect();
    value.error_with_hint(
        format!("`{ip}` is not on network `{}`", on.name),
        format!("the addresses there are of {}", prefixes.join(" and ")),
    );
    None
}

/// The gateways of a NIC: what the file says, else the host where it passes packets on.
pub(super) fn gateways(
    value: Option<&Value<'_>>,
    on: On<'_>,
    address: Option<&[IpNet]>,
) -> Option<Vec<IpAddr>> {
    let Some(value) = value else {
        let bridge = on.network.and_then(Network::own);
        let mut gateways = Vec::new();
        for net in address.unwrap_or_default() {
            let family = Family::of(net.addr());
            let has = gateways.iter().any(|ip| Family::of(*ip) == family);
            let host = bridge
                .filter(|bridge| bridge.forwarding(family) != Forwarding::Off)
                .and_then(|bridge| bridge.holding(net.addr()));
            if let (false, Some(host)) = (has, host) {
                gateways.push(host.addr());
            }
        }
        return Some(gateways);
    };
    let elements = if value.is_text() {
        vec![value.clone()]
    } else {
        value.array("an address or an array of addresses")?
    };
    let mut all: Option<Vec<IpAddr>> = Some(Vec::new());
    for element in elements {
        let ip: Option<IpAddr> = values::parsed(
            &element,
            "an address",
            Some("a gateway has no prefix length: `192.168.100.1`"),
        );
        let ip = ip.filter(|ip| gateway_is_good(&element, *ip, address, all.as_deref()));
        all = all.zip(ip).map(|(mut all, ip)| {
            all.push(ip);
            all
        });
    }
    all
}

fn gateway_is_good(
    value: &Value<'_>,
    ip: IpAddr,
    address: Option<&[IpNet]>,
    before: Option<&[IpAddr]>,
) -> bool {
    let family = Family::of(ip);
    if before.is_some_and(|before| before.iter().any(|ip| Family::of(*ip) == family)) {
        value.error(format!("a second gateway for {family}"));
        return false;
    }
    let Some(address) = address else {
        // The addresses are bad themselves.
        return true;
    };
    let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    if !link_local && !address.iter().any(|net| net.contains(&ip)) {
        value.error_with_hint(
            format!("the gateway `{ip}` is not reached from any `address` of this NIC"),
            "a gateway is in the prefix of one of the NIC's addresses; without `address`, DHCP says it",
        );
        return false;
    }
    true
}
