//! `[network.<name>]`.

use ipnet::IpNet;

use super::cursor::Value;
use super::diagnostic::{Diagnostic, Place};
use super::unique::Unique;
use super::values;
use crate::host::{LinkName, Network, NetworkName};

const LATER: [&str; 7] = ["nat", "dhcp", "isolate", "forward", "uplink", "vlan", "dns"];

/// What the networks seen so far have.
#[derive(Debug, Default)]
pub(super) struct Networks {
    bridges: Unique<LinkName>,
    addresses: Vec<(IpNet, Place, NetworkName)>,
}

pub(super) fn network(
    value: &Value<'_>,
    name: &NetworkName,
    others: &mut Networks,
) -> Option<Network> {
    let mut table = value.table()?;
    table.refuse_later(&LATER);
    let named = table.take("bridge");
    let address = table.read("address", Vec::new(), |value| {
        addresses(value, name, others)
    });
    let (bridge, place) = match &named {
        Some(value) => (bridge(value), &value.place),
        None => (Some(LinkName::bridge(name)), &value.key_place),
    };
    if let Some(bridge) = &bridge {
        table.derived("bridge", bridge);
    }
    table.finish();
    if let Some(bridge) = &bridge {
        let who = format!("network `{name}`");
        others
            .bridges
            .claim(value.sink, bridge.clone(), place, &who, || {
                format!("two networks use the bridge `{bridge}`")
            });
    }
    Some(Network {
        bridge: bridge?,
        address: address?,
    })
}

fn bridge(value: &Value<'_>) -> Option<LinkName> {
    let name: LinkName = values::parsed(value, "the name of a link", None)?;
    if name.as_str().starts_with(LinkName::TAP_PREFIX) {
        value.error_with_hint(
            format!("a bridge cannot be named `{name}`"),
            format!(
                "names that begin with `{}` are for the VMs' TAPs",
                LinkName::TAP_PREFIX
            ),
        );
        return None;
    }
    Some(name)
}

fn addresses(value: &Value<'_>, name: &NetworkName, others: &mut Networks) -> Option<Vec<IpNet>> {
    let mut all = Some(Vec::new());
    for element in value.array("an array of addresses")? {
        let Some(address) = address(&element) else {
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

fn address(value: &Value<'_>) -> Option<IpNet> {
    let text = value.text()?;
    let Ok(address) = text.parse::<IpNet>() else {
        let hint = match text.parse::<std::net::IpAddr>() {
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
    // Of prefixes of one or two addresses, all are hosts' (RFC 3021, RFC 6164).
    let hosts_only = address.prefix_len() + 1 >= address.max_prefix_len();
    if !hosts_only && address.addr() == address.network() {
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
