//! Gathers the facts: effects that only read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use camino::{Utf8Path, Utf8PathBuf};

use super::facts::{
    Cgroups, DeviceNode, Distribution, Facts, FileFact, Filesystem, HostState, Kvm, KvmCpu,
    Programs, Service, SystemdFacts,
};
use super::ports::Listener;
use super::{kernel, ports};
use crate::connections::Connections;
use crate::disk;
use crate::generation::{Current, Manifest, Store};
use crate::host::{Boot, Disk, DiskAccess, ProgramName, Proto, Vm, VmId};
use crate::observe::{
    self, Detail, Hypervisor, PciDevices, capacity, closer, default_hugepage, meminfo, observe,
    page_pools,
};
use crate::pci;
use crate::status::status;

const MACHINED: &str = "systemd-machined.service";

/// Looks at the host; at one VM more closely than at the others.
pub async fn gather(
    store: &Store,
    only: Option<&VmId>,
    find: impl Fn(&str) -> Option<Utf8PathBuf>,
) -> Facts {
    let (systemd, state) = declared_and_there(store, only).await;
    let manifest = match &state {
        HostState::Known { manifest, .. } => manifest.as_deref(),
        HostState::Unknown(_) => None,
    };
    let hypervisor = hypervisor(manifest, &find).await;
    let none = BTreeMap::new();
    let vms = manifest.map_or(&none, |manifest| &manifest.host.vms);
    let mut names = vec!["nft"];
    names.extend(needed_programs(vms));
    let hugepage_default = default_hugepage();
    Facts {
        distribution: distribution(&read("/etc/os-release")),
        systemd,
        hypervisor,
        kvm: kvm(),
        cgroups: cgroups(),
        capacity: capacity(),
        memory_available: meminfo("MemAvailable:"),
        hugepages: page_pools(),
        hugepages_used: kernel::hugepages_used(&state, hugepage_default),
        hugepage_default,
        sysctl_files: kernel::sysctl_files(),
        load: read("/proc/loadavg")
            .split_whitespace()
            .next()
            .and_then(|load| load.parse().ok()),
        sysctls: kernel::sysctls(),
        listeners: listeners(),
        filesystems: filesystems(store, vms),
        programs: Programs(names.into_iter().map(|name| (name, find(name))).collect()),
        pci: pci_devices(vms),
        files: vms.values().flat_map(|vm| files(vm, manifest)).collect(),
        state,
    }
}

fn listeners() -> BTreeSet<Listener> {
    let tables = [
        (Proto::Tcp, "/proc/net/tcp"),
        (Proto::Tcp, "/proc/net/tcp6"),
        (Proto::Udp, "/proc/net/udp"),
        (Proto::Udp, "/proc/net/udp6"),
    ];
    let listeners = tables.map(|(proto, table)| ports::listeners(proto, &read(table)));
    listeners.into_iter().flatten().collect()
}

/// What cannot be read is not there.
fn pci_devices(vms: &BTreeMap<VmId, Vm>) -> PciDevices {
    let wanted = vms.values().flat_map(|vm| &vm.pci).copied().collect();
    pci::look_closely(&pci::Place::host(), &wanted).unwrap_or_default()
}

async fn declared_and_there(store: &Store, only: Option<&VmId>) -> (SystemdFacts, HostState) {
    let connections = match Connections::open().await {
        Ok(connections) => connections,
        Err(err) => {
            let why = format!("{:#}", anyhow::Error::from(err));
            return (SystemdFacts::Silent(why.clone()), HostState::Unknown(why));
        }
    };
    let systemd = match connections.manager.version().await {
        Ok(version) => SystemdFacts::Runs { version },
        Err(err) => SystemdFacts::Silent(err.to_string()),
    };
    let state = known(store, &connections, only).await;
    let state = state.unwrap_or_else(|err| HostState::Unknown(format!("{err:#}")));
    (systemd, state)
}

async fn known(
    store: &Store,
    connections: &Connections,
    only: Option<&VmId>,
) -> anyhow::Result<HostState> {
    let Current {
        readable: mut current,
        unreadable,
    } = store.current_if_readable()?;
    let manager = &connections.manager;
    let netlink = &connections.netlink;
    let mut observed = observe(connections, None, Detail::Networks).await?;
    if let Some((_, manifest)) = &mut current {
        observed.tuning = observe::tuning(&manifest.host.tuning)?;
        // A disk stays as it was made, whatever is declared now.
        let made = observe::made(&manifest.host.state_dir)?;
        disk::as_made(&mut manifest.host, &made);
    }
    let none = BTreeMap::new();
    let declared = current
        .as_ref()
        .map_or(&none, |(_, manifest)| &manifest.host.vms);
    let closer = closer(&observed, netlink, declared, only).await?;
    let referred = current
        .as_ref()
        .map(|(number, manifest)| (*number, manifest));
    let mut status = status(referred, store.newest()?, &observed, &closer);
    if let Some(unreadable) = unreadable {
        status = status.of_unreadable(unreadable);
    }
    let names = ["nkudo-boot.service", "nkudo.slice", MACHINED];
    let files = manager.list_unit_files_by_patterns(&[], &names).await?;
    let state = |name: &str| {
        let mut files = files.iter();
        let found = files.find(|(path, _)| Utf8Path::new(path).file_name() == Some(name));
        found.map(|(_, state)| state.as_str())
    };
    let boot = state("nkudo-boot.service").map(|state| state.starts_with("enabled"));
    let slice = state("nkudo.slice").is_some();
    let machined = match state(MACHINED) {
        None => Service::Absent,
        Some(state) if state.starts_with("masked") => Service::Masked,
        Some(_) => Service::There,
    };
    Ok(HostState::Known {
        manifest: current.map(|(_, manifest)| Box::new(manifest)),
        observed: Box::new(observed),
        status: Box::new(status),
        boot,
        slice,
        machined,
    })
}

async fn hypervisor(
    manifest: Option<&Manifest>,
    find: &impl Fn(&str) -> Option<Utf8PathBuf>,
) -> (Option<Utf8PathBuf>, Hypervisor) {
    let path = match manifest.map(|manifest| &manifest.host.hypervisor) {
        Some(ProgramName::Absolute(path)) => Some(path.as_path().to_owned()),
        // What VMs were rendered for, where it is there still.
        Some(ProgramName::OnPath(name)) => manifest
            .map(|manifest| manifest.programs.hypervisor.clone())
            .filter(|path| path.exists())
            .or_else(|| find(name)),
        None => find("cloud-hypervisor"),
    };
    match path {
        Some(path) if path.exists() => {
            let found = observe::hypervisor(&path).await;
            (Some(path), found)
        }
        _ => (None, Hypervisor::Unusable("command not found".to_owned())),
    }
}

fn needed_programs(vms: &BTreeMap<VmId, Vm>) -> BTreeSet<&'static str> {
    use crate::host::{DiskOrigin, Filesystem};
    let disks = vms.values().flat_map(|vm| &vm.disks);
    disks
        .filter_map(|disk| match &disk.origin {
            DiskOrigin::Clone { .. } | DiskOrigin::Overlay { .. } => Some("qemu-img"),
            DiskOrigin::Volume {
                filesystem: Some(filesystem),
                ..
            } => Some(match filesystem {
                Filesystem::Ext4 => "mkfs.ext4",
                Filesystem::Xfs => "mkfs.xfs",
                Filesystem::Btrfs => "mkfs.btrfs",
                Filesystem::Vfat => "mkfs.vfat",
            }),
            _ => None,
        })
        .collect()
}

fn distribution(os_release: &str) -> Distribution {
    let value = |key: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    let ids = format!("{} {}", value("ID="), value("ID_LIKE="));
    let mut ids = ids.split_whitespace();
    ids.find_map(|id| match id {
        "nixos" => Some(Distribution::Nixos),
        "debian" | "ubuntu" => Some(Distribution::Debian),
        "fedora" | "rhel" | "centos" => Some(Distribution::Fedora),
        "arch" => Some(Distribution::Arch),
        _ => None,
    })
    .unwrap_or(Distribution::Other)
}

fn kvm() -> Kvm {
    let path = "/dev/kvm";
    let device = match fs::metadata(path) {
        Err(_) => DeviceNode::Missing,
        Ok(node) => DeviceNode::There {
            mode: node.mode() & 0o7777,
            gid: node.gid(),
            open_error: fs::File::options()
                .read(true)
                .write(true)
                .open(path)
                .err()
                .map(|err| err.to_string()),
        },
    };
    let cpuinfo = read("/proc/cpuinfo");
    let flags: BTreeSet<&str> = cpuinfo
        .lines()
        .find(|line| line.starts_with("flags"))
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let module = ["kvm_intel", "kvm_amd"]
        .into_iter()
        .find(|module| Utf8Path::new("/sys/module").join(module).exists());
    Kvm {
        device,
        module: module.map(str::to_owned),
        cpu: if std::env::consts::ARCH == "aarch64" {
            KvmCpu::Aarch64
        } else if flags.contains("vmx") {
            KvmCpu::Vmx
        } else if flags.contains("svm") {
            KvmCpu::Svm
        } else {
            KvmCpu::Off
        },
        nested: flags.contains("hypervisor"),
        group: group("kvm", &read("/etc/group")),
    }
}

/// A group's number, by group(5).
fn group(name: &str, groups: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

fn cgroups() -> Cgroups {
    let own = read("/proc/1/cgroup");
    let root = own
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map_or("", |path| path.trim_end_matches("/init.scope"));
    let path = format!("/sys/fs/cgroup{root}/cgroup.controllers");
    match fs::read_to_string(path) {
        Ok(controllers) => Cgroups::V2(controllers.split_whitespace().map(str::to_owned).collect()),
        Err(_) => Cgroups::V1,
    }
}

fn filesystems(store: &Store, vms: &BTreeMap<VmId, Vm>) -> BTreeMap<Utf8PathBuf, Filesystem> {
    let mut places: Vec<(Utf8PathBuf, String)> = vec![
        (
            store.state_dir().to_owned(),
            "the state directory".to_owned(),
        ),
        (
            "/run".into(),
            "sockets and what VMs were started from".to_owned(),
        ),
        ("/var/log".into(), "the journal".to_owned()),
        ("/tmp".into(), "VMMs' own logs".to_owned()),
    ];
    for (id, vm) in vms {
        let written = |disk: &&Disk| disk.access == DiskAccess::ReadWrite;
        for disk in vm.disks.iter().filter(written) {
            places.push((
                disk.path.as_path().to_owned(),
                format!("disk {} of {id}", disk.name),
            ));
        }
    }
    // By the device, whatever it is called first.
    let mut seen: BTreeMap<u64, Utf8PathBuf> = BTreeMap::new();
    let mut filesystems: BTreeMap<Utf8PathBuf, Filesystem> = BTreeMap::new();
    for (path, what) in places {
        // What is not there yet will be where its parent is.
        let there = path.ancestors().find(|path| path.exists());
        let Some((there, metadata)) = there.and_then(|path| Some((path, path.metadata().ok()?)))
        else {
            continue;
        };
        if metadata.file_type().is_block_device() {
            continue;
        }
        let Ok(statistics) = rustix::fs::statvfs(there.as_std_path()) else {
            continue;
        };
        let key = seen.entry(metadata.dev()).or_insert_with(|| {
            if metadata.is_dir() {
                there.to_owned()
            } else {
                there.parent().unwrap_or(there).to_owned()
            }
        });
        filesystems
            .entry(key.clone())
            .or_insert_with(|| Filesystem {
                uses: BTreeSet::new(),
                read_only: statistics
                    .f_flag
                    .contains(rustix::fs::StatVfsMountFlags::RDONLY),
                size: statistics.f_blocks * statistics.f_frsize,
                available: statistics.f_bavail * statistics.f_frsize,
                inodes: statistics.f_files,
                inodes_free: statistics.f_favail,
            })
            .uses
            .insert(what);
    }
    filesystems
}

fn files(vm: &Vm, manifest: Option<&Manifest>) -> Vec<(Utf8PathBuf, FileFact)> {
    let boot: Vec<&Utf8Path> = match &vm.boot {
        Boot::Kernel { kernel, initrd, .. } => std::iter::once(kernel.as_path())
            .chain(initrd.as_ref().map(crate::host::AbsolutePath::as_path))
            .collect(),
        Boot::Firmware(firmware) => vec![firmware.as_path()],
        Boot::Inside { .. } => Vec::new(),
    };
    let disks = vm.disks.iter().map(|disk: &Disk| disk.path.as_path());
    let shares = vm.shares.iter().map(|share| share.source.as_path());
    let programs = manifest.map(|manifest| &manifest.programs).into_iter();
    let programs = programs.flat_map(|programs| {
        let virtiofsd = programs.virtiofsd.iter().filter(|_| !vm.shares.is_empty());
        let swtpm = programs.swtpm.iter().filter(|_| vm.tpm.is_some());
        virtiofsd.chain(swtpm)
    });
    boot.into_iter()
        .chain(disks)
        .chain(shares)
        .chain(programs.map(Utf8PathBuf::as_path))
        .map(|path| (path.to_owned(), file(path)))
        .collect()
}

fn file(path: &Utf8Path) -> FileFact {
    match path.metadata() {
        Err(err) if err.kind() == io::ErrorKind::NotFound => FileFact::Missing,
        Err(err) => FileFact::Unknown(err.to_string()),
        Ok(metadata) if metadata.is_file() => FileFact::File {
            readable: metadata.mode() & 0o004 != 0,
        },
        Ok(metadata) if metadata.file_type().is_block_device() => FileFact::BlockDevice,
        Ok(metadata) if metadata.is_dir() => FileFact::Directory,
        Ok(_) => FileFact::Other,
    }
}

pub(super) fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_told_apart_also_by_whom_they_are_like() {
        for (text, expected) in [
            ("ID=nixos\n", Distribution::Nixos),
            ("NAME=x\nID=ubuntu\nID_LIKE=debian\n", Distribution::Debian),
            (
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n",
                Distribution::Fedora,
            ),
            ("ID=manjaro\nID_LIKE=arch\n", Distribution::Arch),
            ("", Distribution::Other),
        ] {
            assert_eq!(distribution(text), expected, "{text}");
        }
    }

    #[test]
    fn a_groups_number_is_read() {
        assert_eq!(group("kvm", "root:x:0:\nkvm:x:104:a,b\n"), Some(104));
        assert_eq!(group("kvm", "kvmx:x:1:\n"), None);
    }
}
