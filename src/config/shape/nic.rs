//! `[[vm.<id>.nic]]`.

use schemars::JsonSchema;

use super::value::{Address, Mac, MaybeCidr, Name, OneOrMore};

/// A NIC. The host's end is a TAP, `nkt-<id>-<number>`, a port of the network's bridge.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NicTable {
    /// The network that it is on, by its name in this configuration.
    ///
    /// Example: `network = "lan"`
    /// Becomes: the bridge that the TAP is a port of
    pub network: Name,

    /// The guest's Ethernet address: unicast, no two the same.
    ///
    /// Default: derived from the VM's id and the NIC's number, always the same
    /// Example: `mac = "52:54:00:12:34:56"`
    /// Becomes: `--net mac=`
    pub mac: Option<Mac>,

    /// The guest's addresses: one, or an array. Without the length of the prefix it is that of the network's.
    ///
    /// They are what DHCP gives the guest, what a port forward leads to, and all that may leave the VM.
    /// No two NICs of a network have the same.
    ///
    /// Default: `[]`: any of the network's that is nobody else's
    /// Example: `address = "192.168.100.10"`
    /// Becomes: `[DHCPServerStaticLease]` in systemd.network(5), or dnsmasq's `--dhcp-host`
    pub address: Option<OneOrMore<MaybeCidr>>,

    /// Where the guest sends what is not on the network: at most one for each family.
    ///
    /// Default: the host's address on the network, where the network has `nat` or `route`
    /// Example: `gateway = "192.168.100.1"`
    /// Becomes: the default route in the guest's network configuration
    pub gateway: Option<OneOrMore<Address>>,

    /// Pairs of queues: at most as many as the VM has vCPUs at boot, and 16 over all its NICs. More let more vCPUs
    /// send at a time.
    ///
    /// Default: `1`
    /// Example: `queues = 4`
    /// Becomes: `--net num_queues=`, twice that
    #[schemars(range(min = 1, max = 16))]
    pub queues: Option<u8>,

    /// Whether what the VM sends is passed on unchecked.
    ///
    /// Otherwise only its own Ethernet and IP addresses leave it, and no answers of a DHCP server or a router.
    ///
    /// Default: `false`
    /// Example: `trusted = true`
    /// Becomes: no chain for the NIC in nkudo's nftables table
    pub trusted: Option<bool>,
}
