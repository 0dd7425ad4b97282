//! `nkudo status --network`: the state of networks.

use std::fmt::Write as _;

use serde::Serialize;

use super::table::Table;
use super::words::{bytes, dash, moment_of};
use crate::connections::Connections;
use crate::generation::Store;
use crate::network_status::{Leases, NetworksStatus, RulesStatus, networks_status};
use crate::nft;
use crate::observe::{Detail, leases, observe};
use crate::plan;

pub(super) async fn look(
    store: &Store,
    connections: &Connections,
) -> anyhow::Result<NetworksStatus> {
    let current = store.current_manifest()?;
    let observed = observe(connections, None, Detail::Networks).await?;
    let counted = nft::counted().await;
    let leases = match &current {
        Some((_, manifest)) => {
            let backend = plan::backend(&manifest.host, &observed);
            leases(&connections.bus, &manifest.host, backend).await
        }
        None => Leases::new(),
    };
    let current = current
        .as_ref()
        .map(|(number, manifest)| (*number, manifest));
    Ok(networks_status(
        current,
        &observed,
        &leases,
        counted.as_deref(),
    ))
}

pub(super) fn text(status: &NetworksStatus) -> String {
    let Some(generation) = status.generation else {
        return "no generation yet: `nkudo render`, then `nkudo switch`\n".to_owned();
    };
    let rules = match status.rules {
        RulesStatus::AsDeclared => "as declared",
        RulesStatus::Changed => "changed: `nkudo switch` loads them again",
        RulesStatus::Missing => "missing: `nkudo switch` loads them again",
        RulesStatus::Unknown => "unknown: nft cannot be run",
    };
    let backend = status.backend.as_ref().map_or_else(dash, word);
    let mut text = format!("generation {generation}, backend {backend}\nfirewall rules: {rules}\n");
    let mut obstacles = String::new();
    let mut networks = Table::new(["NETWORK", "KIND", "LINK", "STATE", "ADDRESS", "IN", "OUT"]);
    let mut ports = Table::new(["NETWORK", "VM", "TAP", "ETHERNET ADDRESS", "STATE"]);
    let mut leases = Table::new(["NETWORK", "LEASE", "ETHERNET ADDRESS", "VM", "EXPIRES"]);
    let mut forwards = Table::new(["NETWORK", "FORWARD", "TO", "CONNECTIONS"]);
    for network in &status.networks {
        let name = network.name.to_string();
        let addresses: Vec<String> = network.addresses.iter().map(ToString::to_string).collect();
        networks.add([
            name.clone(),
            word(&network.kind),
            network.link.to_string(),
            word(&network.state),
            if addresses.is_empty() {
                dash()
            } else {
                addresses.join("\n")
            },
            network.received_bytes.map_or_else(dash, bytes),
            network.sent_bytes.map_or_else(dash, bytes),
        ]);
        if let Some(obstacle) = &network.obstacle {
            let _ = writeln!(obstacles, "network {name}: {obstacle}");
        }
        for port in &network.ports {
            ports.add([
                name.clone(),
                port.vm.to_string(),
                port.tap.to_string(),
                port.mac.to_string(),
                word(&port.state),
            ]);
        }
        for lease in network.leases.iter().flatten() {
            leases.add([
                name.clone(),
                lease.address.to_string(),
                lease.mac.clone(),
                lease.vm.as_ref().map_or_else(dash, ToString::to_string),
                moment_of(lease.expires),
            ]);
        }
        for forward in &network.forwards {
            let port = match forward.address {
                Some(address) => std::net::SocketAddr::new(address, forward.port).to_string(),
                None => forward.port.to_string(),
            };
            forwards.add([
                name.clone(),
                format!("{} {port}", forward.proto),
                format!("{}:{}", forward.vm, forward.to_port),
                forward
                    .connections
                    .map_or_else(dash, |number| number.to_string()),
            ]);
        }
    }
    let sections = [
        obstacles,
        networks.text(),
        ports.text(),
        leases.text(),
        forwards.text(),
    ];
    for section in sections.iter().filter(|section| !section.is_empty()) {
        text.push('\n');
        text.push_str(section);
    }
    text
}

/// A state in the word that JSON has for it.
fn word(state: &impl Serialize) -> String {
    match serde_json::to_value(state) {
        Ok(serde_json::Value::String(word)) => word,
        _ => dash(),
    }
}
