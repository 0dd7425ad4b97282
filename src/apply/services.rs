//! What the host does for networks: rules, kernel settings, handing out addresses.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use camino::Utf8Path;

use super::network::Unmade;
use super::{Apply, NotMade};
use crate::files;
use crate::host::NetworkName;
use crate::network;
use crate::nft;
use crate::observe::SYSCTL_FILE;
use crate::plan::{DhcpStep, Plan, RulesStep, Sysctl};
use crate::systemd::{JobResult, transient_properties};
use crate::unit::{dhcp_unit, dhcp_unit_name};

/// A DHCP server starts and stops in milliseconds.
const LIMIT: Duration = Duration::from_secs(60);

impl Apply<'_> {
    /// Checks that the rules can be loaded, before anything depends on them.
    pub(super) async fn check_rules(&self, plan: &Plan) -> Result<(), Unmade> {
        let RulesStep::Load { text, .. } = &plan.network.rules else {
            return Ok(());
        };
        let Err(why) = nft::check(text).await else {
            return Ok(());
        };
        // One network may need what this kernel has not, such as NAT, and others do without.
        let mut with_rules = network::with_rules(&self.wanted.host);
        with_rules.retain(|name| !plan.network.left_out.contains_key(name));
        let mut refused = BTreeMap::new();
        for name in &with_rules {
            let mut alone = self.wanted.host.clone();
            alone.networks.retain(|other, _| other == name);
            if let Some(text) = network::rules(&alone)
                && let Err(why) = nft::check(&text).await
            {
                refused.insert(name.clone(), format!("{why:#}"));
            }
        }
        let what = if refused.is_empty() || refused.len() == with_rules.len() {
            NotMade::RulesRefused(format!("{why:#}"))
        } else {
            NotMade::Networks(refused)
        };
        Err(Unmade { what, why })
    }

    /// Loads the rules, or removes them.
    pub(super) async fn load_rules(&self, plan: &Plan) -> anyhow::Result<()> {
        match &plan.network.rules {
            RulesStep::Keep => {
                if let Err(err) = nft::remember().await {
                    // They are as they were seen, and the next look lists them again.
                    tracing::warn!(
                        "cannot note that the firewall rules are as they were loaded: {err:#}"
                    );
                }
            }
            RulesStep::Load { text, .. } => {
                nft::load(Some(text)).await?;
                tracing::info!("loaded the firewall rules");
            }
            RulesStep::Remove => {
                nft::load(None).await?;
                tracing::info!("removed the firewall rules");
            }
        }
        Ok(())
    }

    /// Starts, restarts or stops what hands out addresses.
    pub(super) async fn dhcp(&self, network: &NetworkName, step: &DhcpStep) -> anyhow::Result<()> {
        self.one_dhcp(network, step)
            .await
            .with_context(|| format!("the DHCP server of network {network}"))
    }

    async fn one_dhcp(&self, network: &NetworkName, step: &DhcpStep) -> anyhow::Result<()> {
        let name = dhcp_unit_name(network);
        self.unload(&name).await?;
        if *step == DhcpStep::Stop {
            tracing::info!("stopped {name}");
            return Ok(());
        }
        let dnsmasq = self.dnsmasq.as_deref().context("there is no dnsmasq")?;
        let unit = dhcp_unit(&self.wanted.host, network, dnsmasq)
            .context("the generation hands out nothing there")?;
        let properties = transient_properties(unit.properties(), Vec::new());
        let job = self
            .connections
            .manager
            .start_transient_unit(&name, "fail", &properties, &[])
            .await
            .with_context(|| format!("systemd does not take the unit {name}"))?;
        match self.jobs.wait(&job, LIMIT).await? {
            JobResult::Done => tracing::info!("started {name}"),
            JobResult::Other(result) => {
                bail!("its start ended with `{result}`; see `journalctl -u {name}`")
            }
        }
        Ok(())
    }
}

/// Sets what forwarding needs. What is nkudo's is noted before it is changed.
pub(super) fn set_sysctls(plan: &Plan) -> anyhow::Result<()> {
    let step = &plan.network.sysctls;
    let gives_back = |sysctl: &&Sysctl| {
        !step
            .note
            .as_ref()
            .is_some_and(|note| note.contains_key(&sysctl.name))
    };
    // What is given back stays noted until it is.
    let set = step.set.iter().filter(|sysctl| !gives_back(sysctl));
    let back = step.set.iter().filter(gives_back);
    for sysctl in back {
        write_sysctl(sysctl)?;
    }
    if let Some(note) = &step.note {
        write_note(note)?;
    }
    set.into_iter().try_for_each(write_sysctl)
}

fn write_sysctl(sysctl: &Sysctl) -> anyhow::Result<()> {
    let path = Utf8Path::new("/proc/sys").join(&sysctl.name);
    std::fs::write(&path, &sysctl.new)
        .with_context(|| format!("cannot set {path} to {}", sysctl.new))?;
    tracing::info!("set {} to {}", sysctl.name, sysctl.new);
    Ok(())
}

fn write_note(note: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let path = Utf8Path::new(SYSCTL_FILE);
    if note.is_empty() {
        return files::remove(path).with_context(|| format!("cannot remove {path}"));
    }
    let mut text =
        "# nkudo forwards for its networks; it removes what it set when none needs it.\n"
            .to_owned();
    for (name, value) in note {
        let _ = writeln!(text, "{name} = {value}");
    }
    let directory = path.parent().context("it has no directory")?;
    files::ensure_shared_directory(directory, 0o755)
        .and_then(|()| files::replace(path, text.as_bytes(), 0o644))
        .with_context(|| format!("cannot write {path}"))
}
