//! Networks as the files of systemd-networkd (systemd.netdev(5), systemd.network(5)), as data.
//!
//! They are written to /run/systemd/network, where networkd runs. networkd then owns the bridges
//! and their addresses; it never owns a TAP.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::host::{LinkName, Network, NetworkName};

/// Where the files go: they die with the boot, as everything does that they are for.
pub const NETWORKD_DIR: &str = "/run/systemd/network";

/// Who makes the bridges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Networkd,
    /// nkudo itself, by rtnetlink.
    Netlink,
}

/// The file that tells networkd to leave TAPs alone. It is there before the first TAP: networkd
/// would take one that a catch-all `.network` of the administrator's matches.
const UNMANAGED: &str = "05-nkudo.network";

/// Begins the names of a bridge's files. Early, because networkd takes the first file that matches a
/// link, and an administrator's catch-all (`10-all.network`) would else get the bridge.
const BRIDGE_FILES: &str = "05-nkudo-";

/// The `.network` of a bridge.
pub fn network_file_name(bridge: &LinkName) -> String {
    format!("{BRIDGE_FILES}{bridge}.network")
}

/// Whether a file in `NETWORKD_DIR` is one of nkudo's, by its name.
pub fn is_ours(file_name: &str) -> bool {
    file_name == UNMANAGED || file_name.starts_with(BRIDGE_FILES)
}

/// The files by name. With the netlink backend networkd is told to leave the bridges alone too.
pub fn files(
    networks: &BTreeMap<NetworkName, Network>,
    backend: Backend,
) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    // Without a network there is no TAP either.
    if networks.is_empty() {
        return files;
    }
    let mut unmanaged = format!("{}*", LinkName::TAP_PREFIX);
    for network in networks.values() {
        match backend {
            Backend::Netlink => {
                let _ = write!(unmanaged, " {}", network.bridge);
            }
            Backend::Networkd => {
                let bridge = &network.bridge;
                files.insert(format!("{BRIDGE_FILES}{bridge}.netdev"), netdev(network));
                files.insert(network_file_name(bridge), network_file(network));
            }
        }
    }
    files.insert(
        UNMANAGED.to_owned(),
        format!("[Match]\nName={unmanaged}\n\n[Link]\nUnmanaged=yes\n"),
    );
    files
}

fn netdev(network: &Network) -> String {
    let bridge = &network.bridge;
    let mac = Network::bridge_mac(bridge);
    // Without a forward delay a port forwards at once; the kernel's default is 15 s of silence
    // for a guest that has just booted. There is no loop to find: STP is off.
    format!(
        "[NetDev]\nName={bridge}\nKind=bridge\nMACAddress={mac}\n\n\
         [Bridge]\nSTP=no\nForwardDelaySec=0\n"
    )
}

fn network_file(network: &Network) -> String {
    // A bridge without a running VM has no carrier: it is configured nevertheless, and the host's
    // network-online.target does not wait for it.
    let mut text = format!(
        "[Match]\nName={}\nKind=bridge\n\n[Link]\nRequiredForOnline=no\n\n\
         [Network]\nConfigureWithoutCarrier=yes\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=no\n",
        network.bridge
    );
    for address in &network.address {
        let _ = writeln!(text, "Address={address}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lan() -> BTreeMap<NetworkName, Network> {
        let network = Network {
            bridge: LinkName::bridge(&"lan".parse().unwrap()),
            address: vec!["192.168.100.1/24".parse().unwrap()],
        };
        BTreeMap::from([("lan".parse().unwrap(), network)])
    }

    #[test]
    fn networkd_has_a_netdev_and_a_network_for_each_bridge_and_leaves_taps_alone() {
        let files = files(&lan(), Backend::Networkd);
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "05-nkudo-nk-lan.netdev",
                "05-nkudo-nk-lan.network",
                "05-nkudo.network"
            ]
        );
        assert!(names.iter().all(|name| is_ours(name)));
        assert!(files["05-nkudo.network"].contains("Name=nkt-*\n"));
        assert!(files["05-nkudo-nk-lan.network"].contains("Address=192.168.100.1/24\n"));
    }

    #[test]
    fn with_the_netlink_backend_networkd_leaves_the_bridges_alone_too() {
        let files = files(&lan(), Backend::Netlink);
        assert_eq!(files.len(), 1);
        assert!(files["05-nkudo.network"].contains("Name=nkt-* nk-lan\n"));
    }
}
