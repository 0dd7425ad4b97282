//! What the facts mean, and what mends it on this host.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use super::facts::{
    Cgroups, DeviceNode, Distribution, Facts, Filesystem, HostState, Kvm, SystemdFacts,
};
use super::{Check, vm};
use crate::generation::Manifest;
use crate::host::{Autostart, HugePages, Sharing, Size, VmId};
use crate::hypervisor::Version;
use crate::observe::{Admin, Hypervisor, Networkd, Observed, SystemdVersion};

/// Below this a filesystem is as good as full.
const FULL: u64 = 256 << 20;

/// Everything, or what concerns one VM: of the host only what is wrong, then that VM.
pub fn checks(facts: &Facts, only: Option<&VmId>) -> Vec<Check> {
    let mut checks = host(facts);
    if only.is_some() {
        checks.retain(|check| check.remedy.is_some());
    }
    match &facts.state {
        HostState::Unknown(why) => checks.push(Check::fail(
            "declared",
            format!("what is declared cannot be compared with what there is: {why}"),
            "run `nkudo doctor` as root, with systemd and D-Bus running",
        )),
        HostState::Known {
            manifest,
            observed,
            status,
            ..
        } => {
            if let (Some(manifest), None) = (manifest, only) {
                checks.extend(networks(facts, manifest, observed));
            }
            let vms = status.vms.iter();
            for vm in vms.filter(|vm| only.is_none_or(|only| vm.id == *only)) {
                let declared = manifest
                    .as_ref()
                    .and_then(|manifest| manifest.host.vms.get(&vm.id));
                checks.extend(vm::checks(facts, vm, declared));
            }
        }
    }
    checks
}

fn host(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![
        systemd(facts),
        hypervisor(facts),
        kvm_device(facts.distribution, &facts.kvm),
        cgroups(&facts.cgroups),
        landlock(facts.sysctls.landlock),
    ];
    checks.extend(facts.filesystems.iter().flat_map(|(path, filesystem)| {
        [
            space(path.as_str(), filesystem),
            inodes(path.as_str(), filesystem),
        ]
    }));
    checks.push(load(facts));
    if let HostState::Known {
        manifest,
        observed,
        boot,
        slice,
        machined,
        ..
    } = &facts.state
    {
        checks.extend(units(facts, observed, *boot, *slice));
        if let Some(manifest) = manifest {
            checks.push(memory(facts, manifest));
            checks.extend(hugepages(facts, manifest));
            checks.extend(ksm(facts, manifest));
            checks.extend(super::machined::check(
                facts.distribution,
                manifest,
                *machined,
            ));
            checks.push(iommu(facts));
        }
        checks.push(networkd(facts.distribution, manifest.as_deref(), observed));
    }
    checks.push(programs(facts));
    checks
}

/// How a package is installed here.
pub(super) fn install(distribution: Distribution, package: &str) -> String {
    match distribution {
        Distribution::Nixos => format!("environment.systemPackages = [ pkgs.{package} ];"),
        Distribution::Debian => format!("apt install {package}"),
        Distribution::Fedora => format!("dnf install {package}"),
        Distribution::Arch => format!("pacman -S {package}"),
        Distribution::Other => format!("install the package {package}"),
    }
}

/// How a sysctl is set here, for good and at once.
fn sysctl(distribution: Distribution, key: &str, value: &str) -> String {
    if distribution == Distribution::Nixos {
        format!("boot.kernel.sysctl.\"{key}\" = {value};")
    } else {
        format!("`{key} = {value}` in a file of /etc/sysctl.d, and `sysctl -w {key}={value}`")
    }
}

fn systemd(facts: &Facts) -> Check {
    let minimum = SystemdVersion::MINIMUM.0;
    match &facts.systemd {
        SystemdFacts::Silent(why) => Check::fail(
            "systemd",
            format!("systemd cannot be asked over D-Bus: {why}"),
            "`systemctl status dbus.socket`; VMs that run are not touched by this",
        ),
        SystemdFacts::Runs { version } => match SystemdVersion::parse(version) {
            Some(found) if found >= SystemdVersion::MINIMUM => {
                Check::ok("systemd", format!("version {version}"))
            }
            _ => Check::fail(
                "systemd",
                format!("version {version}, and nkudo needs {minimum} or newer"),
                "upgrade the system: Debian 13, Ubuntu 25.10, Fedora 42, NixOS 25.05 or newer",
            ),
        },
    }
}

fn hypervisor(facts: &Facts) -> Check {
    let name = "hypervisor";
    let get = match facts.distribution {
        Distribution::Nixos => {
            "`virtualisation.nkudo.enable = true` brings it; else environment.systemPackages = [ pkgs.cloud-hypervisor ];"
                .to_owned()
        }
        Distribution::Arch => "pacman -S cloud-hypervisor".to_owned(),
        _ => "put a release's `cloud-hypervisor-static` to /usr/local/bin/cloud-hypervisor with mode 0755, or name \
              another place under `[host] hypervisor`"
            .to_owned(),
    };
    let (path, found) = &facts.hypervisor;
    let Some(path) = path else {
        return Check::fail(
            name,
            "cloud-hypervisor is not there: command not found",
            get,
        );
    };
    match found {
        Hypervisor::Found(version) if *version < Version::MINIMUM => Check::fail(
            name,
            format!(
                "{path} is version {version}, and nkudo needs {} or newer",
                Version::MINIMUM
            ),
            get,
        ),
        Hypervisor::Found(version) => Check::ok(name, format!("{path}, version {version}")),
        Hypervisor::Unusable(why) => Check::fail(name, format!("{path} cannot be run: {why}"), get),
    }
}

fn kvm_device(distribution: Distribution, kvm: &Kvm) -> Check {
    let name = "kvm";
    match &kvm.device {
        DeviceNode::Missing => {
            let module = match kvm.cpu_flag.as_deref() {
                Some("svm") => "kvm_amd",
                _ => "kvm_intel",
            };
            if kvm.module.is_none() && kvm.cpu_flag.is_some() {
                let remedy = if distribution == Distribution::Nixos {
                    format!("boot.kernelModules = [ \"{}\" ];", module.replace('_', "-"))
                } else {
                    format!("`modprobe {module}`, and `{module}` in a file of /etc/modules-load.d")
                };
                return Check::fail(
                    name,
                    format!(
                        "KVM is not available: there is no /dev/kvm, and {module} is not loaded"
                    ),
                    remedy,
                );
            }
            let remedy = if kvm.nested {
                "switch nested virtualisation on in the host of this machine, and give this machine the host's CPU"
            } else {
                "switch virtualisation (VT-x, AMD-V) on in the machine's firmware"
            };
            Check::fail(
                name,
                "KVM is not available: there is no /dev/kvm, and the CPU does not offer virtualisation",
                remedy,
            )
        }
        DeviceNode::There {
            mode,
            gid,
            open_error,
        } => {
            let by_group = kvm.group == Some(*gid) && mode & 0o060 == 0o060;
            let by_all = mode & 0o006 == 0o006;
            let rule = if distribution == Distribution::Nixos {
                "NixOS gives it to the group `kvm` with mode 0666 by itself: look at services.udev.extraRules, then \
                 `udevadm trigger /dev/kvm`"
            } else {
                "`chgrp kvm /dev/kvm && chmod 0660 /dev/kvm`; for good, `KERNEL==\"kvm\", GROUP=\"kvm\", MODE=\"0660\"` in a \
                 file of /etc/udev/rules.d"
            };
            if kvm.group.is_none() {
                return Check::fail(
                    name,
                    "there is no group `kvm`, which VMs' users are to be in",
                    "`systemd-sysusers` makes it, or `groupadd --system kvm`",
                );
            }
            if !by_group && !by_all {
                return Check::fail(
                    name,
                    format!("/dev/kvm has mode {mode:04o} and group {gid}: VMs may not open it"),
                    rule,
                );
            }
            match open_error {
                Some(why) => Check::fail(
                    name,
                    format!("/dev/kvm cannot be opened: {why}"),
                    "a container needs the device passed to it; else look at the kernel's log (`journalctl -k -g kvm`)",
                ),
                None => Check::ok(
                    name,
                    format!(
                        "/dev/kvm can be opened by VMs{}{}",
                        kvm.module
                            .as_ref()
                            .map_or(String::new(), |module| format!(", {module}")),
                        if kvm.nested { ", nested" } else { "" }
                    ),
                ),
            }
        }
    }
}

fn cgroups(cgroups: &Cgroups) -> Check {
    let name = "cgroups";
    let Cgroups::V2(controllers) = cgroups else {
        return Check::fail(
            name,
            "the control groups are not of the unified hierarchy (v2)",
            "remove `systemd.unified_cgroup_hierarchy=0` from the kernel's command line",
        );
    };
    let missing: Vec<&str> = ["cpu", "io", "memory", "pids"]
        .into_iter()
        .filter(|controller| !controllers.contains(*controller))
        .collect();
    if missing.is_empty() {
        return Check::ok(name, "v2, with cpu, io, memory and pids");
    }
    Check::warn(
        name,
        format!(
            "without the controllers {}: limits of these kinds do nothing",
            missing.join(", ")
        ),
        "in a container, its host has to delegate them (`Delegate=yes`); else look for `cgroup_disable=` on the \
         kernel's command line",
    )
}

fn landlock(landlock: Option<bool>) -> Check {
    match landlock {
        Some(true) => Check::ok("landlock", "there"),
        // cloud-hypervisor runs without it, and the unit's sandbox does the same by other means.
        Some(false) => Check::ok("landlock", "not there; VMs' sandbox does not need it"),
        None => Check::ok("landlock", "unknown; VMs' sandbox does not need it"),
    }
}

fn space(path: &str, filesystem: &Filesystem) -> Check {
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
    if filesystem.available < FULL {
        Check::fail(name, what, remedy)
    } else if filesystem.available < filesystem.size / 20 {
        Check::warn(name, what, remedy)
    } else {
        Check::ok(name, what)
    }
}

fn inodes(path: &str, filesystem: &Filesystem) -> Check {
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

fn load(facts: &Facts) -> Check {
    let name = "cpu";
    let (Some(load), Some(cpus)) = (facts.load, facts.capacity.cpus) else {
        return Check::ok(name, "unknown");
    };
    let what = format!("load {load:.1} on {cpus} CPUs");
    if load > f64::from(cpus) * 4.0 {
        Check::warn(
            name,
            what,
            "`systemd-cgtop` shows which VM it is; `cpu-weight` and `cpu-quota` under `limits` share the CPUs out",
        )
    } else {
        Check::ok(name, what)
    }
}

fn units(facts: &Facts, observed: &Observed, boot: Option<bool>, slice: bool) -> Vec<Check> {
    let mut checks = Vec::new();
    let by_module = facts.distribution == Distribution::Nixos;
    match boot {
        Some(true) => checks.push(Check::ok("boot", "nkudo-boot.service starts VMs at boot")),
        Some(false) => checks.push(Check::warn(
            "boot",
            "nkudo-boot.service is not enabled: no VM starts when the host boots",
            if by_module {
                "`virtualisation.nkudo.enable = true` enables it"
            } else {
                "`systemctl enable nkudo-boot.service`"
            },
        )),
        None => checks.push(Check::warn(
            "boot",
            "nkudo-boot.service is not installed: no VM starts when the host boots",
            if by_module {
                "`virtualisation.nkudo.enable = true` installs it"
            } else {
                "`make install`, or units/nkudo-boot.service of nkudo's source to /etc/systemd/system, then \
                 `systemctl daemon-reload` and `systemctl enable nkudo-boot.service`"
            },
        )),
    }
    if !slice {
        checks.push(Check::warn(
            "slice",
            "nkudo.slice is not installed: VMs are accounted for, but not all together",
            "units/nkudo.slice of nkudo's source to /etc/systemd/system, then `systemctl daemon-reload`",
        ));
    }
    for file in &observed.unit_files {
        checks.push(Check::fail(
            "unit-files",
            format!("the unit file {file} takes the name of a VM's transient unit"),
            format!("remove it (`systemctl cat {file}` shows where it is), then `systemctl daemon-reload`"),
        ));
    }
    checks
}

fn memory(facts: &Facts, manifest: &Manifest) -> Check {
    let name = "memory";
    let declared: u64 = manifest
        .host
        .vms
        .values()
        .filter(|vm| vm.autostart == Autostart::Yes && vm.memory.hugepages == HugePages::Off)
        .map(|vm| vm.memory.size.bytes())
        .fold(0, u64::saturating_add);
    let Some(total) = facts.capacity.memory else {
        return Check::ok(name, "unknown");
    };
    let set_aside: u64 = facts
        .hugepages
        .iter()
        .map(|(size, pool)| size.bytes().saturating_mul(pool.total))
        .fold(0, u64::saturating_add);
    let usable = total.bytes().saturating_sub(set_aside);
    let available = facts.memory_available.map_or(0, Size::bytes);
    let what = format!(
        "{} of {} available; VMs that start by themselves have {} together",
        size(available),
        size(total.bytes()),
        size(declared)
    );
    if declared > usable {
        Check::warn(
            name,
            what,
            "give VMs less `memory`, or let them share it (`memory.mergeable` with KSM, `memory.balloon`): when all of them \
             use what they have, the kernel kills one",
        )
    } else if available < total.bytes() / 20 {
        Check::warn(name, what, "`systemd-cgtop -m` shows who uses it")
    } else {
        Check::ok(name, what)
    }
}

fn hugepages(facts: &Facts, manifest: &Manifest) -> Vec<Check> {
    let mut wanted: BTreeMap<Size, u64> = BTreeMap::new();
    let default = facts.hugepages.keys().next().copied();
    for vm in manifest.host.vms.values() {
        let page = match vm.memory.hugepages {
            HugePages::Off => None,
            HugePages::Default => default,
            HugePages::Of(size) => Some(size),
        };
        if let Some(page) = page {
            *wanted.entry(page).or_default() += vm.memory.size.bytes().div_ceil(page.bytes());
        }
    }
    if wanted.is_empty() {
        return vec![Check::ok("hugepages", "no VM wants any")];
    }
    let check = |(page, wanted): (Size, u64)| {
        let there = facts.hugepages.get(&page);
        let (total, free) = there.map_or((0, 0), |pool| (pool.total, pool.free));
        let what = format!("VMs want {wanted} pages of {page}; the host has {total}, {free} free");
        if wanted <= total {
            return Check::ok("hugepages", what);
        }
        let kib = page.bytes() / 1024;
        let remedy = if facts.distribution == Distribution::Nixos && kib == 2048 {
            format!("boot.kernel.sysctl.\"vm.nr_hugepages\" = {wanted};")
        } else if facts.distribution == Distribution::Nixos {
            format!("boot.kernelParams = [ \"hugepagesz={kib}K\" \"hugepages={wanted}\" ];")
        } else {
            format!(
                "`echo {wanted} > /sys/kernel/mm/hugepages/hugepages-{kib}kB/nr_hugepages`; for good, the same as \
                 `w` line of a file of /etc/tmpfiles.d, or `hugepagesz={kib}K hugepages={wanted}` on the kernel's command line"
            )
        };
        Check::fail("hugepages", what, remedy)
    };
    wanted.into_iter().map(check).collect()
}

fn ksm(facts: &Facts, manifest: &Manifest) -> Option<Check> {
    let wanted = manifest
        .host
        .vms
        .values()
        .any(|vm| vm.memory.sharing == Sharing::Mergeable);
    match (wanted, facts.sysctls.ksm) {
        (true, Some(false)) => Some(Check::warn(
            "ksm",
            "VMs want their memory merged, and KSM does not run",
            if facts.distribution == Distribution::Nixos {
                "hardware.ksm.enable = true;"
            } else {
                "`echo 1 > /sys/kernel/mm/ksm/run`; for good, `w /sys/kernel/mm/ksm/run - - - - 1` in a file of /etc/tmpfiles.d"
            },
        )),
        (true, None) => Some(Check::warn(
            "ksm",
            "VMs want their memory merged, and the kernel has no KSM",
            "run a kernel with CONFIG_KSM, or take `memory.mergeable` away",
        )),
        (true, Some(true)) => Some(Check::ok("ksm", "runs")),
        (false, _) => None,
    }
}

fn iommu(facts: &Facts) -> Check {
    Check::ok(
        "iommu",
        if facts.iommu {
            "on: devices can be handed to VMs"
        } else {
            "off: devices cannot be handed to VMs"
        },
    )
}

fn networkd(distribution: Distribution, manifest: Option<&Manifest>, observed: &Observed) -> Check {
    let name = "networkd";
    let wanted = manifest
        .is_some_and(|one| one.host.network_backend == crate::host::NetworkBackend::Networkd);
    match observed.networkd {
        Networkd::Runs => Check::ok(name, "runs"),
        Networkd::Absent if wanted => Check::fail(
            name,
            "`network-backend` is `networkd`, and systemd-networkd does not run",
            if distribution == Distribution::Nixos {
                "systemd.network.enable = true;"
            } else {
                "`systemctl enable --now systemd-networkd.service`, or `network-backend = \"auto\"`"
            },
        ),
        Networkd::Absent => Check::ok(name, "does not run; nkudo makes bridges itself"),
    }
}

fn programs(facts: &Facts) -> Check {
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

fn networks(facts: &Facts, manifest: &Manifest, observed: &Observed) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, network) in &manifest.host.networks {
        let subject = format!("network {name}");
        // A macvtap's network has none.
        let Some(bridge) = network.bridge() else {
            continue;
        };
        let again = "`nkudo switch` makes it be as declared";
        let Some(link) = observed.links.get(bridge.as_str()) else {
            checks.push(Check::fail(
                subject,
                format!("the bridge {bridge} is gone"),
                again,
            ));
            continue;
        };
        let missing: Vec<String> = network
            .own()
            .into_iter()
            .flat_map(|own| &own.address)
            .filter(|address| !link.addresses.contains(*address))
            .map(ToString::to_string)
            .collect();
        if link.admin == Admin::Down {
            checks.push(Check::fail(
                subject,
                format!("the bridge {bridge} is down"),
                again,
            ));
        } else if missing.is_empty() {
            checks.push(Check::ok(subject, format!("the bridge {bridge} is up")));
        } else {
            checks.push(Check::fail(
                subject,
                format!("the bridge {bridge} lacks {}", missing.join(", ")),
                again,
            ));
        }
    }
    if facts.sysctls.bridge_netfilter == Some(true) && !manifest.host.networks.is_empty() {
        checks.push(Check::warn(
            "bridge-netfilter",
            "frames between VMs of one bridge go through the host's IP firewall (Docker switches this on), which often \
             drops them",
            format!(
                "let the firewall accept them (`iptables -I DOCKER-USER -i nk-+ -j ACCEPT`), or {}",
                sysctl(facts.distribution, "net.bridge.bridge-nf-call-iptables", "0")
            ),
        ));
    }
    checks
}

/// Bytes for people, in powers of two.
pub(super) fn size(bytes: u64) -> String {
    let mut value = bytes;
    let mut tenths = 0;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024 {
            break;
        }
        tenths = value % 1024 * 10 / 1024;
        value /= 1024;
        unit = next;
    }
    if unit == "B" || value >= 100 {
        format!("{value} {unit}")
    } else {
        format!("{value}.{tenths} {unit}")
    }
}
