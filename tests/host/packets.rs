//! Networks, proved by packets: what VMs reach, what reaches them, and what may not leave them.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::guest::Then;
use super::host::{Host, vm};
use super::machine::Networkd;
use super::outside::outside;
use super::peer::{EVERYBODY, IN_VAIN, Peer, arp, ethernet, ip6, udp4};
use super::until::until;

cases![
    vms_reach_the_world_and_are_reached_by_forwarded_ports_with_networkd,
    vms_reach_the_world_and_are_reached_by_forwarded_ports_without_networkd,
    what_is_not_a_vms_own_does_not_leave_it,
    isolated_vms_reach_the_host_and_not_each_other,
    a_nic_of_several_queues_has_a_tap_of_as_many,
];

/// A network of NAT, with all that a host does for it.
const NAT: &str = "[network.lan]\n\
     address = [\"192.168.100.1/24\", \"fd00:100::1/64\"]\n\
     nat = true\n\
     dhcp = { range = \"192.168.100.100-199\" }\n\
     dns = [\"192.0.2.53\"]\n\
     domain = \"vms.example.org\"\n\
     forward = [{ port = 8080, to = \"web:80\" }]\n";

/// The VM with a fixed address.
fn fixed(id: &str, number: u8, more: &str) -> String {
    format!(
        "{}address = [\"192.168.100.{number}\", \"fd00:100::{number}\"]\n{more}",
        vm(id, "")
    )
}

fn vms_reach_the_world_and_are_reached_by_forwarded_ports_with_networkd() {
    world(Networkd::On);
}

fn vms_reach_the_world_and_are_reached_by_forwarded_ports_without_networkd() {
    world(Networkd::Off);
}

fn world(networkd: Networkd) {
    let host = Host::boot(networkd);
    outside(&host);
    for id in ["web", "db"] {
        host.guest(id, Then::PowerOffWhenAsked);
    }
    let config = [NAT, &fixed("web", 10, ""), &vm("db", "")].concat();
    host.switch_to(&config).done();
    host.nkudo(&["switch"]).done().says("nothing to do");
    assert_eq!(
        [
            forwarding(&host, "nk-lan"),
            forwarding(&host, "eth0"),
            forwarding(&host, "all")
        ],
        ["1", "1", "0"]
    );

    // Addresses: the fixed one, and one of the range.
    let lease = Peer::of(&host, "web").dhcp().expect("web gets an address");
    assert_eq!(lease.address, "192.168.100.10/24");
    assert_eq!(lease.router.as_deref(), Some("192.168.100.1"));
    assert_eq!(lease.dns, ["192.0.2.53"]);
    let lease = Peer::of(&host, "db").dhcp().expect("db gets an address");
    let last: u8 = lease.address["192.168.100.".len()..lease.address.len() - 3]
        .parse()
        .unwrap();
    assert!((100..200).contains(&last), "{lease:?}");
    advertised(&host);

    // Out into the world, which sees the host.
    let gateways = ["192.168.100.1", "fd00:100::1"];
    let addresses = ["192.168.100.10/24", "fd00:100::10/64"];
    let mut web = Peer::of(&host, "web").with(&addresses, &gateways);
    for address in ["192.168.100.1", "203.0.113.1", "fd00:100::1", "2001:db8::1"] {
        assert!(web.reaches(address), "web does not reach {address}");
    }
    let seen = web.asks("203.0.113.1", 7777, Duration::from_secs(10));
    assert_eq!(seen.as_deref(), Some("203.0.113.5"));

    // And back in, by the forwarded port, from outside and from the host itself.
    let from = "exec 3<>/dev/tcp/203.0.113.5/8080 && head -n1 <&3";
    for argv in [
        vec![
            "ip", "netns", "exec", "outside", "timeout", "10", "bash", "-c", from,
        ],
        vec!["timeout", "10", "bash", "-c", from],
    ] {
        let ran = web.answers(80, "this is web", host.machine.spawn(&argv));
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert_eq!(said.trim(), "this is web", "{argv:?}: {ran:?}");
    }
    // Nobody outside reaches a VM but by that: here by a route, which the host does not take.
    host.machine.ok(&[
        "ip",
        "netns",
        "exec",
        "outside",
        "ip",
        "route",
        "add",
        "192.168.100.0/24",
        "via",
        "203.0.113.5",
    ]);
    let argv = [
        "ip",
        "netns",
        "exec",
        "outside",
        "ping",
        "-c1",
        "-W1",
        "192.168.100.1",
    ];
    assert!(host.machine.run(&argv).status.success(), "the host answers");
    let argv = [
        "ip",
        "netns",
        "exec",
        "outside",
        "ping",
        "-c1",
        "-W1",
        "192.168.100.10",
    ];
    let ping = web.answers(80, "", host.machine.spawn(&argv));
    assert!(!ping.status.success(), "{ping:?}");

    mended_and_gone(&host, web);
}

fn forwarding(host: &Host, link: &str) -> String {
    let path = format!("/proc/sys/net/ipv4/conf/{link}/forwarding");
    host.machine.ok(&["cat", &path]).trim().to_owned()
}

fn mended_and_gone(host: &Host, mut web: Peer) {
    // A flush takes all of that away (here the world has a way back by now), and the next switch brings
    // it back.
    let pid = host.main_pid("web");
    host.machine.ok(&["nft", "flush", "ruleset"]);
    let seen = web.asks("203.0.113.1", 7777, Duration::from_secs(10));
    assert_eq!(seen.as_deref(), Some("192.168.100.10"));
    host.nkudo(&["switch"]).done().says("firewall rules: load");
    let seen = web.asks("203.0.113.1", 7777, Duration::from_secs(10));
    assert_eq!(seen.as_deref(), Some("203.0.113.5"));
    host.machine
        .ok(&["nft", "flush", "chain", "bridge", "nkudo", "nkt-web-0"]);
    host.nkudo(&["switch"])
        .done()
        .says("changed by somebody else");
    host.nkudo(&["switch"]).done().says("nothing to do");
    assert_eq!(host.main_pid("web"), pid);

    // Nothing of it outlives its network.
    drop(web);
    host.switch_to("").done();
    host.has_nothing();
    let rules = host.machine.ok(&["nft", "list", "ruleset"]);
    assert_eq!(rules, "");
    assert_eq!(forwarding(host, "eth0"), "0");
    assert!(!host.exists("/run/sysctl.d/60-nkudo.conf"));
}

/// A router advertisement with the network's prefix comes to a VM.
fn advertised(host: &Host) {
    let mut web = Peer::of(host, "web");
    let prefix = "fd00:100::".parse::<Ipv6Addr>().unwrap().octets();
    // A solicitation from the address that the guest has of itself (RFC 4861, 4.1).
    let [first, second, third, rest @ ..] = web.mac;
    let mut own = [0xfe, 0x80, 0, 0, 0, 0, 0, 0].to_vec();
    own.extend([first ^ 2, second, third, 0xff, 0xfe]);
    own.extend(rest);
    let from = Ipv6Addr::from(<[u8; 16]>::try_from(own).unwrap());
    until("an advertisement comes", || {
        let mut solicitation = ip6(web.mac, from, 58, &[133, 0, 0, 0, 0, 0, 0, 0]);
        // To all routers.
        solicitation[5] = 2;
        solicitation[14 + 39] = 2;
        let checksum = icmp6_checksum(&solicitation);
        solicitation[14 + 42..14 + 44].copy_from_slice(&checksum);
        web.tap.send(&solicitation);
        while let Some(frame) = web.tap.frame(Duration::from_millis(500)) {
            let is_it = frame.len() > 60 && frame[20] == 58 && frame[54] == 134;
            if is_it && frame.windows(16).any(|bytes| bytes == prefix) {
                return Ok(());
            }
        }
        Err("no advertisement".to_owned())
    });
}

fn icmp6_checksum(frame: &[u8]) -> [u8; 2] {
    let ip = &frame[14..];
    let length = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
    let mut bytes = ip[8..40].to_vec();
    bytes.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 58]);
    bytes.extend_from_slice(&ip[40..40 + length]);
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}

fn what_is_not_a_vms_own_does_not_leave_it() {
    let host = Host::boot(Networkd::Off);
    for id in ["web", "db"] {
        host.guest(id, Then::PowerOffWhenAsked);
    }
    let lan = "[network.lan]\naddress = [\"192.168.100.1/24\", \"fd00:100::1/64\"]\n";
    let config = |web: &str| [lan, &fixed("web", 10, web), &fixed("db", 20, "")].concat();
    host.switch_to(&config("")).done();
    let pid = host.main_pid("web");
    let mac = Peer::of(&host, "web").mac;
    let own: Ipv4Addr = "192.168.100.10".parse().unwrap();
    let gateway: Ipv4Addr = "192.168.100.1".parse().unwrap();
    let own6: Ipv6Addr = "fd00:100::10".parse().unwrap();
    let gateway6: Ipv6Addr = "fd00:100::1".parse().unwrap();
    let advert = |target: Ipv6Addr| [&[136, 0, 0, 0, 0x60, 0, 0, 0][..], &target.octets()].concat();
    let udp6 = |port: u16| [&port.to_be_bytes()[..], &[2, 34, 0, 12, 0, 0, 1, 2, 3, 4]].concat();
    let tagged = [&[0, 42, 8, 0][..], &udp4(mac, own, 999, "tagged")[14..]].concat();
    let stranger = [2, 0, 0, 0, 0, 9];
    let good = [
        ("its own datagram", udp4(mac, own, 999, "own")),
        ("its own ARP answer", arp(mac, mac, own)),
        ("its own IPv6 packet", ip6(mac, own6, 17, &udp6(999))),
        (
            "its own neighbour advertisement",
            ip6(mac, own6, 58, &advert(own6)),
        ),
    ];
    let bad = [
        (
            "another's Ethernet address",
            udp4(stranger, own, 999, "mac"),
        ),
        (
            "another's IPv4 address",
            udp4(mac, "192.168.100.20".parse().unwrap(), 999, "ip"),
        ),
        ("the host's address by ARP", arp(mac, mac, gateway)),
        ("another's Ethernet address by ARP", arp(mac, stranger, own)),
        (
            "another's IPv6 address",
            ip6(mac, "fd00:100::20".parse().unwrap(), 17, &udp6(999)),
        ),
        (
            "the host's address by a neighbour advertisement",
            ip6(mac, own6, 58, &advert(gateway6)),
        ),
        (
            "a router advertisement",
            ip6(
                mac,
                own6,
                58,
                &[134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0],
            ),
        ),
        ("a DHCP server's answer", udp4(mac, own, 67, "offer")),
        ("a DHCPv6 server's answer", ip6(mac, own6, 17, &udp6(547))),
        ("a VLAN tag", ethernet(EVERYBODY, mac, 0x8100, &tagged)),
        (
            "another protocol",
            ethernet(EVERYBODY, mac, 0x88b5, b"experiment"),
        ),
    ];
    let passes = |what: &str, frame: &[u8]| {
        let mut web = Peer::of(&host, "web");
        let mut db = Peer::of(&host, "db");
        let marker = udp4(mac, own, 4242, "that was it");
        web.tap.send(frame);
        web.tap.send(&marker);
        let mut passed = false;
        loop {
            let arrived = db.tap.frame(Duration::from_secs(10));
            let arrived = arrived.unwrap_or_else(|| panic!("nothing comes after {what}"));
            passed |= unpadded(&arrived) == unpadded(frame);
            if unpadded(&arrived) == unpadded(&marker) {
                return passed;
            }
        }
    };
    for (what, frame) in &good {
        assert!(passes(what, frame), "{what} is dropped");
    }
    for (what, frame) in &bad {
        assert!(!passes(what, frame), "{what} passes");
    }
    // The VM runs on while it comes to be trusted, and then may do all of it.
    host.switch_to(&config("trusted = true\n")).done();
    assert_eq!(host.main_pid("web"), pid);
    for (what, frame) in good.iter().chain(&bad) {
        assert!(
            passes(what, frame),
            "{what} is dropped though the VM is trusted"
        );
    }
}

/// Without the zeros at the end, which the host cuts off where it looks into a packet.
fn unpadded(frame: &[u8]) -> &[u8] {
    let zeros = frame.iter().rev().take_while(|byte| **byte == 0).count();
    &frame[..frame.len() - zeros]
}

fn isolated_vms_reach_the_host_and_not_each_other() {
    let host = Host::boot(Networkd::On);
    for id in ["web", "db"] {
        host.guest(id, Then::PowerOffWhenAsked);
    }
    let config = |more: &str| {
        let lan = "[network.lan]\naddress = [\"192.168.100.1/24\"]\nroute = true\n";
        [lan, more, &fixed4("web", 10), &fixed4("db", 20)].concat()
    };
    host.switch_to(&config("")).done();
    let pids = [host.main_pid("web"), host.main_pid("db")];
    let peers = || {
        let gateway = ["192.168.100.1"];
        let web = Peer::of(&host, "web").with(&["192.168.100.10/24"], &gateway);
        let db = Peer::of(&host, "db").with(&["192.168.100.20/24"], &gateway);
        (web, db)
    };
    assert!(one_reaches_the_other(peers()));
    host.switch_to(&config("isolate = true\n"))
        .done()
        .says("isolated");
    host.nkudo(&["switch"]).done().says("nothing to do");
    assert!(!one_reaches_the_other(peers()));
    let (mut web, mut db) = peers();
    assert!(web.reaches("192.168.100.1") && db.reaches("192.168.100.1"));
    // A VM that starts on it is isolated from its first moment.
    drop((web, db));
    host.nkudo(&["restart", "db"]).done();
    assert!(!one_reaches_the_other(peers()));
    host.switch_to(&config("")).done();
    assert!(one_reaches_the_other(peers()));
    assert_eq!(host.main_pid("web"), pids[0]);
}

fn fixed4(id: &str, number: u8) -> String {
    format!("{}address = \"192.168.100.{number}\"\n", vm(id, ""))
}

/// Whether the first one's echo request is answered by the second one.
fn one_reaches_the_other((mut web, mut db): (Peer, Peer)) -> bool {
    let answering = std::thread::spawn(move || {
        // An IP stack answers by being polled.
        db.reaches_within("192.168.100.99", IN_VAIN)
    });
    let reached = web.reaches_within("192.168.100.20", IN_VAIN);
    answering.join().unwrap();
    reached
}

fn a_nic_of_several_queues_has_a_tap_of_as_many() {
    let host = Host::boot(Networkd::Off);
    host.guest("web", Then::PowerOffWhenAsked);
    let lan = "[network.lan]\naddress = [\"192.168.100.1/24\"]\n";
    let config = [lan, &vm("web", "vcpus = 3"), "queues = 3\n"].concat();
    host.switch_to(&config).done();
    host.printed("web", 1);
    let tap = host.tap_is_in("web", "nk-lan");
    assert_eq!(tap["linkinfo"]["info_data"]["multi_queue"], true, "{tap}");
    assert_eq!(tap["linkinfo"]["info_data"]["numqueues"], 3, "{tap}");
    // A crash restart finds them all.
    let pid = host.main_pid("web");
    host.machine.ok(&["kill", "-KILL", &pid.to_string()]);
    host.active_again("web", pid);
    host.tap_is_in("web", "nk-lan");
    host.switch_to("").done();
    host.has_nothing();
}
