//! Networks as the files of systemd-networkd (systemd.netdev(5), systemd.network(5)).
//!
//! They are written to /run/systemd/network, where networkd runs. networkd then owns the bridges,
//! their addresses, and what hands out addresses; it never owns a TAP or a VLAN's link.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Backend, nics};
use crate::host::{
    Bridge, Dhcp, Family, Forwarding, Host, LinkName, Network, NetworkKind, NetworkName,
};

/// Where the files go: they die with the boot, as everything does that they are for.
pub const NETWORKD_DIR: &str = "/run/systemd/network";

/// The file that tells networkd to leave TAPs alone. It is there before the first TAP: networkd
/// would take one that a catch-all `.network` of the administrator's matches.
const UNMANAGED: &str = "05-nkudo.network";

/// Begins the names of a bridge's files. Early, because networkd takes the first file that matches a
/// link, and an administrator's catch-all (`10-all.network`) would else get the bridge.
const BRIDGE_FILES: &str = "05-nkudo-";

/// Begins the names of uplinks' files. No link's name holds a `+`.
const UPLINK_FILES: &str = "05-nkudo+";

/// The `.network` of a bridge.
pub fn network_file_name(bridge: &LinkName) -> String {
    format!("{BRIDGE_FILES}{bridge}.network")
}

/// The `.network` of an uplink that is put into a bridge.
pub fn uplink_file_name(uplink: &LinkName) -> String {
    format!("{UPLINK_FILES}{uplink}.network")
}

/// Whether a file in `NETWORKD_DIR` is one of nkudo's, by its name.
pub fn is_ours(file_name: &str) -> bool {
    file_name == UNMANAGED
        || file_name.starts_with(BRIDGE_FILES)
        || file_name.starts_with(UPLINK_FILES)
}

/// The files by name. With the netlink backend networkd is told to leave the bridges alone too.
pub fn files(host: &Host, backend: Backend) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    // Without a network there is no TAP either.
    if host.networks.is_empty() {
        return files;
    }
    let mut unmanaged = format!("{}*", LinkName::TAP_PREFIX);
    let vlans = host
        .networks
        .values()
        .any(|network| network.uplink().is_some_and(|uplink| uplink.vlan.is_some()));
    if vlans {
        let _ = write!(unmanaged, " {}*", LinkName::VLAN_PREFIX);
    }
    for (name, network) in &host.networks {
        let NetworkKind::Bridge(bridge) = &network.kind else {
            continue;
        };
        let uplink = bridge
            .uplink
            .as_ref()
            .filter(|uplink| uplink.vlan.is_none())
            .map(|uplink| &uplink.link);
        match backend {
            Backend::Netlink => {
                let _ = write!(unmanaged, " {}", bridge.name);
                if let Some(uplink) = uplink {
                    let _ = write!(unmanaged, " {uplink}");
                }
            }
            Backend::Networkd => {
                files.insert(
                    format!("{BRIDGE_FILES}{}.netdev", bridge.name),
                    netdev(bridge),
                );
                files.insert(
                    network_file_name(&bridge.name),
                    network_file(host, name, network, bridge),
                );
                if let Some(uplink) = uplink {
                    files.insert(uplink_file_name(uplink), uplink_file(uplink, bridge));
                }
            }
        }
    }
    files.insert(
        UNMANAGED.to_owned(),
        format!("[Match]\nName={unmanaged}\n\n[Link]\nUnmanaged=yes\n"),
    );
    files
}

fn netdev(bridge: &Bridge) -> String {
    let name = &bridge.name;
    let mac = Network::bridge_mac(name);
    // Without a forward delay a port forwards at once; the kernel's default is 15 s of silence
    // for a guest that has just booted. There is no loop to find: STP is off.
    format!(
        "[NetDev]\nName={name}\nKind=bridge\nMACAddress={mac}\n\n\
         [Bridge]\nSTP=no\nForwardDelaySec=0\n"
    )
}

fn network_file(host: &Host, name: &NetworkName, network: &Network, bridge: &Bridge) -> String {
    // A bridge without a running VM has no carrier: it is configured nevertheless, and the host's
    // network-online.target does not wait for it.
    let mut text = format!(
        "[Match]\nName={}\nKind=bridge\n\n[Link]\nRequiredForOnline=no\n\n\
         [Network]\nConfigureWithoutCarrier=yes\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=no\n",
        bridge.name
    );
    for address in &bridge.address {
        let _ = writeln!(text, "Address={address}");
    }
    if let Some(dhcp) = &bridge.dhcp {
        if dhcp.pool.is_some() {
            text.push_str("DHCPServer=yes\n");
        }
        if advertised(bridge).next().is_some() {
            text.push_str("IPv6SendRA=yes\n");
        }
        dhcp_server(&mut text, network, bridge, dhcp);
        leases(&mut text, host, name, dhcp);
        router_advertisement(&mut text, network, bridge);
    }
    text
}

/// The prefixes that a guest can make its own address in: only those of 64 bits (RFC 4862).
pub(super) fn advertised(bridge: &Bridge) -> impl Iterator<Item = &IpNet> {
    bridge
        .addresses(Family::Ipv6)
        .filter(|net| net.prefix_len() == 64)
}

fn dhcp_server(text: &mut String, network: &Network, bridge: &Bridge, dhcp: &Dhcp) {
    let Some(pool) = dhcp.pool else { return };
    let offset = u32::from(pool.first) - u32::from(pool.server.network());
    let size = u32::from(pool.last) - u32::from(pool.first) + 1;
    let lease = dhcp.lease.duration().as_secs();
    let router = yes(bridge.ipv4 != Forwarding::Off);
    let dns = listed(&network.dns, Family::Ipv4);
    // What the host itself was told by its own network is none of the guests' business.
    let _ = write!(
        text,
        "\n[DHCPServer]\nServerAddress={}\nPoolOffset={offset}\nPoolSize={size}\nDefaultLeaseTimeSec={lease}\n\
         MaxLeaseTimeSec={lease}\nEmitRouter={router}\nEmitDNS={}\nEmitNTP=no\nEmitTimezone=no\n",
        pool.server,
        yes(!dns.is_empty())
    );
    if !dns.is_empty() {
        let _ = writeln!(text, "DNS={}", dns.join(" "));
    }
    if let Some(domain) = &network.domain {
        // RFC 2132, option 15: the domain name.
        let _ = writeln!(text, "SendOption=15:string:{domain}");
    }
}

/// The fixed addresses.
fn leases(text: &mut String, host: &Host, name: &NetworkName, dhcp: &Dhcp) {
    let Some(pool) = dhcp.pool else { return };
    for (_, nic) in nics(host, name) {
        let mut addresses = nic.addresses(Family::Ipv4).map(IpNet::addr);
        // A client has one address of one server.
        let on_pool = |ip: &IpAddr| matches!(ip, IpAddr::V4(ip) if pool.server.contains(ip));
        if let Some(ip) = addresses.find(on_pool) {
            let _ = write!(
                text,
                "\n[DHCPServerStaticLease]\nMACAddress={}\nAddress={ip}\n",
                nic.mac
            );
        }
    }
}

fn router_advertisement(text: &mut String, network: &Network, bridge: &Bridge) {
    if advertised(bridge).next().is_none() {
        return;
    }
    let dns = listed(&network.dns, Family::Ipv6);
    // A lifetime of 0 says: an address, but no way out (RFC 4861, 4.2).
    let lifetime = match bridge.ipv6 {
        Forwarding::Off => 0,
        Forwarding::Route | Forwarding::Masquerade => 1800,
    };
    let _ = write!(
        text,
        "\n[IPv6SendRA]\nRouterLifetimeSec={lifetime}\nEmitDNS={}\nEmitDomains={}\n",
        yes(!dns.is_empty()),
        yes(network.domain.is_some())
    );
    if !dns.is_empty() {
        let _ = writeln!(text, "DNS={}", dns.join(" "));
    }
    if let Some(domain) = &network.domain {
        let _ = writeln!(text, "Domains={domain}");
    }
    for net in advertised(bridge) {
        let _ = write!(text, "\n[IPv6Prefix]\nPrefix={}\n", net.trunc());
    }
}

fn uplink_file(uplink: &LinkName, bridge: &Bridge) -> String {
    format!(
        "[Match]\nName={uplink}\n\n[Link]\nRequiredForOnline=no\n\n\
         [Network]\nBridge={}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
        bridge.name
    )
}

fn yes(whether: bool) -> &'static str {
    if whether { "yes" } else { "no" }
}

/// The addresses of a family, as text.
pub(super) fn listed(addresses: &[IpAddr], family: Family) -> Vec<String> {
    addresses
        .iter()
        .filter(|ip| Family::of(**ip) == family)
        .map(ToString::to_string)
        .collect()
}
