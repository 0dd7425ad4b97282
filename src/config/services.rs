//! What the host does for those on a bridge: `nat`, `route` and `dhcp`.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use super::cursor::{Table, Value};
use super::network::families;
use super::values;
use crate::host::{Dhcp, Family, Forwarding, NetworkName, Pool, TimeSpan};

/// `nat` and `route`: for IPv4 and for IPv6.
pub(super) fn forwarding(
    table: &mut Table<'_>,
    name: &NetworkName,
    address: Option<&[IpNet]>,
) -> Option<(Forwarding, Forwarding)> {
    let nat_value = table.take("nat");
    let route_value = table.take("route");
    let read = |value: Option<&Value<'_>>| match value {
        Some(value) => asked(value, name, address),
        None => Some(Vec::new()),
    };
    let (nat, route) = (read(nat_value.as_ref()), read(route_value.as_ref()));
    let (nat, route) = (nat?, route?);
    if let (Some(both), Some(nat_value), Some(route_value)) = (
        nat.iter().find(|family| route.contains(family)),
        &nat_value,
        &route_value,
    ) {
        route_value.sink.report(
            route_value
                .diagnostic(format!(
                    "network `{name}` has both `nat` and `route` for {both}"
                ))
                .also(nat_value.place.clone(), "`nat`")
                .hint("`nat = \"ipv4\"` with `route = \"ipv6\"` has one for each"),
        );
        return None;
    }
    let of = |family: Family| {
        if nat.contains(&family) {
            Forwarding::Masquerade
        } else if route.contains(&family) {
            Forwarding::Route
        } else {
            Forwarding::Off
        }
    };
    Some((of(Family::Ipv4), of(Family::Ipv6)))
}

/// The families that `true`, `"ipv4"` or `"ipv6"` are about.
fn asked(value: &Value<'_>, name: &NetworkName, address: Option<&[IpNet]>) -> Option<Vec<Family>> {
    let wanted = if value.is_boolean() {
        if !value.boolean()? {
            return Some(Vec::new());
        }
        None
    } else if value.is_text() {
        let words = [("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)];
        Some(values::choice(value, &words)?)
    } else {
        value.wrong_type("`true`, `false`, `\"ipv4\"` or `\"ipv6\"`");
        return None;
    };
    // Bad addresses have been reported, and may have been of any family.
    let there = families(address?);
    let key = value.key;
    match wanted {
        None if there.is_empty() => {
            value.sink.report_absence(
                value
                    .diagnostic(format!("network `{name}` has `{key}` and no `address`"))
                    .hint(
                        "give the bridge the address that is the VMs' gateway: \
                         `address = [\"192.168.100.1/24\"]`",
                    ),
            );
            None
        }
        None => Some(there),
        Some(family) if there.contains(&family) => Some(vec![family]),
        Some(family) => {
            value.sink.report_absence(value.diagnostic(format!(
                "network `{name}` has `{key}` for {family} and no {family} `address`"
            )));
            None
        }
    }
}

const DEFAULT_LEASE: TimeSpan = TimeSpan::from_secs(3600);

/// `dhcp`: `true`, `false` or a table.
#[expect(
    clippy::option_option,
    reason = "the outer one is whether the file is good here"
)]
pub(super) fn dhcp(
    value: &Value<'_>,
    name: &NetworkName,
    address: &[IpNet],
) -> Option<Option<Dhcp>> {
    let mut lease = Some(DEFAULT_LEASE);
    let mut range_value = None;
    if value.is_boolean() {
        if !value.boolean()? {
            return Some(None);
        }
    } else if value.is_table() {
        let mut table = value.table()?;
        range_value = table.take("range");
        lease = table.read("lease", DEFAULT_LEASE, lease_time);
        table.finish();
    } else {
        value.wrong_type("`true`, `false` or a table");
        return None;
    }
    if address.is_empty() {
        value.sink.report_absence(
            value
                .diagnostic(format!("network `{name}` has `dhcp` and no `address`"))
                .hint("a server answers from an address of the bridge: `address = [\"192.168.100.1/24\"]`"),
        );
        return None;
    }
    let ipv4: Vec<Ipv4Net> = address
        .iter()
        .filter_map(|net| match net {
            IpNet::V4(net) => Some(*net),
            IpNet::V6(_) => None,
        })
        .collect();
    let pool = match &range_value {
        Some(value) => Some(range(value, name, &ipv4)?),
        None => match ipv4.first() {
            Some(server) => Some(whole(value, *server)?),
            None => None,
        },
    };
    Some(Some(Dhcp {
        pool,
        lease: lease?,
    }))
}

/// networkd counts seconds in 32 bits; dnsmasq has no lease below two minutes.
fn lease_time(value: &Value<'_>) -> Option<TimeSpan> {
    let span = values::time_span(value)?;
    let seconds = span.duration().as_secs();
    if seconds < 120 || span.duration().subsec_nanos() != 0 {
        value.error(format!(
            "a lease of {span} is none: the least is 2 min, in whole seconds"
        ));
        return None;
    }
    Some(span)
}

/// All that can be handed out of a prefix.
fn whole(value: &Value<'_>, server: Ipv4Net) -> Option<Pool> {
    if server.prefix_len() > 29 {
        value.error(format!(
            "{} is too small to hand out addresses of: the longest prefix is 29",
            server.trunc()
        ));
        return None;
    }
    let first = u32::from(server.network()) + 1;
    let last = u32::from(server.broadcast()) - 1;
    Some(Pool {
        server,
        first: first.into(),
        last: last.into(),
    })
}

/// `192.168.100.100-192.168.100.199`, or `192.168.100.100-199`.
fn range(value: &Value<'_>, name: &NetworkName, ipv4: &[Ipv4Net]) -> Option<Pool> {
    let text = value.text()?;
    let ends = text.split_once('-').and_then(|(first, last)| {
        let first: Ipv4Addr = first.trim().parse().ok()?;
        let last = last.trim();
        let last = if let Ok(last) = last.parse::<Ipv4Addr>() {
            last
        } else {
            let mut octets = first.octets();
            octets[3] = last.parse().ok()?;
            octets.into()
        };
        Some((first, last))
    });
    let Some((first, last)) = ends else {
        value.error_with_hint(
            format!("`{text}` is not a range of IPv4 addresses"),
            "write the first and the last: `192.168.100.100-192.168.100.199`, or `192.168.100.100-199`",
        );
        return None;
    };
    if last < first {
        value.error(format!("the range ends with {last}, before it begins"));
        return None;
    }
    let holding = ipv4
        .iter()
        .find(|net| net.contains(&first) && net.contains(&last));
    let Some(server) = holding else {
        let prefixes: Vec<String> = ipv4.iter().map(|net| net.trunc().to_string()).collect();
        let hint = match prefixes.as_slice() {
            [] => "the network has no IPv4 `address`".to_owned(),
            _ => format!("the addresses there are of {}", prefixes.join(" and ")),
        };
        value.error_with_hint(format!("the range is not on network `{name}`"), hint);
        return None;
    };
    let no_hosts = [server.network(), server.broadcast()];
    if let Some(bad) = no_hosts.iter().find(|ip| (first..=last).contains(*ip)) {
        value.error(format!("the range holds {bad}, which is no host's address"));
        return None;
    }
    // networkd leaves its own address out; a range of that alone hands out nothing.
    if first == last && IpAddr::V4(first) == IpAddr::V4(server.addr()) {
        value.error("the range holds the host's own address, and nothing else");
        return None;
    }
    Some(Pool {
        server: *server,
        first,
        last,
    })
}
