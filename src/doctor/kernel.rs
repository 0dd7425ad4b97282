//! Gathers what the kernel says of huge pages that VMs use, and of its settings.

use std::collections::BTreeMap;
use std::fs;

use camino::{Utf8Path, Utf8PathBuf};

use super::facts::{HostState, SysctlFile, Sysctls};
use super::gather::read;
use crate::host::Size;
use crate::observe::Specification;
use crate::tuning::SYSCTL_FILE;

/// The pages that VMs' VMMs have in their memory. Guests get them as they touch them, so it is not what is declared.
pub(super) fn hugepages_used(state: &HostState, default: Option<Size>) -> BTreeMap<Size, u64> {
    let mut used = BTreeMap::new();
    let HostState::Known {
        observed, status, ..
    } = state
    else {
        return used;
    };
    for vm in &status.vms {
        let remains = observed.remains.get(&vm.id);
        let Some(Specification::Known(booted)) = remains.map(|remains| &remains.specification)
        else {
            continue;
        };
        let page = booted.vm.memory.hugepages.page(default);
        let (Some(page), Some(pid)) = (page, vm.main_pid) else {
            continue;
        };
        let bytes = hugetlb(&read(&format!("/proc/{pid}/smaps_rollup")));
        *used.entry(page).or_default() += bytes.div_ceil(page.bytes());
    }
    used
}

/// The bytes of huge pages in /proc/PID/smaps_rollup (proc_pid_smaps(5)).
fn hugetlb(rollup: &str) -> u64 {
    let kibibytes = rollup.lines().filter_map(|line| {
        let rest = ["Shared_Hugetlb:", "Private_Hugetlb:"]
            .into_iter()
            .find_map(|key| line.strip_prefix(key))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    });
    kibibytes.fold(0, u64::saturating_add).saturating_mul(1024)
}

/// Files of sysctl.d(5) in the order in which they are read: by name, of one name the first of the directories'.
pub(super) fn sysctl_files() -> Vec<SysctlFile> {
    const DIRECTORIES: [&str; 4] = [
        "/etc/sysctl.d",
        "/run/sysctl.d",
        "/usr/local/lib/sysctl.d",
        "/usr/lib/sysctl.d",
    ];
    let own = Utf8Path::new(SYSCTL_FILE).file_name().unwrap_or_default();
    let mut files: BTreeMap<String, Utf8PathBuf> = BTreeMap::new();
    for directory in DIRECTORIES.map(Utf8Path::new) {
        for name in crate::files::names(directory).unwrap_or_default() {
            let path = directory.join(&name);
            if path.extension() == Some("conf") && name != own {
                files.entry(name).or_insert(path);
            }
        }
    }
    files
        .into_iter()
        // What the distribution sets before nkudo does is no conflict.
        .filter(|(name, path)| path.starts_with("/etc") || name.as_str() > own)
        .map(|(_, path)| SysctlFile {
            text: read(path.as_str()),
            path,
        })
        .collect()
}

pub(super) fn sysctls() -> Sysctls {
    let flag = |path: &str| {
        let text = fs::read_to_string(path).ok()?;
        Some(text.trim() != "0")
    };
    Sysctls {
        bridge_netfilter: flag("/proc/sys/net/bridge/bridge-nf-call-iptables"),
        ksm: fs::read_to_string("/sys/kernel/mm/ksm/run")
            .ok()
            .map(|text| text.trim() == "1"),
        landlock: fs::read_to_string("/sys/kernel/security/lsm")
            .ok()
            .map(|text| text.trim().split(',').any(|one| one == "landlock")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_huge_pages_of_a_process_are_read() {
        let rollup = "00400000-7ff Rss ---p 00000000 00:00 0  [rollup]\nRss:      1000 kB\n\
                      Shared_Hugetlb:     2048 kB\nPrivate_Hugetlb:    4096 kB\nSwap:  0 kB\n";
        assert_eq!(hugetlb(rollup), 6 << 20);
        assert_eq!(hugetlb(""), 0);
    }
}
