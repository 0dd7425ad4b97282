//! What was found out about a host: plain data.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8PathBuf;

use super::ports::Listener;
use crate::generation::Manifest;
use crate::host::{Capacity, Size};
use crate::observe::{Hypervisor, Observed, PagePool, PciDevices};
use crate::status::Status;

#[derive(Debug, Clone)]
pub struct Facts {
    pub distribution: Distribution,
    pub systemd: SystemdFacts,
    /// The hypervisor that is declared, or the one on PATH; its path, where there is one.
    pub hypervisor: (Option<Utf8PathBuf>, Hypervisor),
    pub kvm: Kvm,
    pub cgroups: Cgroups,
    pub capacity: Capacity,
    /// What could be used without swapping.
    pub memory_available: Option<Size>,
    /// By the size of their pages.
    pub hugepages: BTreeMap<Size, PagePool>,
    /// How many of them VMs that run use, likewise.
    pub hugepages_used: BTreeMap<Size, u64>,
    /// The size that `memory.hugepages = true` means.
    pub hugepage_default: Option<Size>,
    /// The administrator's files of sysctl.d(5), and those of the system that go after nkudo's.
    pub sysctl_files: Vec<SysctlFile>,
    /// Averaged over a minute.
    pub load: Option<f64>,
    pub sysctls: Sysctls,
    /// What the host's own programs listen on.
    pub listeners: BTreeSet<Listener>,
    /// Those that nkudo or a VM writes to, by where they are mounted.
    pub filesystems: BTreeMap<Utf8PathBuf, Filesystem>,
    pub programs: Programs,
    /// Those that VMs are to have.
    pub pci: PciDevices,
    pub state: HostState,
    /// Every file that a VM needs, by path.
    pub files: BTreeMap<Utf8PathBuf, FileFact>,
}

/// Who makes the host's system, as os-release(5) says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    Nixos,
    /// And what is made of it: Ubuntu.
    Debian,
    /// And what is made of it: RHEL.
    Fedora,
    Arch,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SystemdFacts {
    /// Its version, in its own words.
    Runs { version: String },
    /// It could not be asked.
    Silent(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kvm {
    pub device: DeviceNode,
    /// `kvm_intel` or `kvm_amd`, where it is loaded or built in.
    pub module: Option<String>,
    pub cpu: KvmCpu,
    /// The machine is virtual itself, as far as its CPU says so.
    pub nested: bool,
    /// Whether there is a group of that name, which VMs' users are in.
    pub group: Option<u32>,
}

/// What the CPU has for KVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvmCpu {
    /// Intel's, by its flag.
    Vmx,
    /// AMD's.
    Svm,
    Off,
    /// The kernel finds out by itself, and has no module for it.
    Aarch64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceNode {
    Missing,
    There {
        /// The permission bits.
        mode: u32,
        gid: u32,
        /// Why it could not be opened, if it could not.
        open_error: Option<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cgroups {
    /// The unified hierarchy, and the controllers that systemd has.
    V2(BTreeSet<String>),
    V1,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SysctlFile {
    pub path: Utf8PathBuf,
    pub text: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sysctls {
    /// `net.bridge.bridge-nf-call-iptables`; `None` where the module is not loaded.
    pub bridge_netfilter: Option<bool>,
    /// /sys/kernel/mm/ksm/run
    pub ksm: Option<bool>,
    /// Whether `landlock` is among /sys/kernel/security/lsm.
    pub landlock: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filesystem {
    /// What of it is used: `the state directory`, `disk data of web`.
    pub uses: BTreeSet<String>,
    /// Nothing can be written to it.
    pub read_only: bool,
    pub size: u64,
    pub available: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

/// Programs by name; `None` where there is none on PATH.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Programs(pub BTreeMap<&'static str, Option<Utf8PathBuf>>);

/// What is declared and what runs.
#[derive(Debug, Clone)]
pub enum HostState {
    Known {
        manifest: Option<Box<Manifest>>,
        observed: Box<Observed>,
        status: Box<Status>,
        /// Whether nkudo-boot.service is enabled, where it is installed.
        boot: Option<bool>,
        /// Whether nkudo.slice is installed.
        slice: bool,
        machined: Service,
    },
    Unknown(String),
}

/// A service of the host's that somebody may want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Absent,
    Masked,
    There,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileFact {
    Missing,
    File {
        /// Whether everybody may read it.
        readable: bool,
    },
    BlockDevice,
    Directory,
    Other,
    Unknown(String),
}
