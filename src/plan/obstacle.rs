//! What stands in the way of a plan: all of it is said before the first effect.

use std::collections::BTreeSet;

use camino::Utf8PathBuf;

use super::network_obstacle::{self, NetworkObstacle};
use super::{Action, Plan, Request, needs, pci, storage};
use crate::generation::Manifest;
use crate::host::{
    AbsolutePath, DiskName, IommuGroup, LinkName, Needed, NetworkName, PciAddress, Size, VmId,
};
use crate::hypervisor::Version;
use crate::observe::{Holder, Hypervisor, LinkKind, Observed, SystemdVersion, UnitOrigin};
use crate::unit::vm_unit_name;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    #[error(
        "systemd is version {0}, and nkudo needs {min} or newer: it cannot hand TAPs to a unit",
        min = SystemdVersion::MINIMUM.0
    )]
    OldSystemd(u32),
    #[error("{path} is version {version}, and nkudo needs {min} or newer", min = Version::MINIMUM)]
    OldHypervisor { path: String, version: Version },
    #[error(
        "{path} cannot be run: {why}; name another under `[host] hypervisor` and run `nkudo render`"
    )]
    NoHypervisor { path: String, why: String },
    #[error(
        "`network-backend = \"networkd\"`, but systemd-networkd does not run; start it, or set \
         `network-backend = \"auto\"`"
    )]
    NoNetworkd {
        /// Those whose bridges it would make.
        networks: BTreeSet<NetworkName>,
    },
    #[error("network {network}: {what}")]
    Network {
        network: NetworkName,
        what: NetworkObstacle,
    },
    #[error("the firewall rules that networks need cannot be loaded: {why}; install nftables")]
    NoNft {
        why: String,
        /// Those that need rules.
        networks: BTreeSet<NetworkName>,
    },
    #[error("{why}; `nft -c -f nftables.conf` in the generation's directory says where")]
    RulesRefused {
        why: String,
        networks: BTreeSet<NetworkName>,
    },
    #[error(
        "the link {name} is there already and is not nkudo's, and VM {vm} needs a TAP of that name; \
         remove it with `ip link delete {name}` if nothing uses it"
    )]
    ForeignTap { name: LinkName, vm: VmId },
    #[error(
        "the unit {name} is not nkudo's: systemd has it from {file}; remove that file, and stop the unit"
    )]
    ForeignUnit {
        vm: VmId,
        name: String,
        file: String,
    },
    #[error(
        "the unit {name} is not nkudo's, though it is transient: somebody else made it; stop it with \
         `systemctl stop {name}`"
    )]
    ForeignTransient { vm: VmId, name: String },
    #[error(
        "the unit file {0} takes the names of VMs' units, which have to be free; remove it, or, where it is a link to \
         /dev/null, `systemctl unmask {name}`, and run `systemctl daemon-reload`", name = .0.file_name().unwrap_or_default()
    )]
    UnitFile(Utf8PathBuf),
    #[error(
        "disk {disk} of VM {vm} is {is} large, and its `size` is {wanted}: a disk is never made smaller; write \
         `size = \"{is}\"`, or make it anew with `nkudo recreate`"
    )]
    Shrink {
        vm: VmId,
        disk: DiskName,
        is: Size,
        wanted: Size,
    },
    #[error("VM {vm} cannot start: {}", held(path, holder))]
    HeldDisk {
        vm: VmId,
        path: AbsolutePath,
        holder: Holder,
    },
    #[error(
        "disk {disk} of VM {vm} is an overlay, which needs cloud-hypervisor 51.0 or newer; it is version {version}"
    )]
    NoOverlays {
        vm: VmId,
        disk: DiskName,
        version: Version,
    },
    #[error(
        "disk {disk} of VM {vm} lies over the image {image}, which {what}: with another image below it, it holds \
         nothing that makes sense; put the image back as it was, or make the disk anew with `nkudo recreate {vm}`"
    )]
    OtherImageBelow {
        vm: VmId,
        disk: DiskName,
        image: AbsolutePath,
        what: &'static str,
    },
    #[error("there is no {program} on this host, and {needs}; install the package that has it")]
    NoProgram {
        program: &'static str,
        needs: String,
        /// Whose images and disks it would make.
        vms: BTreeSet<VmId>,
    },
    #[error("VM {vm} cannot start: cannot find {what}, {path}: {why}")]
    MissingFile {
        vm: VmId,
        what: Needed,
        path: Utf8PathBuf,
        why: String,
    },
    #[error(
        "VM {vm} cannot start: its memory takes {need} huge pages of {page}, and of the host's {total} there are {left} \
         left for it; {}",
        more_pages(*page, total + (need - left))
    )]
    TooFewPages {
        vm: VmId,
        page: Size,
        need: u64,
        left: u64,
        total: u64,
    },
    #[error(
        "VM {vm} cannot start: there is no PCI device {address} on this host; `lspci -D` lists those that there are"
    )]
    NoPciDevice { vm: VmId, address: PciAddress },
    #[error(
        "VM {vm} cannot have PCI devices: this host has no IOMMU that is on. Switch it on in the firmware's settings \
         (VT-d, AMD-Vi), and on Intel boot the host with `intel_iommu=on` (NixOS: `boot.kernelParams`)"
    )]
    NoIommu { vm: VmId },
    #[error(
        "VM {vm} cannot have PCI devices: this host's kernel has no driver vfio-pci; install the package of the \
         kernel's modules that has it"
    )]
    NoVfio { vm: VmId },
    #[error(
        "VM {vm} cannot have the PCI device {address}: the IOMMU does not cover it, and it could write anywhere"
    )]
    NoIommuGroup { vm: VmId, address: PciAddress },
    #[error(
        "VM {vm} cannot have the PCI device {address}: the host itself uses it, for {what}; stop that first, or \
         name another device"
    )]
    PciInUse {
        vm: VmId,
        address: PciAddress,
        what: String,
    },
    #[error(
        "VM {vm} cannot have the PCI device {address}: VM {other} runs with it; stop or restart that first"
    )]
    PciHeld {
        vm: VmId,
        address: PciAddress,
        other: VmId,
    },
    #[error(
        "VM {vm} cannot have the PCI device {address} alone: the IOMMU cannot keep it apart from {others} of \
         group {group}, which the host has; give the VM those as well (`[[vm.{vm}.pci]]`), or put the device into \
         another slot"
    )]
    GroupOfHost {
        vm: VmId,
        address: PciAddress,
        group: IommuGroup,
        others: String,
    },
    #[error(
        "VM {vm} cannot have the PCI device {address}: it is in IOMMU group {group} with {other}, which VM {others} \
         has; one VM has to have all of a group"
    )]
    GroupOfTwo {
        vm: VmId,
        address: PciAddress,
        group: IommuGroup,
        other: PciAddress,
        others: VmId,
    },
}

fn more_pages(page: Size, count: u64) -> String {
    format!(
        "`hugepages = {{ {page} = {count} }}` under `[host.tuning]` makes as many as it takes, best soon after a boot"
    )
}

fn held(path: &AbsolutePath, holder: &Holder) -> String {
    let process = format!("process {} ({})", holder.pid, holder.command);
    match &holder.vm {
        Some(vm) => format!("its disk {path} is in use by VM {vm}, {process}"),
        None => format!("its disk {path} is in use by {process}; end that first"),
    }
}

/// Whose way something stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// Everybody's.
    Host,
    /// Of these networks, and of the VMs that are on one of them.
    Networks(BTreeSet<NetworkName>),
    /// Of these VMs alone.
    Vms(BTreeSet<VmId>),
}

impl Obstacle {
    pub fn whom(&self) -> Whom {
        match self {
            Self::OldSystemd(_) | Self::OldHypervisor { .. } | Self::NoHypervisor { .. } => {
                Whom::Host
            }
            Self::Network { network, .. } => Whom::Networks(BTreeSet::from([network.clone()])),
            Self::NoNetworkd { networks }
            | Self::NoNft { networks, .. }
            | Self::RulesRefused { networks, .. } => Whom::Networks(networks.clone()),
            Self::ForeignTap { vm, .. }
            | Self::ForeignUnit { vm, .. }
            | Self::ForeignTransient { vm, .. }
            | Self::Shrink { vm, .. }
            | Self::HeldDisk { vm, .. }
            | Self::NoOverlays { vm, .. }
            | Self::OtherImageBelow { vm, .. }
            | Self::NoPciDevice { vm, .. }
            | Self::NoIommu { vm }
            | Self::NoVfio { vm }
            | Self::NoIommuGroup { vm, .. }
            | Self::PciInUse { vm, .. }
            | Self::PciHeld { vm, .. }
            | Self::GroupOfHost { vm, .. }
            | Self::GroupOfTwo { vm, .. }
            | Self::MissingFile { vm, .. }
            | Self::TooFewPages { vm, .. } => Whom::Vms(BTreeSet::from([vm.clone()])),
            Self::NoProgram { vms, .. } => Whom::Vms(vms.clone()),
            // A template is in the way of all.
            Self::UnitFile(file) => {
                let id = file
                    .file_name()
                    .and_then(|name| name.strip_prefix("nkudo-vm@"));
                let id = id.and_then(|id| id.strip_suffix(".service")?.parse().ok());
                id.map_or(Whom::Host, |id| Whom::Vms(BTreeSet::from([id])))
            }
        }
    }

    /// Whether it fails its VM alone, whoever switches: what is missing may be put there at any time, and is of no
    /// use to any other VM.
    pub fn fails_its_vm_alone(&self) -> bool {
        matches!(self, Self::MissingFile { .. })
    }

    /// What it says where the VM or the network is named already.
    pub fn without_subject(&self) -> String {
        if let Self::Network { what, .. } = self {
            return what.to_string();
        }
        let text = self.to_string();
        let Whom::Vms(vms) = self.whom() else {
            return text;
        };
        let rest = vms.first().and_then(|id| {
            let rest = text.strip_prefix("VM ")?.strip_prefix(id.as_str())?;
            rest.strip_prefix(' ')
        });
        rest.map_or(text.clone(), str::to_owned)
    }
}

pub(super) fn obstacles(
    plan: &Plan,
    wanted: &Manifest,
    observed: &Observed,
    request: &Request,
) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    if observed.systemd < SystemdVersion::MINIMUM {
        obstacles.push(Obstacle::OldSystemd(observed.systemd.0));
    }
    // What only stops VMs does not need the hypervisor.
    let starts: Vec<_> = [Action::Start, Action::Restart]
        .into_iter()
        .flat_map(|action| plan.vms_to(action))
        .collect();
    if !starts.is_empty() {
        let path = wanted.programs.hypervisor.to_string();
        match &observed.hypervisor {
            Hypervisor::Found(version) if *version < Version::MINIMUM => {
                obstacles.push(Obstacle::OldHypervisor {
                    path,
                    version: *version,
                });
            }
            Hypervisor::Found(_) => {}
            Hypervisor::Unusable(why) => obstacles.push(Obstacle::NoHypervisor {
                path,
                why: why.clone(),
            }),
        }
    }
    // What only stops VMs leaves networks as they are.
    if !matches!(request, Request::Stop(_)) {
        obstacles.extend(network_obstacle::obstacles(plan, wanted, observed));
    }
    for id in starts {
        let unit = observed.units.get(id);
        let vm = wanted.host.vms.get(id);
        for nic in vm.into_iter().flat_map(|vm| &vm.nics) {
            // A unit that is loaded may still hold its TAPs.
            let there = observed.links.get(nic.tap.as_str());
            // A macvtap of nkudo's stays when its VM ends by itself, and is made anew.
            if unit.is_none() && there.is_some_and(|link| link.kind != LinkKind::Macvtap) {
                obstacles.push(Obstacle::ForeignTap {
                    name: nic.tap.clone(),
                    vm: id.clone(),
                });
            }
        }
    }
    for id in plan.vms.keys() {
        let Some(unit) = observed.units.get(id) else {
            continue;
        };
        let name = vm_unit_name(id);
        match &unit.origin {
            UnitOrigin::File(file) => obstacles.push(Obstacle::ForeignUnit {
                vm: id.clone(),
                name,
                file: file.clone(),
            }),
            // Every unit of nkudo's says what it was made from.
            UnitOrigin::Transient if unit.digest.is_none() => {
                obstacles.push(Obstacle::ForeignTransient {
                    vm: id.clone(),
                    name,
                });
            }
            UnitOrigin::Transient => {}
        }
    }
    obstacles.extend(storage::obstacles(plan, wanted, observed));
    obstacles.extend(pci::obstacles(plan, wanted, observed));
    obstacles.extend(needs::obstacles(plan, wanted, observed));
    // A unit that is there already has its name, and stops all the same.
    let takes_a_name = |file: &&Utf8PathBuf| {
        let name = file.file_name().unwrap_or_default();
        let is_of_a_vm = || plan.vms.keys().any(|id| vm_unit_name(id) == name);
        !matches!(request, Request::Stop(_)) && (name == "nkudo-vm@.service" || is_of_a_vm())
    };
    obstacles.extend(
        observed
            .unit_files
            .iter()
            .filter(takes_a_name)
            .map(|file| Obstacle::UnitFile(file.clone())),
    );
    obstacles
}
