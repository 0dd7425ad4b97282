//! Bridges, by networkd or by rtnetlink.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use camino::Utf8Path;

use super::{Apply, run_files, services};
use crate::files;
use crate::host::{LinkName, Network};
use crate::interruption::effect;
use crate::network::{Backend, NETWORKD_DIR, network_file_name};
use crate::observe::{Admin, Link, Networkd};
use crate::plan::{BridgeStep, DhcpStep, Plan, PortOwner, PortStep, VlanStep};
use crate::systemd::Network1Proxy;

/// How long networkd may take to make bridges. It takes some 20 ms.
const LIMIT: Duration = Duration::from_secs(20);

/// networkd does not come back by itself to a bus that was restarted under it (seen on 257).
const NO_RELOAD: &str = "systemd-networkd does not reload its files; if D-Bus was restarted, \
                         `systemctl restart systemd-networkd` brings it back to the bus";

impl Apply<'_> {
    /// Makes and changes bridges.
    pub(super) async fn networks(&self, plan: &Plan) -> anyhow::Result<()> {
        self.check_rules(plan).await?;
        self.tell_network_manager(plan).await?;
        write_files(plan)?;
        let wanted: BTreeMap<&LinkName, &BridgeStep> = plan
            .bridges
            .iter()
            .filter(|(_, step)| {
                matches!(step, BridgeStep::Create { .. } | BridgeStep::Change { .. })
            })
            .collect();
        match plan.backend {
            Backend::Netlink => {
                self.reload_if_it_runs(plan).await?;
                for (name, step) in &wanted {
                    self.by_netlink(name, step).await?;
                }
            }
            Backend::Networkd => self.by_networkd(plan, &wanted).await?,
        }
        for name in wanted.keys() {
            tracing::info!("set up bridge {name}");
        }
        self.vlans(plan).await?;
        self.ports(plan).await?;
        services::set_sysctls(plan)?;
        self.dhcp(plan, &[DhcpStep::Start, DhcpStep::Restart]).await
    }

    async fn vlans(&self, plan: &Plan) -> anyhow::Result<()> {
        let netlink = &self.connections.netlink;
        for (link, step) in &plan.network.vlans {
            match step {
                VlanStep::Create { vlan, uplink } => {
                    netlink.delete(link).await?;
                    netlink.create_vlan(vlan, uplink).await?;
                    tracing::info!("made {link}");
                }
                VlanStep::SetUp => netlink.set_up_named(link).await?,
                VlanStep::Remove => {}
            }
        }
        Ok(())
    }

    async fn ports(&self, plan: &Plan) -> anyhow::Result<()> {
        let netlink = &self.connections.netlink;
        for (link, step) in &plan.network.ports {
            match step {
                PortStep::Put { bridge, whose } => {
                    if *whose == PortOwner::Host {
                        run_files::note_uplink(link, bridge)?;
                    }
                    // networkd does it too, with the file that it has; whoever is first.
                    netlink.put_uplink(link, bridge).await?;
                    tracing::info!("put {link} into {bridge}");
                }
                PortStep::Release { bridge } => {
                    netlink.release(link, bridge).await?;
                    run_files::forget_uplink(link)?;
                    tracing::info!("took {link} out of {bridge}");
                }
            }
        }
        Ok(())
    }

    async fn by_netlink(&self, name: &LinkName, step: &BridgeStep) -> anyhow::Result<()> {
        let netlink = &self.connections.netlink;
        let (add, remove) = match step {
            BridgeStep::Create { addresses } => {
                netlink.create_bridge(name).await?;
                (addresses, [].as_slice())
            }
            BridgeStep::Change { add, remove, up } => {
                if *up {
                    let links = netlink.links().await?;
                    if let Some(link) = links.get(name.as_str()) {
                        netlink.set_up(name, link.index).await?;
                    }
                }
                (add, remove.as_slice())
            }
            BridgeStep::Remove | BridgeStep::KeepFor(_) => return Ok(()),
        };
        for address in remove {
            netlink.remove_address(name, *address).await?;
        }
        for address in add {
            netlink.add_address(name, *address).await?;
        }
        Ok(())
    }

    async fn by_networkd(
        &self,
        plan: &Plan,
        wanted: &BTreeMap<&LinkName, &BridgeStep>,
    ) -> anyhow::Result<()> {
        let networkd = Network1Proxy::new(&self.connections.bus).await?;
        // It makes a bridge that somebody deleted only when it reads its files again; and where a bridge is not as its
        // file says, another file held for it, which may be gone by now.
        if !wanted.is_empty() || changes_files(plan) {
            networkd.reload().await.context(NO_RELOAD)?;
            effect();
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let links = self.connections.netlink.links().await?;
        for (name, step) in wanted {
            // Files that did not change are not applied again by a reload.
            let file = network_file_name(name);
            if let (BridgeStep::Change { .. }, false, Some(link)) = (
                step,
                plan.write_files.contains_key(&file),
                links.get(name.as_str()),
            ) {
                networkd
                    .reconfigure_link(i32::try_from(link.index)?)
                    .await
                    .with_context(|| format!("systemd-networkd does not configure {name}"))?;
            }
        }
        self.connections
            .netlink
            .until(LIMIT, |links| {
                wanted
                    .iter()
                    .flat_map(|(name, step)| wrong(name, step, links.get(name.as_str())))
                    .collect()
            })
            .await
            .context("systemd-networkd did not do it; see `networkctl status` and `journalctl -u systemd-networkd`")
    }

    async fn reload_if_it_runs(&self, plan: &Plan) -> anyhow::Result<()> {
        if plan.networkd == Networkd::Runs && changes_files(plan) {
            let networkd = Network1Proxy::new(&self.connections.bus).await?;
            networkd.reload().await.context(NO_RELOAD)?;
        }
        Ok(())
    }

    /// Removes bridges and what was for them. By now no file makes networkd create them again.
    pub(super) async fn remove_bridges(&self, plan: &Plan) -> anyhow::Result<()> {
        self.dhcp(plan, &[DhcpStep::Stop]).await?;
        let netlink = &self.connections.netlink;
        for link in &plan.network.macvtaps {
            netlink.delete(link).await?;
            tracing::info!("removed macvtap {link}");
        }
        for (link, step) in &plan.network.vlans {
            if *step == VlanStep::Remove {
                netlink.delete(link).await?;
                tracing::info!("removed {link}");
            }
        }
        for (name, step) in &plan.bridges {
            if *step == BridgeStep::Remove {
                self.connections.netlink.delete(name).await?;
                tracing::info!("removed bridge {name}");
            }
        }
        self.forget_network_manager(plan).await
    }
}

fn changes_files(plan: &Plan) -> bool {
    !plan.write_files.is_empty() || !plan.remove_files.is_empty()
}

fn write_files(plan: &Plan) -> anyhow::Result<()> {
    let directory = Utf8Path::new(NETWORKD_DIR);
    files::ensure_shared_directory(directory, 0o755)
        .with_context(|| format!("cannot make {directory}"))?;
    for (name, text) in &plan.write_files {
        let path = directory.join(name);
        // networkd reads them as a user of its own.
        files::replace(&path, text.as_bytes(), 0o644)
            .with_context(|| format!("cannot write {path}"))?;
    }
    for name in &plan.remove_files {
        let path = directory.join(name);
        files::remove(&path).with_context(|| format!("cannot remove {path}"))?;
    }
    Ok(())
}

/// What a bridge still lacks.
fn wrong(name: &LinkName, step: &BridgeStep, link: Option<&Link>) -> Vec<String> {
    let Some(link) = link else {
        return vec![format!("{name} is not there")];
    };
    let mut wrong = Vec::new();
    if !link.has_mac(Network::bridge_mac(name)) {
        wrong.push(format!("{name} has another Ethernet address"));
    }
    if link.admin == Admin::Down {
        wrong.push(format!("{name} is not up"));
    }
    let (add, remove) = match step {
        BridgeStep::Create { addresses } => (addresses, [].as_slice()),
        BridgeStep::Change { add, remove, .. } => (add, remove.as_slice()),
        BridgeStep::Remove | BridgeStep::KeepFor(_) => return wrong,
    };
    let lacks = add
        .iter()
        .filter(|address| !link.addresses.contains(*address));
    wrong.extend(lacks.map(|address| format!("{name} lacks {address}")));
    let has = remove
        .iter()
        .filter(|address| link.addresses.contains(*address));
    wrong.extend(has.map(|address| format!("{name} still has {address}")));
    wrong
}
