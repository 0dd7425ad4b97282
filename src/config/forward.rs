//! `forward` of a network: ports of the host that lead to VMs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;

use super::cursor::Value;
use super::diagnostic::Place;
use super::nearest::did_you_mean;
use super::network::Networks;
use super::sink::Sink;
use super::values;
use crate::host::{Family, Forward, Network, NetworkName, Proto, Vm, VmId};

/// A port forward, and where the file has it: its VM is looked up when VMs have been read.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    forward: Forward,
    /// Of the whole, and of `to`.
    place: Place,
    to: Place,
}

pub(super) fn read(
    value: &Value<'_>,
    name: &NetworkName,
    others: &mut Networks,
) -> Option<Vec<Forward>> {
    let mut all = Some(Vec::new());
    for element in value.array("an array of tables")? {
        let wanted = one(&element);
        if let Some(wanted) = &wanted {
            check_against(&element, wanted, others);
            others.forwards.push((name.clone(), wanted.clone()));
        }
        all = all.zip(wanted).map(|(mut all, wanted)| {
            all.push(wanted.forward);
            all
        });
    }
    all
}

fn one(value: &Value<'_>) -> Option<Wanted> {
    let mut table = value.table()?;
    let port_value = table.take("port");
    let to_value = table.take("to");
    let proto = table.read("proto", Proto::Tcp, |value| {
        values::choice(value, &[("tcp", Proto::Tcp), ("udp", Proto::Udp)])
    });
    let address = table.optional("address", |value| {
        let hint = "one of the host's own, without a prefix length: `192.0.2.10`";
        values::parsed::<IpAddr>(value, "an address", Some(hint))
    });
    table.finish();
    let absent = |what: &str, hint: &str| {
        let message = format!("this forward has no `{what}`");
        value
            .sink
            .report_absence(value.diagnostic(message).hint(hint));
    };
    if port_value.is_none() {
        absent("port", "the host's port: `port = 8080`");
    }
    if to_value.is_none() {
        absent("to", "the VM and its port: `to = \"web:80\"`");
    }
    let port = port_value.as_ref().and_then(port);
    let to = to_value.as_ref().and_then(|value| target(value, port));
    let (vm, to_port) = to?;
    Some(Wanted {
        place: value.place.clone(),
        to: to_value?.place,
        forward: Forward {
            proto: proto?,
            port: port?,
            address: address?,
            vm,
            to_port,
        },
    })
}

fn port(value: &Value<'_>) -> Option<NonZeroU16> {
    NonZeroU16::new(u16::try_from(value.integer(1, 65535)?).ok()?)
}

/// `web:80`; `web` is the same port as the host's.
fn target(value: &Value<'_>, port: Option<NonZeroU16>) -> Option<(VmId, NonZeroU16)> {
    let text = value.text()?;
    let (vm, to_port) = match text.split_once(':') {
        Some((vm, number)) => (vm, number.parse::<NonZeroU16>().ok()),
        None => (text, Some(port?)),
    };
    let Some(to_port) = to_port else {
        value.error_with_hint(
            format!("`{text}` does not end in a port"),
            "write the VM and its port, from 1 to 65535: `web:80`",
        );
        return None;
    };
    match vm.parse() {
        Ok(vm) => Some((vm, to_port)),
        Err(error) => {
            value.error(format!("`{vm}` is not the name of a VM: {error}"));
            None
        }
    }
}

/// No two forwards have a port in common.
fn check_against(value: &Value<'_>, wanted: &Wanted, others: &Networks) {
    let new = &wanted.forward;
    for (_, other) in &others.forwards {
        let old = &other.forward;
        let same_address = match (old.address, new.address) {
            (Some(old), Some(new)) => old == new,
            // Without an address it is a port of every address.
            _ => true,
        };
        if old.proto == new.proto && old.port == new.port && same_address {
            value.sink.report(
                value
                    .diagnostic(format!(
                        "port {}/{} is forwarded twice",
                        new.port, new.proto
                    ))
                    .label(format!("again, to VM `{}`", new.vm))
                    .also(other.place.clone(), format!("first to VM `{}`", old.vm)),
            );
            return;
        }
    }
}

/// Checks that each forward leads to a VM with an address on its network.
pub(super) fn check(
    sink: &Sink,
    known: &Networks,
    names: &[&VmId],
    vms: &BTreeMap<VmId, Vm>,
    networks: &BTreeMap<NetworkName, Network>,
) {
    for (name, wanted) in &known.forwards {
        let id = &wanted.forward.vm;
        let diagnostic =
            |message: String| super::diagnostic::Diagnostic::new(wanted.to.clone(), message);
        if !names.contains(&id) {
            let near = did_you_mean(id.as_str(), names.iter().map(|id| id.as_str()));
            let hint =
                near.unwrap_or_else(|| format!("add a `[vm.{id}]`, or leave the forward out"));
            sink.report_absence(diagnostic(format!("VM `{id}` is not declared")).hint(hint));
            continue;
        }
        // One with mistakes is there and not known.
        let (Some(vm), Some(network)) = (vms.get(id), networks.get(name)) else {
            continue;
        };
        let nics: Vec<_> = vm.nics.iter().filter(|nic| nic.network == *name).collect();
        let family = wanted.forward.address.map(Family::of);
        let has_address = nics.iter().any(|nic| {
            nic.address
                .iter()
                .any(|net| family.is_none_or(|family| Family::of(net.addr()) == family))
        });
        let bridge_has = network
            .own()
            .is_some_and(|bridge| !bridge.address.is_empty());
        if nics.is_empty() {
            let message = format!("VM `{id}` has no NIC on network `{name}`");
            let hint = "a forward belongs to the network over which its VM is reached";
            sink.report(diagnostic(message).hint(hint));
        } else if !has_address {
            let what = family.map_or_else(String::new, |family| format!("{family} "));
            let message = format!("VM `{id}` has no fixed {what}address on network `{name}`");
            let hint =
                format!("give its NIC one, for example `address = \"…\"`, under `[[vm.{id}.nic]]`");
            sink.report(diagnostic(message).hint(hint));
        } else if !bridge_has {
            let message = format!("network `{name}` has a forward and no `address`");
            let hint = "the host reaches the VM from an address of the bridge: `address = [\"192.168.100.1/24\"]`";
            sink.report(diagnostic(message).hint(hint));
        }
    }
}
