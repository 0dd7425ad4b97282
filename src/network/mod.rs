//! What networks lead to, as data: networkd's and NetworkManager's files, nftables' rules, dnsmasq's command line.

#![deny(clippy::disallowed_methods)]

mod dnsmasq;
mod network_manager;
mod networkd;
mod nftables;

pub use dnsmasq::dnsmasq;
pub use network_manager::{NETWORK_MANAGER_DIR, NETWORK_MANAGER_FILE, network_manager};
pub use networkd::{NETWORKD_DIR, files, is_ours, network_file_name, uplink_file_name};
pub use nftables::{NO_RULES, TABLES, rules, with_rules};

use crate::host::{Host, NetworkName, Nic, VmId};

/// Who makes the bridges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Networkd,
    /// nkudo itself, by rtnetlink.
    Netlink,
}

/// The NICs on a network, with the VMs that have them.
pub fn nics<'a>(
    host: &'a Host,
    network: &'a NetworkName,
) -> impl Iterator<Item = (&'a VmId, &'a Nic)> {
    host.vms
        .iter()
        .flat_map(|(id, vm)| vm.nics.iter().map(move |nic| (id, nic)))
        .filter(move |(_, nic)| nic.network == *network)
}
