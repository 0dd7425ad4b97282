//! A guest's network without a guest: an IP stack, and raw frames, on PID 1's copy of a TAP.
//!
//! The guests that the tests assemble have no driver, so nobody else reads there.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Output};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::ioctl::{Getter, Opcode, ioctl, opcode};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{dhcpv4, icmp, tcp};
use smoltcp::time::Instant;
use smoltcp::wire::{
    EthernetAddress, HardwareAddress, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr,
    IpAddress, IpCidr,
};

use super::host::Host;

/// How long something may take that is to happen.
const LIMIT: Duration = Duration::from_secs(15);
/// How long something is waited for that is not to happen.
pub(crate) const IN_VAIN: Duration = Duration::from_millis(1500);

pub(crate) struct Peer {
    pub(crate) mac: [u8; 6],
    pub(crate) tap: Tap,
    interface: Interface,
    sockets: SocketSet<'static>,
    /// The port of the next connection: each is a new one to whoever follows them.
    next_port: u16,
}

/// What DHCP said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) address: String,
    pub(crate) router: Option<String>,
    pub(crate) dns: Vec<String>,
}

impl Peer {
    /// The guest's end of a VM's first NIC.
    pub(crate) fn of(host: &Host, id: &str) -> Self {
        let manifest = host.machine.ok(&["cat", host.current_manifest()]);
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        let mac = manifest["host"]["vms"][id]["nics"][0]["mac"]
            .as_str()
            .unwrap();
        let bytes: Vec<u8> = mac
            .split(':')
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect();
        let mac: [u8; 6] = bytes.try_into().unwrap();
        let mut tap = Tap::of(host, &format!("nkt-{id}-0"));
        let config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac)));
        let interface = Interface::new(config, &mut tap, Instant::now());
        Self {
            mac,
            tap,
            interface,
            sockets: SocketSet::new(Vec::new()),
            next_port: 50_000,
        }
    }

    /// Gives it addresses, and the gateways that it sends by.
    pub(crate) fn with(mut self, addresses: &[&str], gateways: &[&str]) -> Self {
        self.interface.update_ip_addrs(|all| {
            for address in addresses {
                all.push(address.parse::<IpCidr>().unwrap()).unwrap();
            }
        });
        let routes = self.interface.routes_mut();
        for gateway in gateways {
            match gateway.parse::<IpAddr>().unwrap() {
                IpAddr::V4(ip) => routes.add_default_ipv4_route(ip).map(|_| ()).unwrap(),
                IpAddr::V6(ip) => routes.add_default_ipv6_route(ip).map(|_| ()).unwrap(),
            }
        }
        self
    }

    /// Moves packets until there is something, or the time is over.
    fn until<T>(
        &mut self,
        limit: Duration,
        mut look: impl FnMut(&mut Interface, &mut SocketSet<'static>) -> Option<T>,
    ) -> Option<T> {
        let end = std::time::Instant::now() + limit;
        while std::time::Instant::now() < end {
            self.interface
                .poll(Instant::now(), &mut self.tap, &mut self.sockets);
            if let Some(found) = look(&mut self.interface, &mut self.sockets) {
                return Some(found);
            }
            self.interface
                .poll(Instant::now(), &mut self.tap, &mut self.sockets);
            self.tap.wait(Duration::from_millis(10));
        }
        None
    }

    /// Whether an address answers an echo request.
    pub(crate) fn reaches(&mut self, address: &str) -> bool {
        self.reaches_within(address, LIMIT)
    }

    pub(crate) fn reaches_within(&mut self, address: &str, limit: Duration) -> bool {
        let to: IpAddress = address.parse().unwrap();
        let buffer =
            || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 8], vec![0; 2048]);
        let mut socket = icmp::Socket::new(buffer(), buffer());
        socket.bind(icmp::Endpoint::Ident(77)).unwrap();
        let handle = self.sockets.add(socket);
        let mut sent: Option<std::time::Instant> = None;
        let answered = self.until(limit, |interface, sockets| {
            let socket = sockets.get_mut::<icmp::Socket<'_>>(handle);
            if socket.can_recv() {
                let (_, from) = socket.recv().unwrap();
                if from == to {
                    return Some(());
                }
            }
            let again = sent.is_none_or(|sent| sent.elapsed() > Duration::from_millis(300));
            if again && socket.can_send() {
                sent = Some(std::time::Instant::now());
                echo(socket, interface, to);
            }
            None
        });
        self.sockets.remove(handle);
        answered.is_some()
    }

    /// Connects, sends a line and returns what is answered; nothing where nobody is reached.
    pub(crate) fn asks(&mut self, address: &str, port: u16, limit: Duration) -> Option<String> {
        let handle = self.tcp();
        let to: IpAddress = address.parse().unwrap();
        self.next_port += 1;
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket
            .connect(self.interface.context(), (to, port), self.next_port)
            .unwrap();
        let mut answer = Vec::new();
        let mut asked = false;
        let done = self.until(limit, |_, sockets| {
            let socket = sockets.get_mut::<tcp::Socket<'_>>(handle);
            if socket.can_send() && !asked {
                socket.send_slice(b"hello\n").unwrap();
                asked = true;
            }
            if socket.can_recv() {
                socket
                    .recv(|bytes| {
                        answer.extend_from_slice(bytes);
                        (bytes.len(), ())
                    })
                    .unwrap();
            }
            answer.ends_with(b"\n").then_some(())
        });
        self.sockets.get_mut::<tcp::Socket<'_>>(handle).abort();
        self.until(Duration::from_millis(50), |_, _| None::<()>);
        self.sockets.remove(handle);
        done.map(|()| String::from_utf8(answer).unwrap().trim().to_owned())
    }

    fn tcp(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 4096]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    /// Answers each connection to a port with a line, until the command has ended.
    pub(crate) fn answers(&mut self, port: u16, line: &str, mut command: Child) -> Output {
        let handle = self.tcp();
        let text = format!("{line}\n");
        let mut answered = false;
        self.until(LIMIT, |_, sockets| {
            let socket = sockets.get_mut::<tcp::Socket<'_>>(handle);
            if !socket.is_open() {
                socket.listen(port).unwrap();
                answered = false;
            }
            if socket.can_send() && !answered {
                socket.send_slice(text.as_bytes()).unwrap();
                socket.close();
                answered = true;
            }
            command.try_wait().unwrap()
        });
        self.sockets.remove(handle);
        let _ = command.kill();
        command.wait_with_output().unwrap()
    }

    /// Asks for an address.
    pub(crate) fn dhcp(&mut self) -> Option<Lease> {
        let handle = self.sockets.add(dhcpv4::Socket::new());
        let lease = self.until(LIMIT, |_, sockets| {
            match sockets.get_mut::<dhcpv4::Socket<'_>>(handle).poll() {
                Some(dhcpv4::Event::Configured(config)) => Some(Lease {
                    address: config.address.to_string(),
                    router: config.router.map(|ip| ip.to_string()),
                    dns: config.dns_servers.iter().map(ToString::to_string).collect(),
                }),
                _ => None,
            }
        });
        self.sockets.remove(handle);
        lease
    }
}

fn echo(socket: &mut icmp::Socket<'_>, interface: &mut Interface, to: IpAddress) {
    let checksums = smoltcp::phy::ChecksumCapabilities::default();
    match to {
        IpAddress::Ipv4(_) => {
            let request = Icmpv4Repr::EchoRequest {
                ident: 77,
                seq_no: 1,
                data: b"nkudo",
            };
            let bytes = socket.send(request.buffer_len(), to).unwrap();
            request.emit(&mut Icmpv4Packet::new_unchecked(bytes), &checksums);
        }
        IpAddress::Ipv6(ip) => {
            let from = interface.get_source_address_ipv6(&ip);
            let request = Icmpv6Repr::EchoRequest {
                ident: 77,
                seq_no: 1,
                data: b"nkudo",
            };
            let bytes = socket.send(request.buffer_len(), to).unwrap();
            let mut packet = Icmpv6Packet::new_unchecked(bytes);
            request.emit(&from, &ip, &mut packet, &checksums);
        }
    }
}

/// A TAP, frame by frame.
pub(crate) struct Tap {
    file: File,
    /// Bytes of the virtio header before each frame.
    header: usize,
}

// linux/if_tun.h
const TUNGETVNETHDRSZ: Opcode = opcode::read::<std::ffi::c_int>(b'T', 215);

impl Tap {
    #[expect(unsafe_code, reason = "TUNGETVNETHDRSZ is an ioctl")]
    fn of(host: &Host, name: &str) -> Self {
        let file = File::from(host.machine.tap_of_pid_1(name));
        let flags = rustix::fs::fcntl_getfl(&file).unwrap();
        rustix::fs::fcntl_setfl(&file, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
        // SAFETY: it fills an int, and the descriptor is a TAP's.
        let header = unsafe { ioctl(&file, Getter::<TUNGETVNETHDRSZ, i32>::new()) };
        Self {
            file,
            header: header.unwrap().try_into().unwrap(),
        }
    }

    pub(crate) fn send(&mut self, frame: &[u8]) {
        let mut bytes = vec![0; self.header];
        bytes.extend_from_slice(frame);
        self.file.write_all(&bytes).unwrap();
    }

    fn read(&mut self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 70_000];
        let length = self.file.read(&mut bytes).ok()?;
        Some(bytes[self.header..length].to_vec())
    }

    fn wait(&self, limit: Duration) {
        let limit = Timespec::try_from(limit).unwrap();
        let _ = poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&limit));
    }

    /// The next frame, if one comes in time.
    pub(crate) fn frame(&mut self, limit: Duration) -> Option<Vec<u8>> {
        let end = std::time::Instant::now() + limit;
        loop {
            if let Some(frame) = self.read() {
                return Some(frame);
            }
            if std::time::Instant::now() > end {
                return None;
            }
            self.wait(Duration::from_millis(10));
        }
    }
}

pub(crate) struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub(crate) struct Sending<'t>(&'t mut Tap);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        self.0.send(&frame);
        result
    }
}

impl Device for Tap {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        let frame = self.read()?;
        Some((Received(frame), Sending(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        // The host leaves checksums to the guest's driver.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.udp = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities.checksum.icmpv4 = Checksum::Tx;
        capabilities.checksum.icmpv6 = Checksum::Tx;
        capabilities
    }
}

pub(crate) const EVERYBODY: [u8; 6] = [0xff; 6];

/// An Ethernet frame.
pub(crate) fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [to, from].concat();
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(payload);
    frame.resize(frame.len().max(60), 0);
    frame
}

/// An ARP answer to everybody: `ip` is at `mac`.
pub(crate) fn arp(from: [u8; 6], mac: [u8; 6], ip: Ipv4Addr) -> Vec<u8> {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 2];
    arp.extend_from_slice(&mac);
    arp.extend_from_slice(&ip.octets());
    arp.extend_from_slice(&EVERYBODY);
    arp.extend_from_slice(&ip.octets());
    ethernet(EVERYBODY, from, 0x0806, &arp)
}

/// A UDP datagram to everybody on the network.
pub(crate) fn udp4(mac: [u8; 6], from: Ipv4Addr, port: u16, text: &str) -> Vec<u8> {
    let length = 28 + text.len();
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
    ip[2..4].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
    ip.extend_from_slice(&from.octets());
    ip.extend_from_slice(&[255; 4]);
    let mut sum: u32 = ip
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from(sum).unwrap();
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    ip.extend_from_slice(&port.to_be_bytes());
    ip.extend_from_slice(&68_u16.to_be_bytes());
    ip.extend_from_slice(&u16::try_from(8 + text.len()).unwrap().to_be_bytes());
    ip.extend_from_slice(&[0, 0]);
    ip.extend_from_slice(text.as_bytes());
    ethernet(EVERYBODY, mac, 0x0800, &ip)
}

/// An IPv6 packet to all nodes: `next` is the protocol.
pub(crate) fn ip6(mac: [u8; 6], from: std::net::Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x60, 0, 0, 0];
    ip.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
    ip.extend_from_slice(&[next, 255]);
    ip.extend_from_slice(&from.octets());
    ip.extend_from_slice(&"ff02::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    ip.extend_from_slice(payload);
    ethernet([0x33, 0x33, 0, 0, 0, 1], mac, 0x86dd, &ip)
}
