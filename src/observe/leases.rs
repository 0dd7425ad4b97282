//! The addresses that DHCP servers have handed out.

use std::io::Read as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::time::{ClockId, clock_gettime};
use zbus::Connection;

use crate::host::{Host, LinkName, Network, NetworkName};
use crate::network::Backend;
use crate::network_status::{Lease, Leases};
use crate::systemd::{DhcpServerProxy, LeaseOfNetworkd, Network1Proxy};
use crate::unit::leases_file;

/// How long networkd may take to say what it handed out.
const LIMIT: Duration = Duration::from_secs(2);
/// How much of a file of leases is read: some ten thousand of them.
const MOST: u64 = 1 << 20;

/// The leases of the networks that hand out IPv4 addresses. A server that cannot be asked is left out.
pub async fn leases(bus: &Connection, host: &Host, backend: Backend) -> Leases {
    let mut leases = Leases::new();
    for (name, bridge) in host.networks.iter().filter_map(served) {
        let found = match backend {
            Backend::Networkd => tokio::time::timeout(LIMIT, of_networkd(bus, bridge))
                .await
                .ok()
                .and_then(Result::ok),
            Backend::Netlink => of_dnsmasq(name).ok(),
        };
        if let Some(mut found) = found {
            found.retain(|lease| lease.expires > now(ClockId::Realtime));
            found.sort();
            leases.insert(name.clone(), found);
        }
    }
    leases
}

fn served<'a>(
    (name, network): (&'a NetworkName, &'a Network),
) -> Option<(&'a NetworkName, &'a LinkName)> {
    let bridge = network.own()?;
    bridge.dhcp.as_ref()?.pool?;
    Some((name, &bridge.name))
}

async fn of_networkd(bus: &Connection, bridge: &LinkName) -> zbus::Result<Vec<Lease>> {
    let networkd = Network1Proxy::new(bus).await?;
    let (_, path) = networkd.get_link_by_name(bridge.as_str()).await?;
    let server = DhcpServerProxy::builder(bus).path(path).build().await?;
    // Its times count from the boot.
    let (boot, real) = (now(ClockId::Boottime), now(ClockId::Realtime));
    let lease = |(_, _, address, _, mac, expires): LeaseOfNetworkd| {
        Some(Lease {
            address: Ipv4Addr::from(<[u8; 4]>::try_from(address.as_slice()).ok()?),
            mac: mac.get(..6)?.try_into().ok()?,
            expires: expires.saturating_sub(boot).saturating_add(real),
        })
    };
    Ok(server
        .leases()
        .await?
        .into_iter()
        .filter_map(lease)
        .collect())
}

/// dnsmasq's file is a dynamic user's to write: no link is followed, and no pipe waited for.
fn of_dnsmasq(network: &NetworkName) -> std::io::Result<Vec<Lease>> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let file = std::fs::File::options()
        .read(true)
        .custom_flags(flags.cast_signed())
        .open(leases_file(network))?;
    let mut bytes = Vec::new();
    if file.metadata()?.is_file() {
        file.take(MOST).read_to_end(&mut bytes)?;
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().filter_map(line).collect())
}

/// `1764000000 2e:82:35:7c:9c:74 192.168.100.10 web 01:2e:82:35:7c:9c:74`
fn line(line: &str) -> Option<Lease> {
    let mut words = line.split_whitespace();
    let seconds: u64 = words.next()?.parse().ok()?;
    let mut mac = [0; 6];
    let mut digits = words.next()?.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(digits.next()?, 16).ok()?;
    }
    Some(Lease {
        mac,
        address: words.next()?.parse().ok()?,
        expires: seconds.checked_mul(1_000_000)?,
    })
}

/// Microseconds.
fn now(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let micros = i128::from(time.tv_sec) * 1_000_000 + i128::from(time.tv_nsec) / 1000;
    u64::try_from(micros).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dnsmasqs_lines_are_read() {
        let text = "1764000000 2e:82:35:7c:9c:74 192.168.100.10 web 01:2e:82:35:7c:9c:74";
        let lease = line(text).unwrap();
        assert_eq!(lease.address, Ipv4Addr::new(192, 168, 100, 10));
        assert_eq!(lease.mac, [0x2e, 0x82, 0x35, 0x7c, 0x9c, 0x74]);
        assert_eq!(lease.expires, 1_764_000_000_000_000);
        assert_eq!(line("duid 00:01:00:01"), None);
    }
}
