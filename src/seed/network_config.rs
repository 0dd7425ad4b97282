//! `network-config`, version 2, as cloud-init and netplan have it.

use std::collections::BTreeMap;

use super::yaml::Yaml;
use crate::host::{Family, Network, NetworkName, Nic};

/// The guest's NICs, each known by its Ethernet address.
///
/// They get the names that they would have without systemd's naming, in the order of the file:
/// cloud-init's renderers for networkd and sysconfig match a NIC by its name as well as by its address.
/// Where the network hands out addresses, or the NIC has none, the guest asks for one; it gets the NIC's own.
pub(super) fn network_config(nics: &[Nic], networks: &BTreeMap<NetworkName, Network>) -> String {
    let nics = nics.iter().enumerate().map(|(index, nic)| {
        let name = format!("eth{index}");
        let network = networks.get(&nic.network);
        let matched = Yaml::map([("macaddress", Yaml::text(nic.mac.to_string()))]);
        let mut settings = vec![
            ("match".to_owned(), matched),
            ("set-name".to_owned(), Yaml::text(&name)),
        ];
        let served = network
            .and_then(Network::own)
            .is_some_and(|bridge| bridge.dhcp.is_some());
        if served || nic.address.is_empty() {
            settings.push(("dhcp4".to_owned(), Yaml::Flag(true)));
        } else {
            settings.extend(fixed(nic, network));
        }
        (name, Yaml::Map(settings))
    });
    Yaml::map([
        ("version", Yaml::Number(2)),
        ("ethernets", Yaml::Map(nics.collect())),
    ])
    .document()
}

/// The NIC's addresses, its ways out, and what the network says of names.
fn fixed(nic: &Nic, network: Option<&Network>) -> Vec<(String, Yaml)> {
    let mut settings = vec![("addresses".to_owned(), Yaml::texts(&nic.address))];
    let routes = nic.gateway.iter().map(|gateway| {
        let to = match Family::of(*gateway) {
            Family::Ipv4 => "0.0.0.0/0",
            Family::Ipv6 => "::/0",
        };
        Yaml::map([
            ("to", Yaml::text(to)),
            ("via", Yaml::text(gateway.to_string())),
        ])
    });
    let routes: Vec<Yaml> = routes.collect();
    if !routes.is_empty() {
        settings.push(("routes".to_owned(), Yaml::List(routes)));
    }
    let mut names = Vec::new();
    if let Some(network) = network {
        if !network.dns.is_empty() {
            names.push(("addresses".to_owned(), Yaml::texts(&network.dns)));
        }
        names.extend(
            network
                .domain
                .iter()
                .map(|domain| ("search".to_owned(), Yaml::texts([domain]))),
        );
    }
    if !names.is_empty() {
        settings.push(("nameservers".to_owned(), Yaml::Map(names)));
    }
    settings
}
