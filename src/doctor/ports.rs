//! The ports that programs of the host listen on.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Check;
use crate::host::{Forward, Network, Proto};

/// A socket that takes connections, or datagrams of anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    pub proto: Proto,
    pub address: IpAddr,
    pub port: u16,
}

/// Out of /proc/net/tcp, tcp6, udp or udp6 (proc_net(5)): `sl local_address rem_address st …`, the addresses as words of 32
/// bits in the host's order, all in hexadecimal.
pub(super) fn listeners(proto: Proto, table: &str) -> BTreeSet<Listener> {
    // TCP_LISTEN, and TCP_CLOSE of a socket for datagrams that is not connected.
    let open = match proto {
        Proto::Tcp => "0A",
        Proto::Udp => "07",
    };
    let listener = |line: &str| {
        let mut fields = line.split_whitespace();
        let (address, port) = fields.nth(1)?.split_once(':')?;
        let state = fields.nth(1)?;
        (state == open).then_some(())?;
        Some(Listener {
            proto,
            address: parsed(address)?,
            port: u16::from_str_radix(port, 16).ok()?,
        })
    };
    table.lines().filter_map(listener).collect()
}

fn parsed(address: &str) -> Option<IpAddr> {
    let words: Vec<[u8; 4]> = (0..address.len() / 8)
        .map(|word| {
            let word = address.get(word * 8..word * 8 + 8)?;
            Some(u32::from_str_radix(word, 16).ok()?.to_ne_bytes())
        })
        .collect::<Option<_>>()?;
    match words.as_slice() {
        [v4] => Some(Ipv4Addr::from(*v4).into()),
        [_, _, _, _] => {
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            let v6 = Ipv6Addr::from(bytes);
            Some(v6.to_ipv4_mapped().map_or(v6.into(), IpAddr::V4))
        }
        _ => None,
    }
}

/// Ports that a network forwards and a program of the host listens on: it hears of nobody any more.
pub(super) fn taken(
    subject: &str,
    network: &Network,
    listeners: &BTreeSet<Listener>,
) -> Vec<Check> {
    let forwards = network.own().into_iter().flat_map(|own| &own.forward);
    let both = forwards.filter(|forward| listeners.iter().any(|one| takes(forward, *one)));
    both.map(|forward| {
        let (word, option) = match forward.proto {
            Proto::Tcp => ("tcp", "-ltnp"),
            Proto::Udp => ("udp", "-lunp"),
        };
        let port = forward.port;
        Check::warn(
            subject,
            format!(
                "port {port}/{word} is forwarded to VM {}, and a program of the host listens on it too: it gets \
                 nothing from elsewhere any more",
                forward.vm
            ),
            format!("`ss {option} 'sport = :{port}'` shows which; stop that, or forward another `port`"),
        )
    })
    .collect()
}

/// Forwards leave 127.0.0.1 and ::1 alone.
fn takes(forward: &Forward, listener: Listener) -> bool {
    let reached = match forward.address {
        None => !listener.address.is_loopback(),
        Some(address) => listener.address == address || listener.address.is_unspecified(),
    };
    reached && listener.proto == forward.proto && listener.port == forward.port.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_that_listen_are_told_from_others() {
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n   \
                   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n   \
                   1: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n   \
                   2: 0100007F:0017 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0\n";
        let of = |address: &str, port| Listener {
            proto: Proto::Tcp,
            address: address.parse().unwrap(),
            port,
        };
        // The words are in the order of the machine that the tests run on.
        if cfg!(target_endian = "little") {
            let wanted = BTreeSet::from([of("0.0.0.0", 8080), of("127.0.0.1", 22)]);
            assert_eq!(listeners(Proto::Tcp, tcp), wanted);
            let tcp6 = "0: 000080FE00000000FF005450010000FE:0035 0:0 0A\n\
                        1: 0000000000000000FFFF00000101A8C0:0050 0:0 0A\n";
            let wanted = BTreeSet::from([of("fe80::5054:ff:fe00:1", 53), of("192.168.1.1", 80)]);
            assert_eq!(listeners(Proto::Tcp, tcp6), wanted);
        }
        assert!(listeners(Proto::Udp, tcp).is_empty());
        assert!(listeners(Proto::Tcp, "nonsense\n0: x:y z 0A\n").is_empty());
    }
}
