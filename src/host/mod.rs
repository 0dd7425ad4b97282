//! The host as nkudo understands it: every default decided, every reference resolved.
//!
//! `config` is what a file says; this is what it means. Nothing here is optional because a default
//! was left open: an `Option` means that the thing may really be absent (a VM without an initrd).
//! Every value is of a type that cannot hold a bad one, so the code after this point has no
//! "if the name is too long". The same types are the manifest of a generation, so their
//! serialised form is a file format: `generation::manifest` owns its version.

#![deny(clippy::disallowed_methods)]

mod balloon;
mod by_text;
mod capacity;
mod cloud_init;
mod cmdline;
mod disk;
mod identifier;
mod image;
mod inside;
mod limits;
mod link_name;
mod mac;
mod needed;
mod network;
mod nic;
mod on_off;
mod path;
mod pci;
mod rng;
mod share;
mod size;
mod time_span;
mod tuning;
mod url;
mod vm;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use by_text::by_text;

pub use balloon::{Balloon, FreePages, OnOom};
pub use capacity::Capacity;
pub use cloud_init::{
    BadHostName, BadInstanceId, CloudInit, HostName, InstanceId, fingerprint, uuid,
};
pub use cmdline::{BadCmdLine, CmdLine};
pub use disk::{
    BadLabel, Disk, DiskAccess, DiskFormat, DiskOrigin, Filesystem, Label, Rate, RateLimit,
};
pub use identifier::{BadIdentifier, DiskName, ImageName, NetworkName, SnapshotName, VmId};
pub use image::{
    BadSha256, Compression, ForeignFormat, Form, INSIDE, Image, ImageBoot, ImageFile, InsideWord,
    Location, Sha256, StoredFile,
};
pub use inside::InsideKernel;
pub use limits::{BadWeight, CpuQuota, Limits, Weight};
pub use link_name::{BadLinkName, LinkName};
pub use mac::{BadMac, Mac};
pub use needed::Needed;
pub use network::{
    BadDomain, BadVlanId, Bridge, Dhcp, Domain, Family, Forward, Forwarding, Isolation, Network,
    NetworkKind, Pool, Proto, Uplink, Vlan, VlanId,
};
pub use nic::{Nic, QueuePairs, TooManyQueues, Trust};
pub use on_off::OnOff;
pub use path::{AbsolutePath, BadPath};
pub use pci::{BadPciAddress, IommuGroup, PciAddress, VFIO_CONTAINER};
pub use rng::RngSource;
pub use share::{BadShareTag, Share, ShareTag};
pub use size::{BadSize, Size};
pub use time_span::{BadTimeSpan, TimeSpan};
pub use tuning::{
    BadSysctlName, BadSysctlValue, Governor, KsmRun, Setting, SysctlName, SysctlValue, Tuning,
    one_spaced, sysctl_path,
};
pub use url::{BadUrl, Scheme, Url};
pub use vm::{
    Autostart, Boot, HugePages, Memory, OnChange, OnTimeout, Panic, Ready, Restart, Serial,
    Sharing, Vcpus, Vm,
};

/// A whole host: what `nkudo.toml` and its drop-ins mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Host {
    pub hypervisor: ProgramName,
    #[serde(default = "ProgramName::virtiofsd")]
    pub virtiofsd: ProgramName,
    #[serde(default = "ProgramName::swtpm")]
    pub swtpm: ProgramName,
    pub state_dir: AbsolutePath,
    pub network_backend: NetworkBackend,
    #[serde(default, skip_serializing_if = "Tuning::is_empty")]
    pub tuning: Tuning,
    #[serde(default)]
    pub images: BTreeMap<ImageName, Image>,
    pub networks: BTreeMap<NetworkName, Network>,
    pub vms: BTreeMap<VmId, Vm>,
}

impl ProgramName {
    /// The virtiofsd of a host that names none.
    pub fn virtiofsd() -> Self {
        Self::OnPath("virtiofsd".to_owned())
    }

    /// The swtpm of a host that names none.
    pub fn swtpm() -> Self {
        Self::OnPath("swtpm".to_owned())
    }
}

/// How a program is named in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProgramName {
    /// Looked up on PATH when a generation is rendered.
    OnPath(String),
    Absolute(AbsolutePath),
}

/// Who makes the bridges and their addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkBackend {
    /// systemd-networkd where it runs, else rtnetlink.
    Auto,
    Networkd,
    Netlink,
}
