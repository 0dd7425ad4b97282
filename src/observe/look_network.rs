//! Looks at the host's network, besides its links.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use super::units::{fields_of_transient, state};
use super::{DhcpUnit, NetworkFacts, NetworkManager, ObserveError, Sysctls};
use crate::files;
use crate::host::{LinkName, NetworkName};
use crate::network::{NETWORK_MANAGER_DIR, NETWORK_MANAGER_FILE};
use crate::nft;
use crate::systemd::ManagerProxy;
use crate::unit::RUNTIME_ROOT;

/// The kernel settings that nkudo changed: sysctl.d(5) applies them again to a link that comes back.
pub const SYSCTL_FILE: &str = "/run/sysctl.d/60-nkudo.conf";

/// Where each link that nkudo put into a bridge has a file of its name, with the bridge's in it.
pub fn uplinks_directory() -> Utf8PathBuf {
    Utf8Path::new(RUNTIME_ROOT).join("uplinks")
}

/// All but the routes.
pub(super) async fn network_facts(
    manager: &ManagerProxy<'_>,
) -> Result<NetworkFacts, ObserveError> {
    let ((rules, dropping), dhcp) = tokio::join!(nft::look(), dhcp(manager));
    Ok(NetworkFacts {
        routes: Vec::new(),
        rules,
        dropping,
        uplinks: uplinks()?,
        dhcp: dhcp?,
        sysctls: Sysctls {
            seen: sysctls_seen()?,
            ours: sysctls_ours()?,
        },
        dnsmasq: dnsmasq(),
        network_manager: network_manager()?,
        not_made: BTreeMap::new(),
    })
}

fn uplinks() -> Result<BTreeMap<String, String>, ObserveError> {
    let directory = uplinks_directory();
    let mut uplinks = BTreeMap::new();
    for name in files::names(&directory).map_err(super::look::failed(&directory))? {
        let path = directory.join(&name);
        if let Some(bridge) = files::read(&path).map_err(super::look::failed(&path))? {
            uplinks.insert(name, String::from_utf8_lossy(&bridge).trim().to_owned());
        }
    }
    Ok(uplinks)
}

async fn dhcp(manager: &ManagerProxy<'_>) -> Result<BTreeMap<NetworkName, DhcpUnit>, ObserveError> {
    let listed = manager
        .list_units_by_patterns(&[], &["nkudo-dhcp@*.service"])
        .await?;
    let unit = |listing: crate::systemd::UnitListing| {
        let name = listing
            .0
            .strip_prefix("nkudo-dhcp@")?
            .strip_suffix(".service")?
            .parse()
            .ok()?;
        let digest = fields_of_transient(&listing.0)
            .into_iter()
            .find_map(|field| Some(field.strip_prefix("NKUDO_DIGEST=")?.to_owned()));
        let unit = DhcpUnit {
            state: state(&listing.3),
            digest,
        };
        (listing.2 != "not-found").then_some((name, unit))
    };
    Ok(listed.into_iter().filter_map(unit).collect())
}

/// The settings about forwarding: of the host, and of its links that are no VM's.
fn sysctls_seen() -> Result<BTreeMap<String, String>, ObserveError> {
    let mut names: Vec<String> = ["ipv4", "ipv6"]
        .iter()
        .map(|family| format!("net/{family}/conf/all/forwarding"))
        .collect();
    // Whether the kernel has it: there may be no link yet on which it could be seen.
    names.push("net/ipv6/conf/all/force_forwarding".to_owned());
    for (family, keys) in [
        ("ipv4", ["forwarding"].as_slice()),
        // The first from Linux 6.17 on.
        ("ipv6", &["force_forwarding", "accept_ra"]),
    ] {
        let directory = Utf8PathBuf::from(format!("/proc/sys/net/{family}/conf"));
        for link in files::names(&directory).map_err(super::look::failed(&directory))? {
            let not_a_link = ["all", "default", "lo"].contains(&link.as_str());
            if not_a_link || link.starts_with(LinkName::TAP_PREFIX) {
                continue;
            }
            names.extend(
                keys.iter()
                    .map(|key| format!("net/{family}/conf/{link}/{key}")),
            );
        }
    }
    let mut seen = BTreeMap::new();
    for name in names {
        // A link may be gone by now, and not every kernel has every setting.
        if let Ok(Some(value)) = files::read(&Utf8Path::new("/proc/sys").join(&name)) {
            seen.insert(name, String::from_utf8_lossy(&value).trim().to_owned());
        }
    }
    Ok(seen)
}

fn sysctls_ours() -> Result<BTreeMap<String, String>, ObserveError> {
    let path = Utf8Path::new(SYSCTL_FILE);
    let text = files::read(path).map_err(super::look::failed(path))?;
    let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
    let line = |line: &str| {
        let (name, value) = line.split_once('=')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    };
    Ok(text.lines().filter_map(line).collect())
}

fn network_manager() -> Result<NetworkManager, ObserveError> {
    if !Utf8Path::new(NETWORK_MANAGER_DIR).is_dir() {
        return Ok(NetworkManager::Absent);
    }
    let path = Utf8Path::new(NETWORK_MANAGER_FILE);
    let text = files::read(path).map_err(super::look::failed(path))?;
    let text = text.map(|text| String::from_utf8_lossy(&text).into_owned());
    Ok(NetworkManager::There(text))
}

/// dnsmasq is a system program: a shell's PATH may lack where it is.
fn dnsmasq() -> Option<Utf8PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/usr/local/sbin", "/run/current-system/sw/bin"])
        .map(|directory| Utf8Path::new(directory).join("dnsmasq"))
        .find(|file| file.is_absolute() && file.is_file())
}
