//! What NetworkManager is told of nkudo's links: a file of its own configuration (NetworkManager.conf(5)).

use std::fmt::Write as _;

use crate::host::{Host, LinkName, Network};

/// It is there where NetworkManager runs; only then does nkudo write below it.
pub const NETWORK_MANAGER_DIR: &str = "/run/NetworkManager";

/// nkudo's file. It dies with the boot, as everything does that it is for.
pub const NETWORK_MANAGER_FILE: &str = "/run/NetworkManager/conf.d/nkudo.conf";

/// The file's text, where there is a network: TAPs, macvtaps, VLANs' links and nkudo's own bridges are
/// not NetworkManager's. An uplink and a bridge of somebody else's are left to whoever has them.
pub fn network_manager(host: &Host) -> Option<String> {
    // Without a network there is no TAP either.
    if host.networks.is_empty() {
        return None;
    }
    // `+=` adds to what the administrator's files list.
    let mut text = format!(
        "[keyfile]\nunmanaged-devices+=interface-name:{}*",
        LinkName::TAP_PREFIX
    );
    let vlans = host
        .networks
        .values()
        .any(|network| network.uplink().is_some_and(|uplink| uplink.vlan.is_some()));
    if vlans {
        let _ = write!(text, ";interface-name:{}*", LinkName::VLAN_PREFIX);
    }
    for bridge in host.networks.values().filter_map(Network::own) {
        let _ = write!(text, ";interface-name:{}", bridge.name);
    }
    text.push('\n');
    Some(text)
}
