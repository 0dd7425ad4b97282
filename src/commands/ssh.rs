//! `nkudo ssh`: OpenSSH's client to a VM, by an address that the host knows.

use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, bail};
use camino::Utf8Path;

use crate::cli::Ssh as Arguments;
use crate::connections::Connections;
use crate::generation::Store;
use crate::observe::{Detail, closer, observe};
use crate::status::{State, VmStatus, status};

use super::{Exit, block_on, state_dir};

pub fn run(arguments: &Arguments, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let id = &arguments.id;
    let store = Store::new(&state_dir::state_dir(given));
    let vm = block_on(async { look(arguments, &store).await })?;
    if vm.state != State::Running {
        bail!(
            "VM {id} is {}, not running\nhint: `nkudo status {id}` says why",
            vm.state
        );
    }
    let destination = destination(&vm).with_context(|| {
        format!(
            "the host knows no address of {id}: it has not spoken to it yet\n\
             hint: `nkudo logs {id} --console` shows whether it has one; a `ping` to it lets the host know"
        )
    })?;
    let mut command = Command::new("ssh");
    // Each start of a VM with a new disk is a new machine to ssh, under the same address: its keys are
    // remembered by the VM's id.
    command.args(["-o", &format!("HostKeyAlias=nkudo-{id}")]);
    if let Some(user) = &arguments.user {
        command.args(["-l", user]);
    }
    command.arg("--").arg(&destination);
    command.args(&arguments.command);
    tracing::debug!("{command:?}");
    // In this process's place, so that signals, the terminal and the exit code are ssh's.
    Err(command.exec()).context("cannot run ssh, which is OpenSSH's client")
}

async fn look(arguments: &Arguments, store: &Store) -> anyhow::Result<VmStatus> {
    let id = &arguments.id;
    let current = store
        .current()?
        .context("this host was not switched to a generation yet; run `nkudo switch`")?;
    let manifest = store.manifest(current)?;
    let connections = Connections::open().await?;
    let netlink = &connections.netlink;
    let observed = observe(
        &connections.bus,
        &connections.manager,
        netlink,
        None,
        Detail::Status,
    );
    let observed = observed.await?;
    let closer = closer(&observed, netlink, &manifest.host.vms, Some(id)).await?;
    let status = status(Some((current, &manifest)), None, &observed, &closer);
    let found = status.vms.into_iter().find(|vm| vm.id == *id);
    found.with_context(|| format!("there is no VM {id}\nhint: `nkudo status` lists the VMs"))
}

/// An address that ssh can be given: one that means something on every link before one that does not.
fn destination(vm: &VmStatus) -> Option<String> {
    let mut candidates: Vec<(bool, String)> = Vec::new();
    for nic in &vm.nics {
        for address in &nic.addresses {
            match address {
                IpAddr::V6(v6) if v6.is_unicast_link_local() => {
                    let bridge = nic.bridge.as_ref()?;
                    candidates.push((true, format!("{v6}%{bridge}")));
                }
                other => candidates.push((false, other.to_string())),
            }
        }
    }
    candidates.sort();
    candidates.into_iter().next().map(|(_, address)| address)
}
