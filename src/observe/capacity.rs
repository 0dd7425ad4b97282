//! What the host has: /proc/meminfo, /sys/devices/system/cpu, /sys/kernel/mm/hugepages.

use std::fs;

use super::needs::page_pools;
use crate::host::{Capacity, Size};

/// What there is to share out among VMs. What cannot be read is left open.
pub fn capacity() -> Capacity {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let pools = page_pools().into_iter();
    Capacity {
        memory: amount(&meminfo, "MemTotal:"),
        cpus: count(online.trim()),
        hugepages: pools.map(|(size, pool)| (size, pool.total)).collect(),
    }
}

/// A line of /proc/meminfo.
pub fn meminfo(name: &str) -> Option<Size> {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    amount(&meminfo, name)
}

/// `MemTotal:       32756232 kB` (proc_meminfo(5)).
fn amount(meminfo: &str, name: &str) -> Option<Size> {
    let line = meminfo.lines().find(|line| line.starts_with(name))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(Size::from_bytes(kibibytes.checked_mul(1024)?))
}

/// The length of a list of ranges: `0-3,6`.
fn count(ranges: &str) -> Option<u32> {
    let range = |range: &str| {
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let (low, high): (u32, u32) = (low.parse().ok()?, high.parse().ok()?);
        high.checked_sub(low)?.checked_add(1)
    };
    ranges.split(',').map(range).sum()
}

/// `hugepages-2048kB`.
pub(super) fn page_size(name: &str) -> Option<Size> {
    let kibibytes = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
    let kibibytes: u64 = kibibytes.parse().ok()?;
    Some(Size::from_bytes(kibibytes.checked_mul(1024)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_notation_is_read() {
        let meminfo = "MemTotal:       32756232 kB\nMemFree:         1000 kB\n";
        let memory = amount(meminfo, "MemTotal:").unwrap();
        assert_eq!(memory.bytes(), 32_756_232 * 1024);
        assert_eq!(count("0-3,6"), Some(5));
        assert_eq!(count("0"), Some(1));
        assert_eq!(count(""), None);
        assert_eq!(page_size("hugepages-2048kB"), Some(Size::from_mib(2)));
        assert_eq!(page_size("something"), None);
    }
}
