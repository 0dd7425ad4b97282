//! `[network.<name>]`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::address;
use super::cursor::{Table, Value};
use super::diagnostic::{Diagnostic, Place};
use super::forward::{self, Wanted};
use super::services;
use super::unique::Unique;
use super::values;
use crate::host::{
    Bridge, Domain, Family, Isolation, LinkName, Network, NetworkKind, NetworkName, Uplink, Vlan,
    VlanId,
};

/// What the networks seen so far have.
#[derive(Debug, Default)]
pub(super) struct Networks {
    bridges: Unique<LinkName>,
    uplinks: Unique<(LinkName, Option<VlanId>)>,
    vlans: Unique<LinkName>,
    pub(super) addresses: Vec<(IpNet, Place, NetworkName)>,
    /// Port forwards, whose VMs are known only later.
    pub(super) forwards: Vec<(NetworkName, Wanted)>,
}

pub(super) fn network(
    value: &Value<'_>,
    name: &NetworkName,
    others: &mut Networks,
) -> Option<Network> {
    let mut table = value.table()?;
    let isolation = table.read("isolate", Isolation::Off, |value| {
        Some(if value.boolean()? {
            Isolation::On
        } else {
            Isolation::Off
        })
    });
    let dns = table.read("dns", Vec::new(), dns);
    let domain = table.optional("domain", |value| {
        values::parsed::<Domain>(value, "a domain", None)
    });
    let macvtap = table.read("macvtap", false, Value::boolean);
    let existing = table.take("existing-bridge");
    let kind = match (&existing, macvtap) {
        (Some(existing), _) => existing_bridge(existing, name, &mut table, others),
        (None, Some(false)) => own_bridge(value, name, &mut table, others),
        (None, Some(true)) => on_uplink(value, name, &mut table, others),
        (None, None) => {
            refuse(&mut table, &ALL, "");
            None
        }
    };
    table.finish();
    Some(Network {
        kind: kind?,
        isolation: isolation?,
        dns: dns?,
        domain: domain?,
    })
}

/// The keys that not every kind of network has.
const ALL: [&str; 8] = [
    "bridge", "uplink", "vlan", "address", "nat", "route", "dhcp", "forward",
];

/// Takes keys that a kind of network cannot have, and says why, unless that is empty: then another
/// mistake has been reported, and it is not known what they would mean.
fn refuse(table: &mut Table<'_>, keys: &[&'static str], why: &str) -> bool {
    let mut good = true;
    for key in keys {
        let Some(value) = table.take(key) else {
            continue;
        };
        // What would be so anyway can be said.
        let off = value.is_boolean() && value.boolean() == Some(false);
        if off || value.is_empty_array() {
            continue;
        }
        good = false;
        if !why.is_empty() {
            value.sink.report(
                Diagnostic::new(value.key_place.clone(), format!("`{key}` cannot be here"))
                    .hint(why),
            );
        }
    }
    good
}

fn existing_bridge(
    value: &Value<'_>,
    name: &NetworkName,
    table: &mut Table<'_>,
    others: &mut Networks,
) -> Option<NetworkKind> {
    let why = format!(
        "network `{name}` joins an existing bridge, which nkudo never changes; leave \
         `existing-bridge` out, and nkudo makes a bridge of its own"
    );
    let good = refuse(table, &ALL, &why);
    let bridge = bridge(value)?;
    others.claim_bridge(value, &bridge, &value.place, name);
    good.then_some(NetworkKind::ExistingBridge(bridge))
}

fn on_uplink(
    value: &Value<'_>,
    name: &NetworkName,
    table: &mut Table<'_>,
    others: &mut Networks,
) -> Option<NetworkKind> {
    let why = format!(
        "network `{name}` has `macvtap = true`: its VMs are on the uplink itself, and the host is \
         not in between; leave `macvtap` out, and nkudo makes a bridge"
    );
    let keys = ["bridge", "address", "nat", "route", "dhcp", "forward"];
    let good = refuse(table, &keys, &why);
    let Some(uplink) = uplink(name, table, others)? else {
        let message = format!("network `{name}` has `macvtap = true` and no `uplink`");
        value.sink.report_absence(
            Diagnostic::new(value.key_place.clone(), message)
                .hint("name the host's link that VMs are to be on: `uplink = \"eth0\"`"),
        );
        return None;
    };
    good.then_some(NetworkKind::Macvtap(uplink))
}

fn own_bridge(
    value: &Value<'_>,
    name: &NetworkName,
    table: &mut Table<'_>,
    others: &mut Networks,
) -> Option<NetworkKind> {
    let named = table.take("bridge");
    let address = table.read("address", Vec::new(), |value| {
        address::of_host(value, name, others)
    });
    let known = address.as_deref().unwrap_or_default();
    let forwarding = services::forwarding(table, name, address.as_deref());
    let dhcp = table.optional("dhcp", |value| services::dhcp(value, name, known));
    let forward = table.read("forward", Vec::new(), |value| {
        forward::read(value, name, others)
    });
    let uplink = uplink(name, table, others);
    let (bridge, place) = match &named {
        Some(value) => (bridge(value), &value.place),
        None => (Some(LinkName::bridge(name)), &value.key_place),
    };
    if let Some(bridge) = &bridge {
        table.derived("bridge", bridge);
        others.claim_bridge(value, bridge, place, name);
    }
    let (ipv4, ipv6) = forwarding?;
    Some(NetworkKind::Bridge(Bridge {
        name: bridge?,
        address: address?,
        uplink: uplink?,
        ipv4,
        ipv6,
        dhcp: dhcp?.flatten(),
        forward: forward?,
    }))
}

impl Networks {
    fn claim_bridge(
        &mut self,
        value: &Value<'_>,
        bridge: &LinkName,
        place: &Place,
        name: &NetworkName,
    ) {
        let who = format!("network `{name}`");
        self.bridges
            .claim(value.sink, bridge.clone(), place, &who, || {
                format!("two networks use the bridge `{bridge}`")
            });
    }
}

/// `uplink` and `vlan`.
#[expect(
    clippy::option_option,
    reason = "the outer one is whether the file is good here"
)]
fn uplink(
    name: &NetworkName,
    table: &mut Table<'_>,
    others: &mut Networks,
) -> Option<Option<Uplink>> {
    let link_value = table.take("uplink");
    let vlan_value = table.take("vlan");
    let id = match &vlan_value {
        Some(value) => Some(vlan_id(value)?),
        None => None,
    };
    let Some(value) = &link_value else {
        if let Some(vlan) = &vlan_value {
            vlan.sink.report(
                Diagnostic::new(
                    vlan.key_place.clone(),
                    format!("network `{name}` has a `vlan` and no `uplink`"),
                )
                .hint("name the host's link that the VLAN is on: `uplink = \"eth0\"`"),
            );
            return None;
        }
        return Some(None);
    };
    let link: LinkName = values::parsed(value, "the name of a link", None)?;
    if is_reserved(value, &link, "an uplink") {
        return None;
    }
    let who = format!("network `{name}`");
    let what = (link.clone(), id);
    others
        .uplinks
        .claim(value.sink, what, &value.place, &who, || match id {
            Some(id) => format!("two networks use VLAN {} of `{link}`", id.get()),
            None => format!("two networks use the uplink `{link}`"),
        });
    let vlan = id.map(|id| Vlan {
        id,
        link: LinkName::vlan(name),
    });
    if let Some(vlan) = &vlan {
        // Long names are hashed, and two hashes may be equal.
        let link = &vlan.link;
        others
            .vlans
            .claim(value.sink, link.clone(), &value.place, &who, || {
                format!("two networks get the link name `{link}`; give one of them another name")
            });
    }
    Some(Some(Uplink { link, vlan }))
}

fn vlan_id(value: &Value<'_>) -> Option<VlanId> {
    let low = i64::from(*VlanId::RANGE.start());
    let high = i64::from(*VlanId::RANGE.end());
    u16::try_from(value.integer(low, high)?)
        .ok()?
        .try_into()
        .ok()
}

fn bridge(value: &Value<'_>) -> Option<LinkName> {
    let name: LinkName = values::parsed(value, "the name of a link", None)?;
    (!is_reserved(value, &name, "a bridge")).then_some(name)
}

/// Whether only nkudo itself gives such names, which is reported.
fn is_reserved(value: &Value<'_>, name: &LinkName, what: &str) -> bool {
    let reserved = [
        (LinkName::TAP_PREFIX, "the VMs' TAPs"),
        (LinkName::VLAN_PREFIX, "the links of VLANs"),
    ];
    for (prefix, whose) in reserved {
        if name.as_str().starts_with(prefix) {
            value.error_with_hint(
                format!("{what} cannot be named `{name}`"),
                format!("names that begin with `{prefix}` are for {whose}"),
            );
            return true;
        }
    }
    false
}

fn dns(value: &Value<'_>) -> Option<Vec<IpAddr>> {
    let hint = "write for example `[\"192.0.2.53\", \"2001:db8::53\"]`";
    let read: Vec<Option<IpAddr>> = value
        .array("an array of addresses")?
        .iter()
        .map(|element| values::parsed(element, "an address", Some(hint)))
        .collect();
    read.into_iter().collect()
}

/// The families in which a network's bridge has an address.
pub(super) fn families(address: &[IpNet]) -> Vec<Family> {
    Family::ALL
        .into_iter()
        .filter(|family| address.iter().any(|net| Family::of(net.addr()) == *family))
        .collect()
}
