//! `nkudo collect`: an archive for whoever helps.

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use serde_json::json;

use crate::cli::Collect as Arguments;
use crate::collect::{Console, Part, archive, gather};
use crate::doctor::{self, HostState, Report, checks};
use crate::document::FormatVersion;
use crate::files;
use crate::generation::Store;
use crate::host::VmId;
use crate::programs;

use super::current::no_such_vm;
use super::{Exit, block_on, print, state_dir};

pub fn run(arguments: &Arguments, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let store = Store::new(&state_dir::state_dir(given));
    let now = Timestamp::now();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let time = now.strftime("%Y%m%dT%H%M%SZ");
    let incident = format!("nkudo-{}-{time}", harmless(host.trim()));
    let path = match &arguments.output {
        Some(path) => path.clone(),
        None => Utf8PathBuf::from(format!("{incident}.tar.zst")),
    };
    let parts = block_on(collect(arguments, &store, &incident))?;
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let bytes = archive(&incident, &parts, seconds).context("cannot make the archive")?;
    let place = match path.parent() {
        Some(parent) if !parent.as_str().is_empty() => path.clone(),
        _ => Utf8Path::new(".").join(&path),
    };
    files::replace(&place, &bytes, 0o600).with_context(|| format!("cannot write {path}"))?;
    tracing::info!(
        "wrote {} files of the host, its VMs and nkudo to {path}; seeds and the configuration as written are left out, and \
         what looks like a password or a key is masked. Look through it before you give it away.",
        parts.len()
    );
    print(&format!("incident {incident}\narchive {path}\n"))?;
    Ok(Exit::Done)
}

async fn collect(
    arguments: &Arguments,
    store: &Store,
    incident: &str,
) -> anyhow::Result<Vec<Part>> {
    let only = arguments.id.as_ref();
    let facts = doctor::gather(store, only, programs::find).await;
    let (ids, status): (Vec<VmId>, serde_json::Value) = match &facts.state {
        HostState::Known { status, .. } => {
            let vms = status.vms.iter().map(|vm| vm.id.clone());
            (vms.collect(), serde_json::to_value(status)?)
        }
        HostState::Unknown(why) => (
            only.cloned().into_iter().collect(),
            json!({ "unknown": why }),
        ),
    };
    let ids: Vec<VmId> = match only {
        Some(id) if !ids.contains(id) => return Err(no_such_vm(id)),
        Some(id) => vec![id.clone()],
        None => ids,
    };
    let report = Report {
        version: FormatVersion,
        nkudo: env!("CARGO_PKG_VERSION"),
        checks: checks(&facts, None),
    };
    let generation = match &facts.state {
        HostState::Known {
            manifest, status, ..
        } => json!({
            "number": status.generation,
            "id": manifest.as_ref().map(|manifest| manifest.id.clone()),
        }),
        HostState::Unknown(_) => serde_json::Value::Null,
    };
    let summary = json!({
        "version": 1,
        "incident": incident,
        "nkudo": env!("CARGO_PKG_VERSION"),
        "generation": generation,
        "vms": ids,
    });
    let mut parts = vec![
        Part::new("incident.json", &serde_json::to_string_pretty(&summary)?),
        Part::new("doctor.json", &serde_json::to_string_pretty(&report)?),
        Part::new("doctor.txt", &super::doctor::text(&report.checks, None)),
        Part::new("status.json", &serde_json::to_string_pretty(&status)?),
    ];
    let console = if arguments.no_console {
        Console::Leave
    } else {
        Console::Include
    };
    let hypervisor = facts.hypervisor.0.clone();
    let hypervisor = hypervisor.unwrap_or_else(|| "cloud-hypervisor".into());
    parts.extend(gather(store, &ids, &hypervisor, console).await);
    Ok(parts)
}

/// A host's name as part of a file's.
fn harmless(name: &str) -> String {
    let name: String = name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-.".contains(*c))
        .collect();
    if name.is_empty() {
        "host".to_owned()
    } else {
        name
    }
}
