//! The filesystems that are written to.

#![deny(clippy::disallowed_methods)]

use super::size;
use crate::doctor::Check;
use crate::doctor::facts::Filesystem;

/// Below this a filesystem is as good as full, unless it is a small one, as /run.
const FULL: u64 = 256 << 20;

pub(super) fn space(path: &str, filesystem: &Filesystem) -> Check {
    let name = "disk-space";
    let uses: Vec<&str> = filesystem.uses.iter().map(String::as_str).collect();
    let what = format!(
        "{path}: {} of {} free ({})",
        size(filesystem.available),
        size(filesystem.size),
        uses.join(", ")
    );
    let remedy = format!(
        "`du -xh --max-depth=2 {path} | sort -h | tail` shows what takes it; `nkudo gc` removes old generations, \
         `journalctl --vacuum-size=1G` old logs"
    );
    if filesystem.read_only {
        return Check::fail(
            name,
            format!("{path} is read-only ({})", uses.join(", ")),
            "`journalctl -k` says why, where the kernel made it so: most often a disk with errors; else \
             `findmnt` shows how it is mounted",
        );
    }
    if filesystem.available < FULL.min(filesystem.size / 10) {
        Check::fail(name, what, remedy)
    } else if filesystem.available < filesystem.size / 20 {
        Check::warn(name, what, remedy)
    } else {
        Check::ok(name, what)
    }
}

pub(super) fn inodes(path: &str, filesystem: &Filesystem) -> Check {
    let name = "inodes";
    // btrfs, zfs and their like have no fixed number.
    if filesystem.inodes == 0 {
        return Check::ok(name, format!("{path}: no fixed number"));
    }
    let free = filesystem.inodes_free;
    let what = format!("{path}: {free} of {} free", filesystem.inodes);
    let remedy = format!(
        "remove files that nobody needs: `du --inodes -x --max-depth=2 {path} | sort -n | tail`"
    );
    if free < 100 {
        Check::fail(name, what, remedy)
    } else if free < filesystem.inodes / 20 {
        Check::warn(name, what, remedy)
    } else {
        Check::ok(name, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_small_filesystem_is_full_when_little_of_it_is_free() {
        let verdict = |size: u64, available: u64| {
            let filesystem = Filesystem {
                uses: ["sockets".to_owned()].into(),
                read_only: false,
                size: size << 20,
                available: available << 20,
                inodes: 0,
                inodes_free: 0,
            };
            space("/run", &filesystem).verdict
        };
        assert_eq!(verdict(143, 143), Verdict::Ok);
        assert_eq!(verdict(143, 10), Verdict::Fail);
        assert_eq!(verdict(100_000, 255), Verdict::Fail);
        assert_eq!(verdict(100_000, 3000), Verdict::Warn);
        assert_eq!(verdict(100_000, 6000), Verdict::Ok);
    }
}
