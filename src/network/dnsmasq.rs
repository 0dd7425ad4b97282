//! What hands out addresses where networkd does not: dnsmasq(8), by its command line.

use std::net::IpAddr;

use ipnet::IpNet;

use super::networkd::{advertised, listed};
use super::nics;
use crate::host::{Family, Forwarding, Host, NetworkName};

/// The arguments of the dnsmasq of a network; nothing where it hands out nothing. `state` is the
/// directory that it may write to.
pub fn dnsmasq(host: &Host, name: &NetworkName, state: &str) -> Option<Vec<String>> {
    let network = host.networks.get(name)?;
    let bridge = network.own()?;
    let dhcp = bridge.dhcp.as_ref()?;
    let link = &bridge.name;
    let lease = dhcp.lease.duration().as_secs();
    // No file of the host's is read: everything is in this line.
    let mut args: Vec<String> = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--no-ping",
        // DHCP only: no port for DNS.
        "--port=0",
        "--bind-dynamic",
        "--except-interface=lo",
        "--dhcp-authoritative",
        "--log-facility=-",
    ]
    .map(str::to_owned)
    .to_vec();
    args.push(format!("--interface={link}"));
    args.push(format!("--dhcp-leasefile={state}/leases"));
    let dns = |family| listed(&network.dns, family);
    if let Some(pool) = dhcp.pool {
        args.push(format!(
            "--dhcp-range={},{},{},{lease}",
            pool.first,
            pool.last,
            pool.server.netmask()
        ));
        args.push(match bridge.ipv4 {
            // Without a value it is not sent; left out, the server says itself.
            Forwarding::Off => "--dhcp-option=option:router".to_owned(),
            Forwarding::Route | Forwarding::Masquerade => {
                format!("--dhcp-option=option:router,{}", pool.server.addr())
            }
        });
        let dns = dns(Family::Ipv4);
        args.push(match dns.as_slice() {
            [] => "--dhcp-option=option:dns-server".to_owned(),
            _ => format!("--dhcp-option=option:dns-server,{}", dns.join(",")),
        });
        for (_, nic) in nics(host, name) {
            let mut addresses = nic.addresses(Family::Ipv4).map(IpNet::addr);
            let on_pool = |ip: &IpAddr| matches!(ip, IpAddr::V4(ip) if pool.server.contains(ip));
            if let Some(ip) = addresses.find(on_pool) {
                args.push(format!("--dhcp-host={},{ip}", nic.mac));
            }
        }
    }
    if advertised(bridge).next().is_some() {
        args.push("--enable-ra".to_owned());
        // As networkd's: an interval and a lifetime, which is 0 where there is no way out.
        let lifetime = match bridge.ipv6 {
            Forwarding::Off => 0,
            Forwarding::Route | Forwarding::Masquerade => 1800,
        };
        args.push(format!("--ra-param={link},200,{lifetime}"));
        for net in advertised(bridge) {
            args.push(format!("--dhcp-range={},ra-only,64,{lease}", net.network()));
        }
        let dns = dns(Family::Ipv6);
        args.push(if dns.is_empty() {
            "--dhcp-option=option6:dns-server".to_owned()
        } else {
            let bracketed: Vec<String> = dns.iter().map(|ip| format!("[{ip}]")).collect();
            format!("--dhcp-option=option6:dns-server,{}", bracketed.join(","))
        });
    }
    if let Some(domain) = &network.domain {
        args.push(format!("--domain={domain}"));
        args.push(format!("--dhcp-option=option6:domain-search,{domain}"));
    }
    Some(args)
}
