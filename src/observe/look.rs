//! Looks at the host.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use super::hypervisor;
use super::look_network::network_facts;
use super::{
    BootedError, Detail, HeldBy, Hypervisor, Needs, NetworkFacts, Networkd, Observed, PciDevices,
    Remains, Storage, SystemdVersion, TuningFacts, booted_ids, specification, units,
};
use crate::booted::Booted;
use crate::connections::Connections;
use crate::files;
use crate::host::VmId;
use crate::link::LinkError;
use crate::network::{self, NETWORKD_DIR};
use crate::systemd::ManagerProxy;
use crate::unit::{RUNTIME_ROOT, TRANSIENT, companions_directory, root_directories};

#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    #[error("cannot ask systemd over D-Bus")]
    Bus(#[from] zbus::Error),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Booted(#[from] BootedError),
    #[error("cannot read {path}")]
    Io {
        path: Utf8PathBuf,
        source: io::Error,
    },
    #[error("cannot make out systemd's version from {0:?}")]
    SystemdVersion(String),
}

/// Sees everything that a plan depends on, but for the storage, which depends on whose it is.
/// Without a `hypervisor` that one is not asked.
pub async fn observe(
    connections: &Connections,
    hypervisor: Option<&Utf8Path>,
    detail: Detail,
) -> Result<Observed, ObserveError> {
    let Connections {
        bus,
        manager,
        netlink,
    } = connections;
    let (systemd, networkd, units, unit_files, links, network, hypervisor) = tokio::join!(
        systemd_version(manager),
        networkd(manager),
        units::units(bus, manager, detail),
        unit_files(manager),
        async {
            // One after the other: a socket of netlink's has one listing at a time.
            let links = netlink.links().await?;
            let routes = match detail {
                Detail::Status => Vec::new(),
                Detail::Plan | Detail::Networks => netlink.routes().await?,
            };
            Ok::<_, LinkError>((links, routes))
        },
        async {
            match detail {
                Detail::Status => Ok(NetworkFacts::default()),
                Detail::Plan | Detail::Networks => network_facts(manager).await,
            }
        },
        async {
            match hypervisor {
                Some(path) if detail != Detail::Plan => hypervisor::as_known(path).await,
                Some(path) => hypervisor::hypervisor(path).await,
                None => Hypervisor::Unusable("it was not asked".to_owned()),
            }
        },
    );
    let (links, routes) = links?;
    let network = NetworkFacts { routes, ..network? };
    Ok(Observed {
        systemd: systemd?,
        networkd: networkd?,
        hypervisor,
        units: units?,
        unit_files: unit_files?,
        links,
        networkd_files: networkd_files()?,
        remains: remains()?,
        held: held()?,
        obstructed: obstructed()?,
        needs: Needs::default(),
        storage: Storage::default(),
        tuning: TuningFacts::default(),
        pci: PciDevices::default(),
        network,
    })
}

/// Unit files that take the name of a VM's transient unit, from where systemd looks for them. They are not asked of
/// systemd: it reads and judges every file of such a name for that, the transient ones too (0.16 s for a thousand VMs).
async fn unit_files(manager: &ManagerProxy<'_>) -> Result<Vec<Utf8PathBuf>, ObserveError> {
    let mut found = BTreeSet::new();
    for directory in manager.unit_path().await? {
        if directory == TRANSIENT {
            continue;
        }
        let directory = Utf8Path::new(&directory);
        let names = names(directory)?.into_iter();
        let taking = names.filter(|name| is_vm_unit_file(name));
        found.extend(taking.map(|name| directory.join(name)));
    }
    Ok(found.into_iter().collect())
}

/// Whether a file of this name is, for systemd, the unit of a VM or the template of all.
fn is_vm_unit_file(name: &str) -> bool {
    name.starts_with("nkudo-vm@") && Utf8Path::new(name).extension() == Some("service")
}

pub async fn systemd_version(manager: &ManagerProxy<'_>) -> Result<SystemdVersion, ObserveError> {
    let text = manager.version().await?;
    SystemdVersion::parse(&text).ok_or(ObserveError::SystemdVersion(text))
}

async fn networkd(manager: &ManagerProxy<'_>) -> zbus::Result<Networkd> {
    // Of systemd, not of the bus: early in the boot networkd runs and has no name there yet. Calling
    // it then waits for that (it can be activated), and asking here starts nothing.
    let states = ["active", "activating", "reloading", "refreshing"];
    let listed = manager
        .list_units_by_patterns(&states, &["systemd-networkd.service"])
        .await?;
    Ok(if listed.is_empty() {
        Networkd::Absent
    } else {
        Networkd::Runs
    })
}

fn networkd_files() -> Result<BTreeMap<String, String>, ObserveError> {
    let directory = Utf8Path::new(NETWORKD_DIR);
    let mut seen = BTreeMap::new();
    for name in names(directory)? {
        if network::is_ours(&name) {
            let path = directory.join(&name);
            let bytes = files::read(&path).map_err(failed(&path))?;
            if let Some(bytes) = bytes {
                seen.insert(name, String::from_utf8_lossy(&bytes).into_owned());
            }
        }
    }
    Ok(seen)
}

fn remains() -> Result<BTreeMap<VmId, Remains>, ObserveError> {
    let mut remains: BTreeMap<VmId, Remains> = BTreeMap::new();
    for id in booted_ids().map_err(failed(&Booted::directory()))? {
        let specification = specification(&id)?;
        remains.entry(id).or_default().specification = specification;
    }
    for name in names(&companions_directory())? {
        if let Ok(id) = name.parse() {
            remains.entry(id).or_default();
        }
    }
    for name in names(&crate::seed::directory_of_volumes())? {
        if let Some(id) = name.strip_suffix(".img").and_then(|id| id.parse().ok()) {
            remains.entry(id).or_default();
        }
    }
    for name in names(&root_directories())? {
        if let Ok(id) = name.parse() {
            remains.entry(id).or_default().root = true;
        }
    }
    Ok(remains)
}

/// Where a VM that is held has a file of its name, which says by whom (`HeldBy`).
pub fn held_directory() -> Utf8PathBuf {
    Utf8Path::new(RUNTIME_ROOT).join("held")
}

/// Where a VM that was not ready in time, and is stopped for that, has a file of its name, with the
/// invocation that was not.
pub fn not_ready_directory() -> Utf8PathBuf {
    Utf8Path::new(RUNTIME_ROOT).join("not-ready")
}

/// Where a VM that nkudo itself stops has a file of its name, with the invocation that it stops.
pub fn stopping_directory() -> Utf8PathBuf {
    Utf8Path::new(RUNTIME_ROOT).join("stopping")
}

/// Where a VM that a switch left out has a file of its name, which says why.
pub fn obstacles_directory() -> Utf8PathBuf {
    Utf8Path::new(RUNTIME_ROOT).join("obstacles")
}

fn obstructed() -> Result<BTreeMap<VmId, String>, ObserveError> {
    let directory = obstacles_directory();
    let mut obstructed = BTreeMap::new();
    for name in names(&directory)? {
        let Ok(id) = name.parse::<VmId>() else {
            continue;
        };
        let path = directory.join(&name);
        let why = files::read(&path).map_err(failed(&path))?;
        let why = String::from_utf8_lossy(&why.unwrap_or_default()).into_owned();
        obstructed.insert(id, why.trim_end().replace('\n', "; "));
    }
    Ok(obstructed)
}

fn held() -> Result<BTreeMap<VmId, HeldBy>, ObserveError> {
    let directory = held_directory();
    let mut held = BTreeMap::new();
    for name in names(&directory)? {
        let Ok(id) = name.parse::<VmId>() else {
            continue;
        };
        let path = directory.join(&name);
        let bytes = files::read(&path).map_err(failed(&path))?;
        let by = HeldBy::from_bytes(&bytes.unwrap_or_default());
        held.insert(id, by);
    }
    Ok(held)
}

fn names(directory: &Utf8Path) -> Result<Vec<String>, ObserveError> {
    files::names(directory).map_err(failed(directory))
}

pub(super) fn failed(path: &Utf8Path) -> impl FnOnce(io::Error) -> ObserveError + use<'_> {
    move |source| ObserveError::Io {
        path: path.to_owned(),
        source,
    }
}
