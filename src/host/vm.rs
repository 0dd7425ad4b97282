//! A virtual machine.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU16, NonZeroU32};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    AbsolutePath, Balloon, CloudInit, Disk, ImageName, Limits, Nic, PciAddress, RngSource, Share,
    Size, TimeSpan, VmId,
};

/// Everything about one VM that nkudo acts on. What a changed field costs is in `plan::cost`.
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
    #[serde(default, skip_serializing_if = "Watchdog::is_off")]
    pub watchdog: Watchdog,
    #[serde(default, skip_serializing_if = "Panic::is_unseen")]
    pub panic: Panic,
    /// The guest's vsock context id; the host's end is `vsock.sock` in the VM's runtime directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vsock_cid: Option<NonZeroU32>,
    #[serde(default, skip_serializing_if = "Serial::is_journal")]
    pub serial: Serial,
    /// The same for all VMs of a host: `[host] machined`.
    #[serde(default, skip_serializing_if = "Machined::is_off")]
    pub machined: Machined,
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

/// Whether a guest that hangs is reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Watchdog {
    #[default]
    Off,
    /// By a virtio-watchdog, once the guest has opened it.
    On,
}

impl Watchdog {
    pub const fn of(wanted: bool) -> Self {
        if wanted { Self::On } else { Self::Off }
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde calls it with a reference"
    )]
    fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

/// Whether systemd-machined knows of the VM.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Machined {
    #[default]
    Off,
    /// It is registered at each start of its VMM.
    On,
}

impl Machined {
    pub const fn of(wanted: bool) -> Self {
        if wanted { Self::On } else { Self::Off }
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde calls it with a reference"
    )]
    fn is_off(&self) -> bool {
        *self == Self::Off
    }
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

/// A kernel command line: 1 to 2047 bytes, no control characters.
///
/// x86's COMMAND_LINE_SIZE is 2048 with the NUL, and cloud-hypervisor refuses what is longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CmdLine(String);

/// Why a text is not a kernel command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCmdLine {
    #[error("it is empty")]
    Empty,
    #[error("it is {0} bytes long; the kernel takes at most 2047")]
    TooLong(usize),
    #[error("it holds a control character ({0:?})")]
    Control(char),
    #[error("it holds {0:?}; the VMM takes only ASCII here")]
    NotAscii(char),
}

impl CmdLine {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The longest to which another of the same length can be added.
    pub const HALF: usize = 1023;

    /// This one with another after it, where both are no longer than half of what the kernel takes.
    #[must_use]
    pub fn then(&self, after: &Self) -> Self {
        format!("{self} {after}")
            .parse()
            .unwrap_or_else(|_| self.clone())
    }
}

impl FromStr for CmdLine {
    type Err = BadCmdLine;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(BadCmdLine::Empty);
        }
        if text.len() > 2047 {
            return Err(BadCmdLine::TooLong(text.len()));
        }
        match text.chars().find(|c| c.is_control() || !c.is_ascii()) {
            Some(bad) if bad.is_control() => Err(BadCmdLine::Control(bad)),
            Some(bad) => Err(BadCmdLine::NotAscii(bad)),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for CmdLine {
    type Error = BadCmdLine;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<CmdLine> for String {
    fn from(cmdline: CmdLine) -> Self {
        cmdline.0
    }
}

impl fmt::Display for CmdLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
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
