//! Programs that nkudo runs.

#![deny(clippy::disallowed_methods)]

use super::install;
use crate::doctor::Check;
use crate::doctor::facts::{Distribution, Facts};

pub(super) fn programs(facts: &Facts) -> Check {
    let missing: Vec<&str> = facts
        .programs
        .0
        .iter()
        .filter(|(_, path)| path.is_none())
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        return Check::ok("programs", "all that are needed are there");
    }
    let remedies: Vec<String> = missing
        .iter()
        .map(|name| install(facts.distribution, package(facts.distribution, name)))
        .collect();
    Check::warn(
        "programs",
        format!("not on PATH: {}", missing.join(", ")),
        remedies.join("; "),
    )
}

/// What a program's package is called.
fn package(distribution: Distribution, program: &str) -> &str {
    let debian = distribution == Distribution::Debian;
    let fedora = distribution == Distribution::Fedora;
    match program {
        "nft" => "nftables",
        "qemu-img" if debian => "qemu-utils",
        "qemu-img" if fedora => "qemu-img",
        "qemu-img" => "qemu",
        "mkfs.ext4" => "e2fsprogs",
        "mkfs.xfs" => "xfsprogs",
        "mkfs.btrfs" => "btrfs-progs",
        "mkfs.vfat" => "dosfstools",
        "dnsmasq" if debian => "dnsmasq-base",
        other => other,
    }
}
