//! `nkudo check`: all mistakes of a configuration, and hosts that are too old for it.

use std::io::Write as _;
use std::time::Duration;

use zbus::Connection;

use crate::cli::Check;
use crate::config::{self, Diagnostic};
use crate::host::{Capacity, Host, OnOff, ProgramName};
use crate::hypervisor::Version;
use crate::observe::{self, Hypervisor, SystemdVersion};
use crate::plan::Obstacle;
use crate::programs;
use crate::systemd::ManagerProxy;

use super::configured::{self, traced};
use super::sources::Missing;
use super::{Exit, block_on, host_files};

pub fn run(check: &Check) -> anyhow::Result<Exit> {
    let (missing, capacity) = if check.elsewhere {
        (Missing::IsElsewhere, Capacity::default())
    } else {
        (Missing::IsSaid, observe::capacity())
    };
    let Some(traced) = traced(&check.configuration, missing)? else {
        return Ok(Exit::BadConfiguration);
    };
    let host = traced.host;
    let mut warnings = config::warnings(&host, &traced.origins, &capacity);
    if check.strict {
        warnings = warnings.into_iter().map(Diagnostic::strict).collect();
    }
    configured::say(&warnings, &traced.sources)?;
    if check.strict && !warnings.is_empty() {
        return Ok(Exit::BadConfiguration);
    }
    let (too_old, lacks_machined) = if check.elsewhere {
        (Vec::new(), false)
    } else {
        block_on(async { Ok((too_old(&host.hypervisor).await, lacks_machined(&host).await)) })?
    };
    if lacks_machined {
        tracing::warn!(
            "`[host] machined` is set, and systemd-machined is not on this host: VMs run, and `machinectl` does not \
             list them\nhint: `nkudo doctor` says which package has it"
        );
        if check.strict {
            return Ok(Exit::Failed);
        }
    }
    let surprises = if check.elsewhere {
        Vec::new()
    } else {
        host_files::surprises(&host)
    };
    for surprise in &surprises {
        tracing::warn!("{surprise}");
    }
    if check.strict && !surprises.is_empty() {
        return Ok(Exit::Failed);
    }
    for obstacle in &too_old {
        tracing::error!("{obstacle}");
    }
    let files = if check.elsewhere {
        Vec::new()
    } else {
        host_files::mistakes(&host)
    };
    for mistake in &files {
        tracing::error!("{mistake}");
    }
    if !files.is_empty() {
        tracing::info!("hint: `--elsewhere` checks the configuration of another host");
        return Ok(Exit::Failed);
    }
    let count = |number: usize, one: &str| {
        let plural = if number == 1 { "" } else { "s" };
        format!("{number} {one}{plural}")
    };
    let (vms, networks) = (
        count(host.vms.len(), "VM"),
        count(host.networks.len(), "network"),
    );
    let but = match warnings.len() + surprises.len() {
        0 => String::new(),
        number => format!(", {}", count(number, "warning")),
    };
    writeln!(
        anstream::stderr().lock(),
        "{vms}, {networks}: no mistakes{but}"
    )?;
    Ok(if too_old.is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

/// What is too old here. A configuration is also checked where no systemd runs and no hypervisor is
/// installed: what is not there is not too old.
async fn too_old(hypervisor: &ProgramName) -> Vec<Obstacle> {
    let mut too_old = Vec::new();
    let version = systemd(async |manager| observe::systemd_version(&manager).await.ok()).await;
    if let Some(version) = version
        && version < SystemdVersion::MINIMUM
    {
        too_old.push(Obstacle::OldSystemd(version.0));
    }
    let path = match hypervisor {
        ProgramName::Absolute(path) => Some(path.as_path().to_owned()),
        ProgramName::OnPath(name) => programs::find(name),
    };
    if let Some(path) = path
        && let Hypervisor::Found(version) = observe::hypervisor(&path).await
        && version < Version::MINIMUM
    {
        too_old.push(Obstacle::OldHypervisor {
            path: path.into_string(),
            version,
        });
    }
    too_old
}

/// Whether VMs are to be registered with a systemd-machined that is not here. Where no systemd runs, nobody knows.
async fn lacks_machined(host: &Host) -> bool {
    if !host.vms.values().any(|vm| vm.machined == OnOff::On) {
        return false;
    }
    let files = systemd(async |manager| {
        let files = manager.list_unit_files_by_patterns(&[], &["systemd-machined.service"]);
        files.await.ok()
    });
    let files = files.await;
    files.is_some_and(|files| files.iter().all(|(_, state)| state.starts_with("masked")))
}

/// What systemd says, where it runs and answers.
async fn systemd<T>(ask: impl AsyncFnOnce(ManagerProxy<'static>) -> Option<T>) -> Option<T> {
    let asked = async {
        let bus = Connection::system().await.ok()?;
        ask(ManagerProxy::new(&bus).await.ok()?).await
    };
    let asked = tokio::time::timeout(Duration::from_secs(5), asked).await;
    asked.ok().flatten()
}
