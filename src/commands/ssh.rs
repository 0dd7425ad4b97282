//! `nkudo ssh`: OpenSSH's client to a VM, by an address that the host knows, or over the VM's vsock.

use std::fmt;
use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, bail};
use camino::Utf8Path;

use crate::cli::Ssh as Arguments;
use crate::connections::Connections;
use crate::generation::Store;
use crate::host::{Host, NetworkKind, Nic, Vm, VmId};
use crate::network_status::Leases;
use crate::observe::{Detail, Specification, leases, observe, within_reach};
use crate::plan;
use crate::status::{NicStatus, State, status};

use super::current::{current, no_such_vm};
use super::{Exit, block_on, programs, state_dir};

/// Where sshd listens, in a guest that has it on its vsock (systemd-ssh-generator(8)).
const PORT: u32 = 22;

/// What is known of a VM.
struct Seen {
    state: State,
    /// The best first.
    addresses: Vec<Address>,
    has_vsock: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    /// As ssh takes it.
    text: String,
    known: Known,
}

/// How an address is known. Those before mean more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    Declared,
    Leased,
    Seen,
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Declared => "its declared address",
            Self::Leased => "which it has by DHCP",
            Self::Seen => "by which the host has reached it",
        })
    }
}

enum Way {
    Address(Address),
    Vsock,
}

pub fn run(arguments: &Arguments, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let id = &arguments.id;
    let store = Store::new(&state_dir::state_dir(given));
    let seen = block_on(async { look(id, &store).await })?;
    if seen.state != State::Running {
        bail!(
            "VM {id} is {}, not running\nhint: `nkudo status {id}` says why",
            seen.state
        );
    }
    let way = way(id, seen, arguments.vsock)?;
    let mut command = Command::new("ssh");
    // Each start of a VM with a new disk is a new machine to ssh, under the same address: its keys are
    // remembered by the VM's id.
    command.args(["-o", &format!("HostKeyAlias=nkudo-{id}")]);
    let destination = match way {
        Way::Address(Address { text, known }) => {
            tracing::info!(nkudo_vm = %id, "ssh to {id} at {text}, {known}");
            text
        }
        Way::Vsock => {
            tracing::info!(nkudo_vm = %id, "ssh to {id} over its vsock");
            let proxy = proxy_command(&programs::nkudo()?, id);
            command.args(["-o", &proxy, "-o", "ProxyUseFdpass=yes"]);
            id.to_string()
        }
    };
    if let Some(user) = &arguments.user {
        command.args(["-l", user]);
    }
    command.arg("--").arg(&destination);
    command.args(&arguments.command);
    tracing::debug!("{command:?}");
    // In this process's place, so that signals, the terminal and the exit code are ssh's.
    Err(command.exec()).context("cannot run ssh, which is OpenSSH's client")
}

fn way(id: &VmId, seen: Seen, wants_vsock: bool) -> anyhow::Result<Way> {
    if wants_vsock && !seen.has_vsock {
        bail!(
            "VM {id} has no vsock\n\
             hint: `vsock-cid = 3` gives it one, from its next start on; the guest needs sshd and systemd 256 or newer"
        );
    }
    if wants_vsock {
        return Ok(Way::Vsock);
    }
    match seen.addresses.into_iter().next() {
        Some(address) => Ok(Way::Address(address)),
        None if seen.has_vsock => Ok(Way::Vsock),
        None => bail!(
            "the host knows no address of {id}: none is declared, DHCP has given it none, and it has not spoken to the host yet\n\
             hint: `nkudo logs {id} --console` shows whether it has one; a `ping` to it lets the host know; with `vsock-cid`, \
             a guest with systemd 256 needs none"
        ),
    }
}

/// The shell that ssh runs it with takes the path as it is.
fn proxy_command(nkudo: &Utf8Path, id: &VmId) -> String {
    let path = nkudo.as_str().replace('\'', "'\\''").replace('%', "%%");
    format!("ProxyCommand='{path}' vsock {id} {PORT}")
}

async fn look(id: &VmId, store: &Store) -> anyhow::Result<Seen> {
    let (number, manifest) = current(store)?;
    let host = &manifest.host;
    let connections = Connections::open().await?;
    let netlink = &connections.netlink;
    let observed = observe(&connections, None, Detail::Status).await?;
    let closer = within_reach(&observed, netlink, id).await?;
    let status = status(Some((number, &manifest)), None, &observed, &closer);
    let found = status.vms.into_iter().find(|vm| vm.id == *id);
    let found = found.ok_or_else(|| no_such_vm(id))?;
    // What it was started from, which is what the guest has.
    let booted = match observed.remains.get(id).map(|one| &one.specification) {
        Some(Specification::Known(booted)) => Some(&booted.vm),
        _ => host.vms.get(id),
    };
    let nics = booted.map_or(&[][..], |vm: &Vm| &vm.nics);
    // What is declared goes first anyway.
    let leases = if nics.iter().any(|nic| !nic.address.is_empty()) {
        Leases::new()
    } else {
        leases(&connections.bus, host, plan::backend(host, &observed)).await
    };
    Ok(Seen {
        state: found.state,
        addresses: addresses(nics, &found.nics, host, &leases),
        has_vsock: booted.is_some_and(Vm::has_vsock),
    })
}

/// The addresses that ssh can be given: one that means something on every link before one that does not, then by
/// how it is known.
fn addresses(nics: &[Nic], seen: &[NicStatus], host: &Host, leases: &Leases) -> Vec<Address> {
    let mut found: Vec<(bool, Address)> = Vec::new();
    for nic in nics {
        let status = seen.iter().find(|status| status.tap == nic.tap.as_str());
        let bridge = status.and_then(|status| status.bridge.as_deref());
        let mut add = |address: IpAddr, known| {
            let (is_link_local, text) = match address {
                IpAddr::V6(v6) if v6.is_unicast_link_local() => match bridge {
                    Some(bridge) => (true, format!("{v6}%{bridge}")),
                    // Nobody can say on which link.
                    None => return,
                },
                other => (false, other.to_string()),
            };
            if found.iter().all(|(_, one)| one.text != text) {
                found.push((is_link_local, Address { text, known }));
            }
        };
        let kind = host.networks.get(&nic.network).map(|network| &network.kind);
        // What a host sends over the link below a macvtap does not reach the macvtap.
        if !matches!(kind, Some(NetworkKind::Macvtap(_))) {
            nic.address
                .iter()
                .for_each(|address| add(address.addr(), Known::Declared));
        }
        leases
            .get(&nic.network)
            .into_iter()
            .flatten()
            .filter(|lease| lease.mac == nic.mac.octets())
            .for_each(|lease| add(lease.address.into(), Known::Leased));
        status
            .into_iter()
            .flat_map(|status| &status.addresses)
            .for_each(|address| add(*address, Known::Seen));
    }
    found.sort_by_key(|(is_link_local, one)| (*is_link_local, one.known));
    found.into_iter().map(|(_, address)| address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Source};
    use crate::network_status::Lease;
    use crate::status::LinkStatus;

    fn host(text: &str) -> Host {
        let source = Source {
            name: "nkudo.toml".to_owned(),
            text: format!(
                "[network.lan]\naddress = [\"192.168.100.1/24\"]\n[vm.web]\nkernel = \"/srv/web\"\n{text}"
            ),
        };
        config::load(&[source]).host.unwrap()
    }

    fn status(nic: &Nic, bridge: Option<&str>, addresses: &[&str]) -> NicStatus {
        NicStatus {
            network: nic.network.to_string(),
            mac: nic.mac.to_string(),
            tap: nic.tap.to_string(),
            bridge: bridge.map(str::to_owned),
            link: LinkStatus::Up,
            declared: nic.address.iter().map(ipnet::IpNet::addr).collect(),
            addresses: addresses.iter().map(|one| one.parse().unwrap()).collect(),
        }
    }

    fn texts(host: &Host, seen: &[NicStatus], leases: &Leases) -> Vec<String> {
        let vm = host.vms.values().next().unwrap();
        let found = addresses(&vm.nics, seen, host, leases);
        found.into_iter().map(|address| address.text).collect()
    }

    const TWO: &str = "[[vm.web.nic]]\nnetwork = \"lan\"\n[[vm.web.nic]]\nnetwork = \"lan\"\n";

    #[test]
    fn a_link_local_address_on_a_nic_without_a_bridge_ends_no_search() {
        let host = host(TWO);
        let nics = &host.vms.values().next().unwrap().nics;
        let seen = [
            status(&nics[0], None, &["fe80::1"]),
            status(&nics[1], Some("nk-lan"), &["fe80::2", "192.168.100.7"]),
        ];
        assert_eq!(
            texts(&host, &seen, &Leases::new()),
            ["192.168.100.7", "fe80::2%nk-lan"]
        );
    }

    #[test]
    fn what_is_declared_goes_before_what_dhcp_gave_and_that_before_what_was_seen() {
        let nic = "[[vm.web.nic]]\nnetwork = \"lan\"\n";
        let plain = host(nic);
        let own = &plain.vms.values().next().unwrap().nics[0];
        let lease = |mac| Lease {
            mac,
            address: [192, 168, 100, 120].into(),
            expires: u64::MAX,
        };
        let of_other = lease([2, 0, 0, 0, 0, 1]);
        let leases = Leases::from([(own.network.clone(), vec![of_other, lease(own.mac.octets())])]);
        let seen = [status(own, Some("nk-lan"), &["192.168.100.9"])];
        assert_eq!(
            texts(&plain, &seen, &leases),
            ["192.168.100.120", "192.168.100.9"]
        );
        let declared = host(&format!("{nic}address = [\"192.168.100.10/24\"]\n"));
        assert_eq!(
            texts(&declared, &seen, &leases),
            ["192.168.100.10", "192.168.100.120", "192.168.100.9"]
        );
    }

    #[test]
    fn a_vm_whose_guest_says_that_it_is_ready_has_a_vsock() {
        for (text, has_one) in [
            ("", false),
            ("vsock-cid = 3\n", true),
            ("ready = \"guest\"\n", true),
        ] {
            let host = host(text);
            let vm = host.vms.values().next().unwrap();
            assert_eq!(vm.has_vsock(), has_one, "{text}");
        }
    }

    #[test]
    fn a_path_reaches_the_shell_as_it_is() {
        let id: VmId = "web".parse().unwrap();
        assert_eq!(
            proxy_command("/opt/it's 100%/nkudo".into(), &id),
            "ProxyCommand='/opt/it'\\''s 100%%/nkudo' vsock web 22"
        );
    }
}
