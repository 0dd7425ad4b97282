//! `[[vm.<id>.nic]]`.

use std::num::NonZeroU8;

use super::address;
use super::cursor::Value;
use super::diagnostic::Diagnostic;
use super::nearest::did_you_mean;
use super::values;
use super::vm::Shared;
use crate::host::{LinkName, Mac, NetworkKind, NetworkName, Nic, QueuePairs, Trust, VmId};

/// A unit gets a file descriptor for each pair of queues of its NICs, and one D-Bus message carries 16.
const MOST_NICS: usize = 16;

/// The tables of `[[vm.<id>.<what>]]`.
pub(super) fn elements<'a>(value: &Value<'a>, id: &VmId) -> Option<Vec<Value<'a>>> {
    if value.is_table() {
        let what = value.key;
        value.sink.report(
            Diagnostic::new(
                value.key_place.clone(),
                format!("`{what}`: expected an array of tables, found a table"),
            )
            .hint(format!("write `[[vm.{id}.{what}]]`, once for each")),
        );
        return None;
    }
    value.array("an array of tables")
}

pub(super) fn nics(
    value: &Value<'_>,
    id: &VmId,
    vcpus: Option<NonZeroU8>,
    shared: &mut Shared<'_>,
) -> Option<Vec<Nic>> {
    let elements = elements(value, id)?;
    if let Some(extra) = elements.get(MOST_NICS) {
        let message = format!(
            "VM `{id}` has {} NICs; the most that one can have is {MOST_NICS}",
            elements.len()
        );
        extra
            .sink
            .report(extra.diagnostic(message).label("one too many"));
    }
    let read: Vec<Option<Nic>> = elements
        .iter()
        .take(MOST_NICS)
        .zip(0..)
        .map(|(element, index)| nic(element, id, index, vcpus, shared))
        .collect();
    let nics: Option<Vec<Nic>> = read.into_iter().collect();
    let queues: u32 = nics
        .iter()
        .flatten()
        .map(|nic| u32::from(nic.queues.get()))
        .sum();
    if queues > u32::from(QueuePairs::MOST) && elements.len() <= MOST_NICS {
        let most = QueuePairs::MOST;
        let message = format!(
            "the NICs of VM `{id}` have {queues} queues together; the most that they can have is {most}"
        );
        let place = value.key_place.clone();
        value.sink.report(Diagnostic::new(place, message));
        return None;
    }
    nics
}

fn nic(
    value: &Value<'_>,
    id: &VmId,
    index: u8,
    vcpus: Option<NonZeroU8>,
    shared: &mut Shared<'_>,
) -> Option<Nic> {
    let mut table = value.table()?;
    let network_value = table.take("network");
    let mac_value = table.take("mac");
    let address_value = table.take("address");
    let gateway_value = table.take("gateway");
    let queues = table.read("queues", QueuePairs::ONE, |value| queues(value, id, vcpus));
    let trust = table.read("trusted", Trust::Checked, |value| {
        Some(if value.boolean()? {
            Trust::Trusted
        } else {
            Trust::Checked
        })
    });

    let network = if let Some(value) = &network_value {
        network(value, shared)
    } else {
        let message = format!("this NIC of VM `{id}` has no `network`");
        value
            .sink
            .report_absence(value.diagnostic(message).hint(declared(shared)));
        None
    };
    let who = format!("NIC {index} of VM `{id}`");
    let (mac, place) = match &mac_value {
        Some(value) => {
            let hint = "leave `mac` out, and it is derived from the VM's name";
            (
                values::parsed::<Mac>(value, "the address of a NIC", Some(hint)),
                &value.place,
            )
        }
        None => (
            Some(Mac::derived("vm", &format!("{id}/{index}"))),
            &value.place,
        ),
    };
    if let Some(mac) = mac {
        table.derived("mac", &mac);
        shared.macs.claim(value.sink, mac, place, &who, || {
            format!("two NICs have the MAC {mac}")
        });
    }
    let tap = LinkName::tap(id, index);
    // Long names are hashed, and two hashes may be equal.
    shared
        .taps
        .claim(value.sink, tap.clone(), &value.place, &who, || {
            format!("two NICs get the link name `{tap}`; give one of the VMs another name")
        });
    let (address, gateway) = match &network {
        Some(name) => {
            let on = address::On {
                name,
                network: shared.lowered.get(name),
            };
            let address = match &address_value {
                Some(value) => address::of_nic(value, on, &who, &mut shared.addresses),
                None => Some(Vec::new()),
            };
            let gateway = address::gateways(gateway_value.as_ref(), on, address.as_deref());
            (address, gateway)
        }
        // It is not known what network they would be on.
        None => (None, None),
    };
    if let Some([gateway]) = gateway.as_deref() {
        table.derived("gateway", gateway);
    }
    table.finish();
    let network = network?;
    let on_macvtap = shared
        .lowered
        .get(&network)
        .is_some_and(|network| matches!(network.kind, NetworkKind::Macvtap(_)));
    if on_macvtap && trust == Some(Trust::Checked) {
        value.sink.report_absence(
            value
                .diagnostic(format!(
                    "nobody can check what VM `{id}` sends on network `{network}`"
                ))
                .hint(
                    "a macvtap leads past the host's bridges, where the check is; say \
                     `trusted = true`, or leave `macvtap` out of the network",
                ),
        );
        return None;
    }
    Some(Nic {
        network,
        mac: mac?,
        tap,
        address: address?,
        gateway: gateway?,
        queues: queues?,
        trust: trust?,
    })
}

/// cloud-hypervisor takes no more pairs than the VM has vCPUs at boot, each of which serves one.
fn queues(value: &Value<'_>, id: &VmId, vcpus: Option<NonZeroU8>) -> Option<QueuePairs> {
    let number = value.integer(1, i64::from(QueuePairs::MOST))?;
    let number = NonZeroU8::new(u8::try_from(number).ok()?)?;
    if let Some(vcpus) = vcpus.filter(|vcpus| number > *vcpus) {
        value.error_with_hint(
            format!("{number} queues are more than the vCPUs of VM `{id}`"),
            format!("it has {vcpus} at boot, and each serves one"),
        );
        return None;
    }
    number.try_into().ok()
}

fn network(value: &Value<'_>, shared: &Shared<'_>) -> Option<NetworkName> {
    let name: NetworkName = values::parsed(value, "the name of a network", None)?;
    if shared.networks.contains(&name) {
        return Some(name);
    }
    let names = shared.networks.iter().map(|name| name.as_str());
    let hint = match did_you_mean(name.as_str(), names) {
        Some(near) => format!("{near} {}", declared(shared)),
        None => declared(shared),
    };
    value.sink.report_absence(
        value
            .diagnostic(format!("network `{name}` is not declared"))
            .hint(hint),
    );
    None
}

/// A hint: the networks that there are.
fn declared(shared: &Shared<'_>) -> String {
    let names: Vec<String> = shared
        .networks
        .iter()
        .map(|name| format!("`{name}`"))
        .collect();
    match names.as_slice() {
        [] => "no network is declared: add a `[network.<name>]`".to_owned(),
        [one] => format!("the declared network is {one}"),
        _ => format!("the declared networks are {}", names.join(", ")),
    }
}
