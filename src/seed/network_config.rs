//! `network-config`, version 2, as cloud-init and netplan have it.

use super::yaml::Yaml;
use crate::host::Nic;

/// The guest's NICs, each known by its Ethernet address.
///
/// They get the names that they would have without systemd's naming, in the order of the file:
/// cloud-init's renderers for networkd and sysconfig match a NIC by its name as well as by its address.
pub(super) fn network_config(nics: &[Nic]) -> String {
    let nics = nics.iter().enumerate().map(|(index, nic)| {
        let name = format!("eth{index}");
        let matched = Yaml::map([("macaddress", Yaml::text(nic.mac.to_string()))]);
        let settings = Yaml::map([
            ("match", matched),
            ("set-name", Yaml::text(&name)),
            ("dhcp4", Yaml::Flag(true)),
        ]);
        (name, settings)
    });
    Yaml::map([
        ("version", Yaml::Number(2)),
        ("ethernets", Yaml::Map(nics.collect())),
    ])
    .document()
}
