//! What `observed.toml` says: how the host differs from `before.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use nkudo::host::{
    AbsolutePath, DiskFormat, DiskName, IommuGroup, NetworkName, PciAddress, Size, VmId,
};
use nkudo::pci::Taken;
use serde::Deserialize;

/// `observed.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Differs {
    /// `start web`, `stop web`, `restart web`; without it, a switch.
    pub(crate) request: Option<String>,
    /// Options of the switch.
    pub(crate) only: Option<BTreeSet<VmId>>,
    pub(crate) restart: bool,
    pub(crate) restart_limit: Option<NonZeroUsize>,
    /// What VMs were started with: an older nkudo's unit, the path of another nkudo, the version of
    /// another hypervisor.
    pub(crate) started_with: BTreeMap<VmId, StartedWith>,
    pub(crate) systemd: Option<u32>,
    /// `absent`: networkd does not run.
    pub(crate) networkd: Option<Presence>,
    /// The version of the hypervisor, or why it cannot be run.
    pub(crate) hypervisor: Option<String>,
    pub(crate) held: BTreeSet<VmId>,
    /// VMs that `systemctl stop` stopped.
    pub(crate) held_by_systemd: BTreeSet<VmId>,
    pub(crate) unit: BTreeMap<VmId, UnitDiffers>,
    pub(crate) link: BTreeMap<String, LinkDiffers>,
    pub(crate) unit_files: Vec<String>,
    /// Files for networkd that are missing.
    pub(crate) missing_files: Vec<String>,
    /// nkudo's firewall rules: `gone`, `changed`, or why nft cannot be run.
    pub(crate) rules: Option<String>,
    /// Why nft refused other rules in this run.
    pub(crate) rules_refused: Option<String>,
    /// Networks that this run has tried to make, and why that failed.
    pub(crate) not_made: BTreeMap<NetworkName, String>,
    /// Chains of others that drop what is forwarded: `ip filter FORWARD`.
    pub(crate) dropping: Vec<String>,
    /// Routes of the host's over eth1: `link`, or `gateway`.
    pub(crate) routes: BTreeMap<String, String>,
    /// `absent`: it is not installed.
    pub(crate) dnsmasq: Option<Presence>,
    /// It is not there, otherwise.
    pub(crate) network_manager: Option<NetworkManagerIs>,
    /// Whether IPv6 is forwarded on all links or none.
    pub(crate) old_kernel: bool,
    /// VMs whose booted specification is missing.
    pub(crate) lost: BTreeSet<VmId>,
    /// Disks, by VM and name.
    pub(crate) disk: BTreeMap<VmId, BTreeMap<DiskName, DiskDiffers>>,
    /// Names in the image store, besides those that `before` needs.
    pub(crate) images: BTreeSet<String>,
    /// Paths that a process has locked, and which: `qemu-system-x86`, or `VM web`.
    pub(crate) locked: BTreeMap<AbsolutePath, String>,
    /// PCI devices of the host.
    pub(crate) pci: BTreeMap<PciAddress, PciIs>,
    /// `absent`: none is on.
    pub(crate) iommu: Option<Presence>,
    /// `absent`: the kernel has no vfio-pci.
    pub(crate) vfio: Option<Presence>,
    /// Files and directories that there are not.
    pub(crate) missing: BTreeSet<camino::Utf8PathBuf>,
    /// Huge pages, by their size.
    pub(crate) pages: BTreeMap<Size, PagesAre>,
    /// As at a boot: what stands in the way of one VM, stands in its way alone.
    pub(crate) boot: bool,
    /// Programs that there are not.
    pub(crate) missing_programs: BTreeSet<String>,
    pub(crate) tuning: TuningDiffers,
}

/// The kernel's settings, by path. One that nothing is said of is 0, or a governor `powersave`, unless `before` sets it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct TuningDiffers {
    pub(crate) has: BTreeMap<String, String>,
    pub(crate) missing: BTreeSet<String>,
    /// Whether the kernel was asked for other values, and what it made of them is noted.
    pub(crate) became: BTreeMap<String, String>,
    /// Whether nkudo's own note of what was there before is lost.
    pub(crate) note_lost: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PagesAre {
    pub(crate) total: u64,
    pub(crate) free: Option<u64>,
    #[serde(default)]
    pub(crate) reserved: u64,
    #[serde(default)]
    pub(crate) more: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PciIs {
    pub(crate) driver: Option<String>,
    pub(crate) group: Option<IommuGroup>,
    #[serde(default)]
    pub(crate) uses: Vec<String>,
    #[serde(default)]
    pub(crate) links: Vec<String>,
    /// By nkudo.
    pub(crate) taken: Option<Taken>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NetworkManagerIs {
    /// Of what `before` has.
    Told,
    Untold,
}

/// A disk that is not there as `before` declares it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct DiskDiffers {
    #[serde(default)]
    pub(crate) is: Option<Presence>,
    pub(crate) size: Option<Size>,
    pub(crate) format: Option<DiskFormat>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct StartedWith {
    pub(crate) nkudo: Option<String>,
    pub(crate) hypervisor: Option<String>,
    pub(crate) other_unit: bool,
    /// The memory that it was booted with.
    pub(crate) memory: Option<Size>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Presence {
    Present,
    Absent,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct UnitDiffers {
    /// systemd's ActiveState, or `absent`.
    #[serde(default = "active")]
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) sub_state: String,
    #[serde(default)]
    pub(crate) result: String,
    #[serde(default)]
    pub(crate) restarts: u32,
    /// The file of a unit that is not transient.
    pub(crate) file: Option<String>,
    /// Whether nothing says that nkudo made it.
    #[serde(default)]
    pub(crate) foreign: bool,
    /// Lines of drop-ins that SetUnitProperties made.
    #[serde(default)]
    pub(crate) set: String,
    /// Files of drop-ins that the administrator made.
    #[serde(default)]
    pub(crate) drop_ins: Vec<String>,
}

fn active() -> String {
    "active".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct LinkDiffers {
    #[serde(default)]
    pub(crate) is: Option<Presence>,
    pub(crate) kind: Option<String>,
    /// `foreign`, or `ours`.
    pub(crate) mac: Option<String>,
    pub(crate) master: Option<String>,
    pub(crate) addresses: Option<Vec<ipnet::IpNet>>,
    #[serde(default)]
    pub(crate) down: bool,
}
