//! A virtual machine.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU16, NonZeroU32};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    AbsolutePath, Balloon, CloudInit, CmdLine, Disk, ImageName, Limits, Nic, OnOff, PciAddress,
    RngSource, Share, Size, TimeSpan, VmId,
};

/// Everything about one VM that nkudo acts on. What a changed field costs is in `plan::change`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Vm {
    pub vcpus: Vcpus,
    pub memory: Memory,
    pub boot: Boot,
    pub disks: Vec<Disk>,
    pub nics: Vec<Nic>,
    /// What the guest finds at its boot; without it there is no seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_init: Option<CloudInit>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<Share>,
    /// Devices of the host that are the guest's while it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pci: Vec<PciAddress>,
    #[serde(default, skip_serializing_if = "RngSource::is_default")]
    pub rng: RngSource,
    /// Where the state of the VM's TPM is, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<AbsolutePath>,
    /// Whether a guest that hangs is reset: by a virtio-watchdog, once the guest has opened it.
    #[serde(default, skip_serializing_if = "OnOff::is_off")]
    pub watchdog: OnOff,
    #[serde(default, skip_serializing_if = "Panic::is_unseen")]
    pub panic: Panic,
    /// The guest's vsock context id; the host's end is `vsock.sock` in the VM's runtime directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vsock_cid: Option<NonZeroU32>,
    #[serde(default, skip_serializing_if = "Serial::is_journal")]
    pub serial: Serial,
    /// Whether it is registered with systemd-machined at each start of its VMM. The same for all VMs of a
    /// host: `[host] machined`.
    #[serde(default, skip_serializing_if = "OnOff::is_off")]
    pub machined: OnOff,
    pub autostart: Autostart,
    pub restart: Restart,
    pub on_change: OnChange,
    pub start_timeout: TimeSpan,
    pub stop_timeout: TimeSpan,
    pub ready: Ready,
    /// VMs of this host that are started before this one and stopped after it.
    pub after: BTreeSet<VmId>,
    pub limits: Limits,
}

impl Vm {
    /// Whether it has a vsock: by its CID, or because its guest says on one that it is ready.
    pub const fn has_vsock(&self) -> bool {
        self.vsock_cid.is_some() || matches!(self.ready, Ready::Guest { .. })
    }

    /// Every file of the host that the VMM opens.
    pub fn files(&self) -> impl Iterator<Item = &AbsolutePath> {
        let (first, second) = match &self.boot {
            Boot::Kernel { kernel, initrd, .. } => (Some(kernel), initrd.as_ref()),
            Boot::Firmware(firmware) => (Some(firmware), None),
            Boot::Inside { .. } => (None, None),
        };
        let disks = self.disks.iter();
        let disks = disks.flat_map(|disk| std::iter::once(&disk.path).chain(&disk.backing));
        first.into_iter().chain(second).chain(disks)
    }

    /// The addresses that its guest is to have.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let all = self.nics.iter().flat_map(|nic| &nic.address);
        all.map(IpNet::addr)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Vcpus {
    pub boot: NonZeroU8,
    /// Not below `boot`; what the guest can be resized to while it runs.
    pub max: NonZeroU8,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Memory {
    pub size: Size,
    /// Not below `size`; what the guest can be resized to while it runs.
    pub max: Size,
    pub hugepages: HugePages,
    pub sharing: Sharing,
    #[serde(with = "super::balloon")]
    pub balloon: Option<Balloon>,
}

/// Which pages of the host back the guest's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HugePages {
    Off,
    /// Of the host's default huge page size.
    Default,
    Of(Size),
}

impl HugePages {
    /// The size of one, on a host with this default; none where the pages are ordinary ones.
    pub fn page(self, default: Option<Size>) -> Option<Size> {
        match self {
            Self::Off => None,
            Self::Default => default,
            Self::Of(size) => Some(size),
        }
    }
}

/// Whether others can have the guest's pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    Private,
    /// Mapped shared, as vhost-user devices need it.
    Shared,
    /// Offered to the kernel's same-page merging.
    Mergeable,
}

/// What the VMM learns of a panic of the guest's kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Panic {
    #[default]
    Unseen,
    /// The guest tells it by a pvpanic device.
    Told,
}

impl Panic {
    pub const fn of(told: bool) -> Self {
        if told { Self::Told } else { Self::Unseen }
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde calls it with a reference"
    )]
    fn is_unseen(&self) -> bool {
        *self == Self::Unseen
    }
}

/// What the VM boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Boot {
    Kernel {
        kernel: AbsolutePath,
        #[serde(skip_serializing_if = "Option::is_none")]
        initrd: Option<AbsolutePath>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cmdline: Option<CmdLine>,
    },
    Firmware(AbsolutePath),
    /// The kernel in the filesystem of this image, while it is not known yet: what is booted is a `Kernel`.
    Inside {
        image: ImageName,
        #[serde(skip_serializing_if = "Option::is_none")]
        cmdline: Option<CmdLine>,
    },
}

/// Where the guest's serial port goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Serial {
    /// To the journal, by the VMM's standard output. Nobody can type.
    #[default]
    Journal,
    /// To the socket `serial.sock` in the VM's runtime directory, which `nkudo console` attaches to.
    Socket,
}

impl Serial {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde calls it with a reference"
    )]
    fn is_journal(&self) -> bool {
        *self == Self::Journal
    }
}

/// Whether `nkudo switch` starts the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Autostart {
    Yes,
    /// Declared only; `nkudo start` starts it.
    No,
}

/// When systemd starts the VM again by itself (`Restart=`, systemd.service(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    No,
    /// When the VMM or a vCPU failed, not when the guest powered off.
    OnFailure,
    /// Also when the guest powered off.
    Always,
}

/// What a switch does with a running VM that must restart to become as declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnChange {
    Restart,
    /// Leaves it running, and says that the change is pending.
    Defer,
}

/// When the VM's start is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ready {
    /// When the VMM says that the vCPUs run.
    Vmm { on_timeout: OnTimeout },
    /// When the guest says so besides (`READY=1`, sd_notify(3)), over vsock.
    Guest { on_timeout: OnTimeout },
    /// When it takes connections at one of its addresses besides.
    Tcp {
        port: NonZeroU16,
        on_timeout: OnTimeout,
    },
}

impl Ready {
    /// As the file has it.
    pub fn when(self) -> String {
        match self {
            Self::Vmm { .. } => "vmm".to_owned(),
            Self::Guest { .. } => "guest".to_owned(),
            Self::Tcp { port, .. } => format!("tcp:{port}"),
        }
    }

    /// What a guest that is not ready has not done, to be said of it.
    pub fn not_ready(self) -> String {
        match self {
            Self::Vmm { .. } => "does not run".to_owned(),
            Self::Guest { .. } => "has not said that it is ready".to_owned(),
            Self::Tcp { port, .. } => format!("takes no connections on TCP port {port}"),
        }
    }

    pub const fn on_timeout(self) -> OnTimeout {
        match self {
            Self::Vmm { on_timeout }
            | Self::Guest { on_timeout }
            | Self::Tcp { on_timeout, .. } => on_timeout,
        }
    }
}

/// What becomes of a VM that is not ready within its start timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnTimeout {
    /// It runs on, with a warning in the journal.
    Continue,
    /// Its start fails, and systemd stops it.
    Fail,
}
