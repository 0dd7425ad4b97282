//! Bridges, by networkd or by rtnetlink.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, bail};
use camino::Utf8Path;

use super::{Apply, NotMade, run_files, services};
use crate::files;
use crate::host::{Bridge, Family, LinkName, Network, NetworkName};
use crate::interruption::effect;
use crate::network::{Backend, NETWORKD_DIR, network_file_name};
use crate::observe::{Admin, Link, Networkd};
use crate::plan::{BridgeStep, DhcpStep, OnObstacle, Plan, PortOwner, PortStep, VlanStep};
use crate::systemd::Network1Proxy;

/// How long networkd may take to answer, and to make bridges. It takes some 20 ms.
const LIMIT: Duration = Duration::from_secs(20);

/// networkd does not come back by itself to a bus that was restarted under it (seen on 257).
const NO_RELOAD: &str = "systemd-networkd does not reload its files; if D-Bus was restarted, \
                         `systemctl restart systemd-networkd` brings it back to the bus";

/// Why networks could not be made, and which: where the host goes on without them, it goes on without those.
#[derive(Debug)]
pub(super) struct Unmade {
    pub(super) what: NotMade,
    pub(super) why: anyhow::Error,
}

impl Unmade {
    fn of(networks: impl IntoIterator<Item = NetworkName>, why: impl Into<anyhow::Error>) -> Self {
        let why = why.into();
        let text = format!("{why:#}");
        let networks = networks.into_iter().map(|name| (name, text.clone()));
        Self {
            what: NotMade::Networks(networks.collect()),
            why,
        }
    }

    /// Whether it is no network's that there still is to go without.
    pub(super) fn is_nobodys(&self) -> bool {
        matches!(&self.what, NotMade::Networks(networks) if networks.is_empty())
    }
}

impl Apply<'_> {
    /// Makes and changes bridges.
    pub(super) async fn networks(&self, plan: &Plan) -> Result<(), Unmade> {
        let concerned = |which: &dyn Fn(&Network) -> bool| {
            let networks = self.wanted.host.networks.iter();
            let planned = networks.filter(|(name, _)| !plan.network.left_out.contains_key(*name));
            let concerned = planned.filter(|(_, network)| which(network));
            concerned.map(|(name, _)| name.clone()).collect::<Vec<_>>()
        };
        let all = |why| Unmade::of(concerned(&|_| true), why);
        let of_link = |link: &LinkName, why| {
            let has = |network: &Network| {
                let uplink = network.uplink();
                network.bridge() == Some(link) || uplink.is_some_and(|uplink| uplink.port() == link)
            };
            Unmade::of(concerned(&has), why)
        };
        self.check_rules(plan).await?;
        self.tell_network_manager(plan).await.map_err(all)?;
        write_files(plan).map_err(all)?;
        let wanted: BTreeMap<&LinkName, &BridgeStep> = plan
            .bridges
            .iter()
            .filter(|(_, step)| {
                matches!(step, BridgeStep::Create { .. } | BridgeStep::Change { .. })
            })
            .collect();
        if let Err(why) = self.reload(plan, &wanted).await {
            let unmade = Unmade::of(concerned(&|network| network.own().is_some()), why);
            // No network that is left needs networkd.
            if !unmade.is_nobodys() || plan.on_obstacle == OnObstacle::Refuse {
                return Err(unmade);
            }
            tracing::warn!("{:#}", unmade.why);
        }
        match plan.backend {
            Backend::Netlink => {
                for (name, step) in &wanted {
                    let made = self.by_netlink(name, step).await;
                    made.map_err(|why| of_link(name, why))?;
                }
            }
            Backend::Networkd => {
                for (name, step) in &wanted {
                    let configured = self.reconfigure(plan, name, step).await;
                    configured.map_err(|why| of_link(name, why))?;
                }
                if let Err(why) = self.until_configured(&wanted).await {
                    let lack = self.that_lack(&wanted).await.map_err(all)?;
                    let lacks = |network: &Network| {
                        network.bridge().is_some_and(|bridge| lack.contains(bridge))
                    };
                    return Err(Unmade::of(concerned(&lacks), why));
                }
            }
        }
        for name in wanted.keys() {
            tracing::info!("set up bridge {name}");
        }
        for (link, step) in &plan.network.vlans {
            let made = self.vlan(link, step).await;
            made.map_err(|why| of_link(link, why))?;
        }
        for (link, step) in &plan.network.ports {
            if let PortStep::Put { bridge, whose } = step {
                let put = self.put(link, bridge, *whose).await;
                put.map_err(|why| of_link(link, why))?;
            }
        }
        for (network, step) in &plan.network.dhcp {
            if matches!(step, DhcpStep::Start | DhcpStep::Restart) {
                let started = self.dhcp(network, step).await;
                started.map_err(|why| Unmade::of([network.clone()], why))?;
            }
        }
        // Last is what may be of no network any more.
        services::set_sysctls(plan).map_err(|why| {
            let forwards = |network: &Network| {
                let forwards = |own: &Bridge| Family::ALL.into_iter().any(|one| own.forwards(one));
                network.own().is_some_and(forwards)
            };
            Unmade::of(concerned(&forwards), why)
        })?;
        for (link, step) in &plan.network.ports {
            if let PortStep::Release { bridge } = step {
                let released = self.release(link, bridge).await;
                released.map_err(|why| of_link(link, why))?;
            }
        }
        Ok(())
    }

    async fn vlan(&self, link: &LinkName, step: &VlanStep) -> anyhow::Result<()> {
        let netlink = &self.connections.netlink;
        match step {
            VlanStep::Create { vlan, uplink } => {
                netlink.delete(link).await?;
                netlink.create_vlan(vlan, uplink).await?;
                tracing::info!("made {link}");
            }
            VlanStep::SetUp => netlink.set_up_named(link).await?,
            VlanStep::Remove => {}
        }
        Ok(())
    }

    async fn put(
        &self,
        link: &LinkName,
        bridge: &LinkName,
        whose: PortOwner,
    ) -> anyhow::Result<()> {
        if whose == PortOwner::Host {
            run_files::note_uplink(link, bridge)?;
        }
        // networkd does it too, with the file that it has; whoever is first.
        self.connections.netlink.put_uplink(link, bridge).await?;
        tracing::info!("put {link} into {bridge}");
        Ok(())
    }

    async fn release(&self, link: &LinkName, bridge: &str) -> anyhow::Result<()> {
        self.connections.netlink.release(link, bridge).await?;
        run_files::forget_uplink(link)?;
        tracing::info!("took {link} out of {bridge}");
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

    /// Has networkd read its files again.
    async fn reload(
        &self,
        plan: &Plan,
        wanted: &BTreeMap<&LinkName, &BridgeStep>,
    ) -> anyhow::Result<()> {
        // It makes a bridge that somebody deleted only when it reads its files again; and where a bridge is not as its
        // file says, another file held for it, which may be gone by now.
        let makes = plan.backend == Backend::Networkd && !wanted.is_empty();
        if makes || (plan.networkd == Networkd::Runs && changes_files(plan)) {
            let reload = async {
                let networkd = Network1Proxy::new(&self.connections.bus).await?;
                networkd.reload().await
            };
            answer(reload).await.context(NO_RELOAD)?;
            effect();
        }
        Ok(())
    }

    /// Has networkd configure a bridge that is not as its file says: files that did not change are not applied again by a
    /// reload.
    async fn reconfigure(
        &self,
        plan: &Plan,
        name: &LinkName,
        step: &BridgeStep,
    ) -> anyhow::Result<()> {
        let is_new = plan.write_files.contains_key(&network_file_name(name));
        if is_new || !matches!(step, BridgeStep::Change { .. }) {
            return Ok(());
        }
        let links = self.connections.netlink.links().await?;
        let Some(link) = links.get(name.as_str()) else {
            return Ok(());
        };
        let index = i32::try_from(link.index)?;
        let reconfigure = async {
            let networkd = Network1Proxy::new(&self.connections.bus).await?;
            networkd.reconfigure_link(index).await
        };
        answer(reconfigure)
            .await
            .with_context(|| format!("systemd-networkd does not configure {name}"))
    }

    async fn until_configured(
        &self,
        wanted: &BTreeMap<&LinkName, &BridgeStep>,
    ) -> anyhow::Result<()> {
        if wanted.is_empty() {
            return Ok(());
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

    /// The bridges that still lack something; all of them, where they have come just now.
    async fn that_lack(
        &self,
        wanted: &BTreeMap<&LinkName, &BridgeStep>,
    ) -> anyhow::Result<BTreeSet<LinkName>> {
        let links = self.connections.netlink.links().await?;
        let lacks = |name: &LinkName, step: &BridgeStep| {
            !wrong(name, step, links.get(name.as_str())).is_empty()
        };
        let names = |lacking: &dyn Fn(&LinkName, &BridgeStep) -> bool| {
            let names = wanted.iter().filter(|(name, step)| lacking(name, step));
            names
                .map(|(name, _)| (*name).clone())
                .collect::<BTreeSet<_>>()
        };
        let lacking = names(&lacks);
        Ok(if lacking.is_empty() {
            names(&|_, _| true)
        } else {
            lacking
        })
    }

    /// Removes bridges and what was for them. By now no file makes networkd create them again.
    pub(super) async fn remove_bridges(&self, plan: &Plan) -> anyhow::Result<()> {
        for (network, step) in &plan.network.dhcp {
            if *step == DhcpStep::Stop {
                self.dhcp(network, step).await?;
            }
        }
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

/// What networkd answers, which one that hangs never does.
async fn answer(call: impl Future<Output = zbus::Result<()>>) -> anyhow::Result<()> {
    match tokio::time::timeout(LIMIT, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => bail!("it did not answer within {} s", LIMIT.as_secs()),
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
