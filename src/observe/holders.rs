//! Who has locked a file.
//!
//! cloud-hypervisor and QEMU lock disks by open file descriptions (F_OFD_SETLK, fcntl(2)). The kernel names no
//! process for such a lock, but /proc/PID/fdinfo tells it for each descriptor.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use camino::{Utf8Path, Utf8PathBuf};

use super::Holder;
use crate::host::DiskAccess;

/// The files among these that a process has locked.
pub fn holders<'p>(paths: impl Iterator<Item = &'p Utf8Path>) -> BTreeMap<Utf8PathBuf, Holder> {
    let mut holders = BTreeMap::new();
    // What cannot be read names nobody: the VMM still refuses a disk that is locked.
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let locked: Vec<u64> = locks.lines().filter_map(inode).collect();
    let mut sought: BTreeMap<(u64, u64), Vec<&Utf8Path>> = BTreeMap::new();
    for path in paths {
        // By number first: on btrfs the device in /proc/locks is another than stat(2) gives.
        if let Ok(file) = fs::metadata(path)
            && locked.contains(&file.ino())
        {
            sought
                .entry((file.dev(), file.ino()))
                .or_default()
                .push(path);
        }
    }
    if sought.is_empty() {
        return holders;
    }
    for process in entries("/proc") {
        let Ok(pid) = process.parse::<u32>() else {
            continue;
        };
        for fd in entries(&format!("/proc/{pid}/fd")) {
            let Ok(file) = fs::metadata(format!("/proc/{pid}/fd/{fd}")) else {
                continue;
            };
            let Some(paths) = sought.get(&(file.dev(), file.ino())) else {
                continue;
            };
            let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
            let mut locks = info
                .lines()
                .filter(|line| line.starts_with("lock:"))
                .peekable();
            if locks.peek().is_none() {
                continue;
            }
            let writes = locks.any(|line| line.split_whitespace().any(|word| word == "WRITE"));
            let holder = holder_of(pid, writes);
            for path in paths {
                holders.entry((*path).to_owned()).or_insert(holder.clone());
            }
        }
    }
    holders
}

/// The inode of a line of /proc/locks (proc_locks(5)): `1: OFDLCK ADVISORY WRITE -1 08:01:1234 0 EOF`.
fn inode(line: &str) -> Option<u64> {
    let place = line
        .split_whitespace()
        .find(|word| word.matches(':').count() == 2)?;
    place.rsplit(':').next()?.parse().ok()
}

fn holder_of(pid: u32, writes: bool) -> Holder {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let cgroup = read("cgroup");
    let unit = cgroup.split('/').find_map(|part| {
        part.trim_end()
            .strip_prefix("nkudo-vm@")?
            .strip_suffix(".service")
    });
    Holder {
        pid,
        command: read("comm").trim_end().to_owned(),
        vm: unit.and_then(|id| id.parse().ok()),
        access: if writes {
            DiskAccess::ReadWrite
        } else {
            DiskAccess::ReadOnly
        },
    }
}

fn entries(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let line = "3: OFDLCK ADVISORY  WRITE -1 00:2a:123456 0 0";
        assert_eq!(inode(line), Some(123_456));
        assert_eq!(
            inode("1: -> FLOCK  ADVISORY  WRITE 1 08:02:77 0 EOF"),
            Some(77)
        );
        assert_eq!(inode(""), None);
    }
}
