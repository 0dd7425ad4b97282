//! `ExecStartPre=+` and `ExecStopPost=+`: the VM's user may use its disks and PCI devices while the VM runs.
//!
//! They change the access control lists of the disks and the IOMMU groups that the booted
//! specification names, and nothing else.

use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::acl::{Acl, DYNAMIC_UIDS, READ, WRITE};
use super::{Context, StepExit, held, trusted_path};
use crate::host::{AbsolutePath, Disk, DiskAccess, RngSource};
use crate::seed;

const ACL: &str = "system.posix_acl_access";

pub(super) fn grant(context: &Context) -> anyhow::Result<StepExit> {
    let uid = user(&context.runtime_directory)?;
    for (path, access) in disks(context).iter().flat_map(uses) {
        grant_file(uid, path, access)
            .with_context(|| format!("cannot let VM {} use its disk {path}", context.id()))?;
    }
    for path in devices(context) {
        change(&path, Kind::CharacterDevice, |acl| {
            acl.revoke(DYNAMIC_UIDS);
            acl.grant(uid, READ | WRITE);
        })
        .with_context(|| format!("cannot let VM {} use its PCI device {path}", context.id()))?;
    }
    if let Some(path) = rng(context) {
        // Other VMs may read from it too.
        change(path, Kind::CharacterDevice, |acl| {
            if acl.others() & READ == 0 {
                acl.grant(uid, READ);
            }
        })
        .with_context(|| format!("cannot let VM {} read from {path}", context.id()))?;
    }
    Ok(StepExit::Done)
}

/// Lets a VM's user use a disk.
pub fn grant_disk(uid: u32, disk: &Disk) -> anyhow::Result<()> {
    uses(disk).try_for_each(|(path, access)| grant_file(uid, path, access))
}

fn grant_file(uid: u32, path: &AbsolutePath, access: DiskAccess) -> anyhow::Result<()> {
    change(path.as_path(), Kind::Disk, |acl| match access {
        DiskAccess::ReadWrite => {
            // Nobody else's VM has a disk that this one writes: what earlier runs that were
            // killed have left goes.
            acl.revoke(DYNAMIC_UIDS);
            acl.grant(uid, READ | WRITE);
        }
        DiskAccess::ReadOnly if acl.others() & READ != 0 => {}
        DiskAccess::ReadOnly => acl.grant(uid, READ),
    })
}

/// Notes who stopped the VM, and takes from every disk what it can, also where one of them fails.
pub(super) fn revoke(context: &Context) -> StepExit {
    if let Err(err) = held::note(context) {
        tracing::warn!("cannot note that somebody stopped it, the next switch starts it: {err:#}");
    }
    let uid = user(&context.runtime_directory).ok();
    for (path, access) in disks(context).iter().flat_map(uses) {
        if let Err(err) = revoke_file(uid, path, access) {
            tracing::warn!(
                "cannot take the disk {path} back from VM {}: {err:#}",
                context.id()
            );
        }
    }
    for path in devices(context) {
        match change(&path, Kind::CharacterDevice, |acl| {
            acl.revoke(DYNAMIC_UIDS);
        }) {
            // The device was pulled out.
            Err(_) if !path.exists() => {}
            Err(err) => tracing::warn!(
                "cannot take the PCI device {path} back from VM {}: {err:#}",
                context.id()
            ),
            Ok(()) => {}
        }
    }
    if let (Some(path), Some(uid)) = (rng(context), uid)
        && let Err(err) = change(path, Kind::CharacterDevice, |acl| acl.revoke(uid..=uid))
    {
        tracing::warn!("cannot take {path} back from VM {}: {err:#}", context.id());
    }
    StepExit::Done
}

/// Takes a disk back from a VM's user, where that is known.
pub fn revoke_disk(uid: Option<u32>, disk: &Disk) -> anyhow::Result<()> {
    uses(disk).try_for_each(|(path, access)| revoke_file(uid, path, access))
}

fn revoke_file(uid: Option<u32>, path: &AbsolutePath, access: DiskAccess) -> anyhow::Result<()> {
    change(path.as_path(), Kind::Disk, |acl| match (access, uid) {
        (DiskAccess::ReadWrite, _) => acl.revoke(DYNAMIC_UIDS),
        // Other VMs may read it too.
        (DiskAccess::ReadOnly, Some(uid)) => acl.revoke(uid..=uid),
        (DiskAccess::ReadOnly, None) => {}
    })
}

/// The VM's user: systemd gave it the runtime directory. Asking for the user by name would need
/// nss-systemd, which a host can lack.
pub fn user(directory: &Utf8Path) -> anyhow::Result<u32> {
    let uid = directory
        .metadata()
        .with_context(|| format!("cannot tell who the VM's user is by {directory}"))?
        .uid();
    if !DYNAMIC_UIDS.contains(&uid) {
        bail!("{directory} belongs to user {uid}, which is none of systemd's dynamic users");
    }
    Ok(uid)
}

/// The VM's disks, and its seed.
fn disks(context: &Context) -> Vec<Disk> {
    let vm = &context.booted.vm;
    let seed = seed::disk(context.id(), vm);
    vm.disks.iter().cloned().chain(seed).collect()
}

/// The files of the IOMMU groups of the VM's PCI devices. Who has VFIO's other file, which everybody may open, has
/// no device by it.
fn devices(context: &Context) -> Vec<Utf8PathBuf> {
    let groups = context.booted.iommu_groups.iter();
    groups.map(|group| group.device_file()).collect()
}

/// The VM's source of random numbers, where not everybody may read from it anyway.
fn rng(context: &Context) -> Option<&'static Utf8Path> {
    let source = context.booted.vm.rng;
    (source == RngSource::Hardware).then(|| Utf8Path::new(source.path()))
}

/// A disk's file, and the image below it, which the VM reads.
fn uses(disk: &Disk) -> impl Iterator<Item = (&AbsolutePath, DiskAccess)> {
    let backing = disk.backing.iter();
    std::iter::once((&disk.path, disk.access))
        .chain(backing.map(|path| (path, DiskAccess::ReadOnly)))
}

/// What a file has to be for root to change who may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Disk,
    CharacterDevice,
}

fn change(path: &Utf8Path, kind: Kind, change: impl FnOnce(&mut Acl)) -> anyhow::Result<()> {
    let fd = trusted_path::open(path)?;
    // By this path, since a descriptor of O_PATH has no extended attributes of its own.
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let file = std::fs::metadata(&path)?;
    match kind {
        Kind::Disk if !file.is_file() && !file.file_type().is_block_device() => {
            bail!("it is neither a regular file nor a block device");
        }
        Kind::CharacterDevice if !file.file_type().is_char_device() => {
            bail!("it is no character device");
        }
        Kind::Disk | Kind::CharacterDevice => {}
    }
    let old = read(&path)?;
    let old = match &old {
        Some(bytes) => Acl::from_bytes(bytes)?,
        None => Acl::of_mode(file.mode()),
    };
    let mut new = old.clone();
    change(&mut new);
    if new == old {
        return Ok(());
    }
    rustix::fs::setxattr(&path, ACL, &new.to_bytes(), XattrFlags::empty())
        .map_err(|err| explained(err, "set"))
}

fn read(path: &str) -> anyhow::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; 64 << 10];
    match rustix::fs::getxattr(path, ACL, &mut bytes) {
        Ok(length) => {
            bytes.truncate(length);
            Ok(Some(bytes))
        }
        Err(Errno::NODATA) => Ok(None),
        Err(err) => Err(explained(err, "read")),
    }
}

fn explained(err: Errno, doing: &str) -> anyhow::Error {
    let err = anyhow::Error::from(err);
    match err.downcast_ref::<Errno>() {
        Some(&Errno::OPNOTSUPP) => err.context(
            "its filesystem has no access control lists (POSIX ACLs); put the disk on one that has, \
             such as ext4, xfs, btrfs or zfs with acltype=posixacl",
        ),
        _ => err.context(format!("cannot {doing} its access control list")),
    }
}
