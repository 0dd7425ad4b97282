//! What becomes of images and disks.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Live, Obstacle, Plan, Reason, Request, VmStep};
use crate::disk;
use crate::generation::Manifest;
use crate::host::{
    AbsolutePath, Boot, Disk, DiskAccess, DiskFormat, DiskName, DiskOrigin, Filesystem, Host,
    ImageFile, ImageName, Size, StoredFile, Vm, VmId,
};
use crate::hypervisor::Version;
use crate::image::qemu;
use crate::observe::{Below, Holder, Hypervisor, MadeDisk, Observed};

/// A file that the image store gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageStep {
    pub file: StoredFile,
    /// The image whose it is, and the VMs that need it.
    pub image: String,
    pub vms: BTreeSet<VmId>,
}

/// A kernel that is taken out of the filesystem of its image, once that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelStep {
    pub image: ImageName,
    pub vms: BTreeSet<VmId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskStep {
    /// It is not there.
    Make(DiskOrigin),
    Grow {
        from: Size,
        to: Size,
        when: GrowWhen,
    },
    /// It stays as it was made, though the file has another image or filesystem for it now.
    KeepAsMade { made: String, declared: String },
    /// It is in no file any more.
    KeepUnused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrowWhen {
    /// By the VMM, which tells the guest.
    WhileItRuns,
    /// It does not run, or not any more by then.
    WhileItIsStopped,
    /// The VMM cannot do it while it runs.
    AtNextStart,
}

impl DiskStep {
    /// Whether the switch does something to the disk.
    pub const fn is_done_now(&self) -> bool {
        match self {
            Self::Make(_) => true,
            Self::Grow { when, .. } => !matches!(when, GrowWhen::AtNextStart),
            Self::KeepAsMade { .. } | Self::KeepUnused => false,
        }
    }
}

pub(super) fn steps(plan: &mut Plan, wanted: &Manifest, observed: &Observed, request: &Request) {
    if matches!(request, Request::Stop(_)) {
        return;
    }
    let host = &wanted.host;
    let version = match observed.hypervisor {
        Hypervisor::Found(version) => version,
        Hypervisor::Unusable(_) => wanted.programs.hypervisor_version,
    };
    let mut images: BTreeMap<StoredFile, ImageStep> = BTreeMap::new();
    let mut kernels: BTreeMap<&ImageName, BTreeSet<VmId>> = BTreeMap::new();
    let mut disks = BTreeMap::new();
    for (id, step) in &plan.vms {
        let Some(vm) = host.vms.get(id) else {
            continue;
        };
        let mut needed = BTreeSet::new();
        let mut used = BTreeSet::new();
        if starts(step) {
            used.extend(vm.files());
            if let Boot::Inside { image, .. } = &vm.boot {
                needed.insert(image);
                kernels.entry(image).or_default().insert(id.clone());
            }
        }
        for one in &vm.disks {
            let made = observed.storage.disk(id, &one.name);
            if gets(step, one) {
                used.insert(&one.path);
                if made.is_none() {
                    needed.extend(one.origin.image());
                }
            }
            if let Some(step) = disk_step(host, one, made, step, version) {
                disks.insert((id.clone(), one.name.clone()), step);
            }
        }
        if !used.is_empty() || !needed.is_empty() {
            for (name, image) in &host.images {
                let files = image.files().filter_map(|file| match file {
                    ImageFile::Stored(stored)
                        if !observed.storage.images.contains(&stored.name()) =>
                    {
                        Some((file, stored))
                    }
                    _ => None,
                });
                for (file, stored) in files {
                    let path = file.path(&host.state_dir);
                    let is_copied = needed.contains(name) && *file == image.disk;
                    if is_copied || used.contains(&path) {
                        let step = images.entry(stored.clone()).or_insert_with(|| ImageStep {
                            file: stored.clone(),
                            image: name.to_string(),
                            vms: BTreeSet::new(),
                        });
                        step.vms.insert(id.clone());
                    }
                }
            }
        }
    }
    unused(&mut disks, plan, host, observed);
    plan.images = images.into_values().collect();
    plan.kernels = kernels
        .into_iter()
        .map(|(image, vms)| KernelStep {
            image: image.clone(),
            vms,
        })
        .collect();
    plan.disks = disks;
}

/// Whether the VM is started, so that it opens all of its files.
fn starts(step: &VmStep) -> bool {
    matches!(step.action, Action::Start | Action::Restart)
}

/// Whether the VM opens the disk in this switch.
fn gets(step: &VmStep, disk: &Disk) -> bool {
    let plugged = |live: &Live| matches!(live, Live::AddDisk(added) if added.name == disk.name);
    starts(step) || step.live.iter().any(plugged)
}

fn disk_step(
    host: &Host,
    disk: &Disk,
    made: Option<&MadeDisk>,
    step: &VmStep,
    version: Version,
) -> Option<DiskStep> {
    if !disk.origin.is_made() {
        return None;
    }
    let Some(made) = made else {
        return gets(step, disk).then(|| DiskStep::Make(disk.origin.clone()));
    };
    // One step says enough of a disk: growing goes before.
    if let (Some(from), Some(to)) = (made.size, disk.origin.size())
        && to > from
    {
        let when = match step.action {
            Action::Stop | Action::Clean => return None,
            Action::Start | Action::Restart => GrowWhen::WhileItIsStopped,
            // Not open yet.
            Action::Live if gets(step, disk) => GrowWhen::WhileItIsStopped,
            Action::Nothing if step.reasons.contains(&Reason::NotAutostarted) => {
                GrowWhen::AtNextStart
            }
            Action::Nothing if step.is_held() => GrowWhen::AtNextStart,
            Action::Nothing | Action::Live if version.can_grow(disk) => GrowWhen::WhileItRuns,
            Action::Nothing | Action::Live | Action::Wait | Action::Pending => {
                GrowWhen::AtNextStart
            }
        };
        return Some(DiskStep::Grow { from, to, when });
    }
    let (made, declared) = difference(host, disk, made)?;
    Some(DiskStep::KeepAsMade { made, declared })
}

/// What a disk was made as, and what it is declared as now, where that is not the same.
fn difference(host: &Host, disk: &Disk, made: &MadeDisk) -> Option<(String, String)> {
    let declared = described(host, &disk.origin, None);
    let record = made.record.as_ref()?;
    let identity = record.image.as_ref().map(|image| image.identity.as_str());
    let made = described(host, &record.origin, identity);
    (made != declared).then_some((made, declared))
}

/// Whether a disk that is there is another than what is declared; sizes aside.
pub fn differs_from_made(host: &Host, disk: &Disk, made: &MadeDisk) -> bool {
    made.format != disk.format || difference(host, disk, made).is_some()
}

/// What a disk is made from, without its size. The same text, the same disk.
fn described(host: &Host, origin: &DiskOrigin, identity: Option<&str>) -> String {
    let of = |name| {
        let declared = host.images.get(name).map(|image| image.disk.identity());
        let identity = identity.map(str::to_owned).or(declared);
        match identity.as_deref() {
            Some(identity) => format!("image {name} ({})", short(identity)),
            None => format!("image {name}"),
        }
    };
    match origin {
        DiskOrigin::Existing => "nothing".to_owned(),
        DiskOrigin::Image { image } => of(image),
        DiskOrigin::Clone { image, .. } => format!("a copy of {}", of(image)),
        DiskOrigin::Overlay { image, .. } => format!("an overlay over {}", of(image)),
        DiskOrigin::Volume {
            filesystem, label, ..
        } => {
            let what = filesystem.map_or("an empty disk".to_owned(), |filesystem| {
                format!("an empty {filesystem}")
            });
            match label {
                Some(label) => format!("{what} labelled {label}"),
                None => what,
            }
        }
    }
}

/// A checksum, cut to what people compare.
fn short(identity: &str) -> &str {
    match identity.split_once(':') {
        Some(("sha256", _)) => identity.get(..19).unwrap_or(identity),
        Some(("path", path)) => path,
        _ => identity,
    }
}

/// Disks that left the file with this switch: of VMs that it stops, or restarts for that.
fn unused(
    disks: &mut BTreeMap<(VmId, DiskName), DiskStep>,
    plan: &Plan,
    host: &Host,
    observed: &Observed,
) {
    for (id, step) in &plan.vms {
        let acts = matches!(
            step.action,
            Action::Start
                | Action::Restart
                | Action::Live
                | Action::Stop
                | Action::Clean
                | Action::Pending
        );
        let Some(made) = observed.storage.disks.get(id).filter(|_| acts) else {
            continue;
        };
        for name in made.keys() {
            let declared = host.vms.get(id).is_some_and(|vm| has(vm, name));
            if !declared {
                disks.insert((id.clone(), name.clone()), DiskStep::KeepUnused);
            }
        }
    }
}

fn has(vm: &Vm, name: &DiskName) -> bool {
    let mut disks = vm.disks.iter();
    disks.any(|disk| disk.name == *name && disk.origin.is_made())
}

/// What stands in the way of these steps.
pub(super) fn obstacles(plan: &Plan, wanted: &Manifest, observed: &Observed) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    for (id, step) in &plan.vms {
        let Some(vm) = wanted.host.vms.get(id) else {
            continue;
        };
        for disk in &vm.disks {
            let starts = gets(step, disk);
            let made = observed.storage.disk(id, &disk.name);
            let size = made.and_then(|made| made.size);
            // What somebody only stops need not be right.
            if step.action != Action::Stop
                && let (Some(is), Some(wanted)) = (size, disk.origin.size())
                && wanted < is
            {
                obstacles.push(Obstacle::Shrink {
                    vm: id.clone(),
                    disk: disk.name.clone(),
                    is,
                    wanted,
                });
            }
            if starts
                && let Some(holder) = observed.storage.held.get(disk.path.as_path())
                && is_in_the_way(plan, wanted, id, disk, holder)
            {
                obstacles.push(Obstacle::HeldDisk {
                    vm: id.clone(),
                    path: disk.path.clone(),
                    holder: holder.clone(),
                });
            }
            let below = made.map_or(Below::Whole, |made| made.below);
            if starts
                && below != Below::Whole
                && let Some(image) = &disk.backing
                && !is_fetched(plan, image)
            {
                obstacles.push(Obstacle::OtherImageBelow {
                    vm: id.clone(),
                    disk: disk.name.clone(),
                    image: image.clone(),
                    what: match below {
                        Below::Gone => "is not there any more",
                        Below::Whole | Below::Changed => "was written to since",
                    },
                });
            }
            if starts
                && disk.backing.is_some()
                && let Hypervisor::Found(version) = observed.hypervisor
                && !version.knows_overlays()
            {
                obstacles.push(Obstacle::NoOverlays {
                    vm: id.clone(),
                    disk: disk.name.clone(),
                    version,
                });
            }
        }
    }
    let missing = &observed.storage.missing;
    for (program, (needs, vms)) in programs(plan, wanted) {
        if missing.contains(program) {
            obstacles.push(Obstacle::NoProgram {
                program,
                needs,
                vms,
            });
        }
    }
    obstacles
}

/// Whether the plan gets this file into the image store.
fn is_fetched(plan: &Plan, path: &AbsolutePath) -> bool {
    let name = path.as_path().file_name();
    plan.images
        .iter()
        .any(|step| Some(step.file.name().as_str()) == name)
}

/// Whether who holds a disk still does when the VM starts.
fn is_in_the_way(plan: &Plan, wanted: &Manifest, id: &VmId, disk: &Disk, holder: &Holder) -> bool {
    // Readers do not mind each other.
    if disk.access == DiskAccess::ReadOnly && holder.access == DiskAccess::ReadOnly {
        return false;
    }
    let Some(other) = &holder.vm else {
        return true;
    };
    // All that stops does so before anything starts.
    let still_has_it = wanted.host.vms.get(other).is_some_and(|vm| {
        let mut files = vm.files();
        files.any(|path| *path == disk.path)
    });
    match plan.vms.get(other).map(|step| step.action) {
        _ if other == id => false,
        Some(Action::Stop) => false,
        Some(Action::Restart) => still_has_it,
        _ => true,
    }
}

/// The programs that the plan runs, each with something that it is run for, and for which VMs.
fn programs(plan: &Plan, wanted: &Manifest) -> BTreeMap<&'static str, (String, BTreeSet<VmId>)> {
    let mut programs: BTreeMap<&'static str, (String, BTreeSet<VmId>)> = BTreeMap::new();
    let mut note = |program, needs: String, vms: &BTreeSet<VmId>| {
        let (first, all) = programs.entry(program).or_default();
        *first = needs;
        all.extend(vms.iter().cloned());
    };
    for step in &plan.images {
        if matches!(step.file.form, crate::host::Form::ToRaw(_)) {
            let needs = format!("image {} is converted", step.image);
            note(qemu::PROGRAM, needs, &step.vms);
        }
    }
    for step in &plan.kernels {
        let image = wanted.host.images.get(&step.image);
        if image.is_some_and(|image| image.format == DiskFormat::Qcow2) {
            let needs = format!("image {} is read", step.image);
            note(qemu::PROGRAM, needs, &step.vms);
        }
    }
    for ((id, name), step) in &plan.disks {
        let mut needs = |program, what: &str| {
            let needs = format!("disk {name} of VM {id} {what}");
            note(program, needs, &BTreeSet::from([id.clone()]));
        };
        match step {
            DiskStep::Make(DiskOrigin::Overlay { .. }) => needs(qemu::PROGRAM, "is an overlay"),
            DiskStep::Make(DiskOrigin::Volume {
                filesystem: Some(filesystem),
                ..
            }) => needs(disk::mkfs(*filesystem), made_of(*filesystem)),
            DiskStep::Grow {
                when: GrowWhen::WhileItIsStopped,
                ..
            } if is_qcow2(wanted, id, name) => needs(qemu::PROGRAM, "grows"),
            _ => {}
        }
    }
    programs
}

const fn made_of(filesystem: Filesystem) -> &'static str {
    match filesystem {
        Filesystem::Ext4 => "is to be of ext4",
        Filesystem::Xfs => "is to be of xfs",
        Filesystem::Btrfs => "is to be of btrfs",
        Filesystem::Vfat => "is to be of vfat",
    }
}

fn is_qcow2(wanted: &Manifest, id: &VmId, name: &DiskName) -> bool {
    let vm = wanted.host.vms.get(id);
    let mut disks = vm.into_iter().flat_map(|vm| &vm.disks);
    disks.any(|disk| disk.name == *name && disk.format == DiskFormat::Qcow2)
}
