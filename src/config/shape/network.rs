//! `[network.<name>]`.

use schemars::JsonSchema;

use super::value::{Address, Cidr, Families, LinkName, TimeSpan};

/// A network is what VMs' NICs are on: a bridge that nkudo makes, one that exists, or a link of the
/// host. docs/networking.md has a picture of each.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NetworkTable {
    /// The name of the bridge that nkudo makes.
    ///
    /// It cannot begin with `nkt-` or `nkv-`, which other links of nkudo's do. Two networks cannot have one bridge.
    ///
    /// Default: `nk-<name>`; a hash in place of a name of more than 12 characters
    /// Example: `bridge = "br0"`
    /// Becomes: `Name=` in systemd.netdev(5)
    pub bridge: Option<LinkName>,

    /// A bridge that is not nkudo's. VMs' TAPs become ports of it, and nothing else of it is changed.
    ///
    /// With it, only `isolate`, `dns` and `domain` can be.
    ///
    /// Default: none: nkudo makes a bridge
    /// Example: `existing-bridge = "br0"`
    /// Becomes: the bridge that TAPs are ports of
    pub existing_bridge: Option<LinkName>,

    /// A link of the host that goes into the bridge, so that VMs are on the network that it leads to.
    ///
    /// It cannot have addresses of the host's: give those to the bridge.
    ///
    /// Default: none
    /// Example: `uplink = "eth1"`
    /// Becomes: `Bridge=` in systemd.network(5)
    pub uplink: Option<LinkName>,

    /// The VLAN of the uplink that VMs are on: 1 to 4094. Frames have its tag on the uplink and none in the VM.
    ///
    /// The uplink keeps its addresses and all else.
    ///
    /// Default: none: frames without a tag
    /// Example: `vlan = 42`
    /// Becomes: a link `nkv-<name>`
    #[schemars(range(min = 1, max = 4094))]
    pub vlan: Option<u16>,

    /// Whether VMs are on the uplink itself, by a macvtap each, and not on a bridge.
    ///
    /// They reach what the uplink leads to, and not the host. Their NICs must be `trusted`.
    ///
    /// Default: `false`
    /// Example: `macvtap = true`
    /// Becomes: a link `nkt-<id>-<number>` on the uplink, for each NIC
    pub macvtap: Option<bool>,

    /// The host's own addresses on the bridge.
    ///
    /// Not the network's own address (`192.168.100.0/24`). The prefixes of two networks cannot overlap.
    ///
    /// Default: `[]`
    /// Example: `address = ["192.168.100.1/24", "fd00:100::1/64"]`
    /// Becomes: `Address=` in systemd.network(5)
    pub address: Option<Vec<Cidr>>,

    /// Whether VMs reach the rest of the world as if they were the host.
    ///
    /// `true` is for each family that `address` has one of.
    ///
    /// Default: `false`
    /// Example: `nat = true`
    /// Becomes: `masquerade` in nkudo's nftables table, and forwarding
    pub nat: Option<Families>,

    /// Whether the host passes packets between VMs and the rest of the world as they are, both ways.
    ///
    /// `true` is for each family that `address` has one of.
    ///
    /// Default: `false`
    /// Example: `route = "ipv6"`
    /// Becomes: forwarding
    pub route: Option<Families>,

    /// Whether VMs get their addresses by DHCP, and IPv6 ones by router advertisement.
    ///
    /// A NIC with an `address` always gets that. Router advertisements are for prefixes of 64 bits.
    ///
    /// Default: `false`
    /// Example: `dhcp = { range = "192.168.100.100-199" }`
    /// Becomes: `DHCPServer=` and `IPv6SendRA=` in systemd.network(5), or dnsmasq(8)
    pub dhcp: Option<DhcpValue>,

    /// The DNS servers that guests are told of.
    ///
    /// Default: `[]`
    /// Example: `dns = ["192.0.2.53", "2001:db8::53"]`
    /// Becomes: `DNS=` in systemd.network(5), or dnsmasq's `--dhcp-option`
    pub dns: Option<Vec<Address>>,

    /// The domain that guests are told of.
    ///
    /// Default: none
    /// Example: `domain = "vms.example.org"`
    /// Becomes: option 15 of DHCP, `Domains=` in systemd.network(5), or dnsmasq's `--domain`
    pub domain: Option<String>,

    /// Whether VMs of this network are kept from reaching each other. They reach the host and the uplink.
    ///
    /// Default: `false`
    /// Example: `isolate = true`
    /// Becomes: the `isolated` flag of each TAP as a port of the bridge
    pub isolate: Option<bool>,

    /// Ports of the host that lead to VMs.
    ///
    /// Default: `[]`
    /// Example: `forward = [{ port = 8080, to = "web:80" }]`
    /// Becomes: `dnat` in nkudo's nftables table
    pub forward: Option<Vec<ForwardTable>>,
}

/// `true`, or a table.
#[derive(Debug, JsonSchema)]
#[schemars(untagged, inline)]
pub enum DhcpValue {
    Switch(bool),
    Table(DhcpTable),
}

/// What is handed out.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DhcpTable {
    /// The IPv4 addresses that are handed out: the first, `-`, and the last or its last number.
    ///
    /// Default: all of the first IPv4 address's prefix that are nobody's
    /// Example: `range = "192.168.100.100-199"`
    /// Becomes: `PoolOffset=` and `PoolSize=` in systemd.network(5), or dnsmasq's `--dhcp-range`
    #[schemars(regex(pattern = r"^[0-9.]+ *- *[0-9.]+$"))]
    pub range: Option<String>,

    /// How long an address is a guest's before it has to ask again: 2 min or more.
    ///
    /// Default: `"1h"`
    /// Example: `lease = "12h"`
    /// Becomes: `DefaultLeaseTimeSec=` in systemd.network(5), or dnsmasq's `--dhcp-range`
    pub lease: Option<TimeSpan>,
}

/// A port of the host that leads to a VM.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ForwardTable {
    /// The host's port: 1 to 65535.
    ///
    /// Example: `port = 8080`
    /// Becomes: `dport` in nkudo's nftables table
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,

    /// The VM, and its port where that is another one. The VM's NIC on this network needs an `address`.
    ///
    /// Example: `to = "web:80"`
    /// Becomes: `dnat to` in nkudo's nftables table
    #[schemars(regex(pattern = r"^[a-z0-9-]+(:[0-9]+)?$"))]
    pub to: String,

    /// The protocol.
    ///
    /// Default: `"tcp"`
    /// Example: `proto = "udp"`
    /// Becomes: `udp dport` in nkudo's nftables table
    pub proto: Option<ProtoWord>,

    /// The host's address that it is a port of.
    ///
    /// Default: every address of the host's, but not `127.0.0.1` and `::1`
    /// Example: `address = "192.0.2.10"`
    /// Becomes: `daddr` in nkudo's nftables table
    pub address: Option<Address>,
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", inline)]
pub enum ProtoWord {
    Tcp,
    Udp,
}
