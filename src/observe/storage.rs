//! The disks that nkudo made, the images that it keeps, and who holds a disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use camino::{Utf8Path, Utf8PathBuf};

use super::look::failed;
use super::{ObserveError, holders};
use crate::disk::{self, DiskRecord, Header};
use crate::files;
use crate::host::{
    AbsolutePath, DiskAccess, DiskFormat, DiskName, DiskOrigin, Host, INSIDE, InsideKernel, Size,
    VmId,
};

/// What is kept in the state directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Storage {
    /// The disks in `vms/`, those that nobody declares among them.
    pub disks: BTreeMap<VmId, BTreeMap<DiskName, MadeDisk>>,
    /// The names in `images/` of what is whole.
    pub images: BTreeSet<String>,
    /// The kernels that were taken out of images, by the names of their records in `images/`.
    pub inside: BTreeMap<String, InsideKernel>,
    /// Disks that a process holds, by the path that the configuration has; only those of VMs that do not
    /// run, since only for those it matters.
    pub held: BTreeMap<Utf8PathBuf, Holder>,
    /// Programs that are missing of those that disks are made with.
    pub missing: BTreeSet<&'static str>,
}

/// A disk that nkudo made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeDisk {
    pub format: DiskFormat,
    /// What a guest sees; `None` where the file cannot be made out.
    pub size: Option<Size>,
    /// What the file takes.
    pub allocated: Size,
    /// What it was made from; `None` where that is not known: somebody else may have put it there.
    pub record: Option<DiskRecord>,
    /// Whether the image that it lies over is as it was then.
    pub below: Below,
}

/// What there is of the image below an overlay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Below {
    /// As it was, or nothing is below.
    #[default]
    Whole,
    Changed,
    Gone,
}

/// A process that has locked a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    /// `comm` of the process.
    pub command: String,
    /// The VM whose unit it is of.
    pub vm: Option<VmId>,
    /// What the lock keeps others from: a reader keeps away writers only.
    pub access: DiskAccess,
}

impl Storage {
    pub fn disk(&self, id: &VmId, name: &DiskName) -> Option<&MadeDisk> {
        self.disks.get(id)?.get(name)
    }
}

/// Looks at the state directory of a host, and at the disks of those of its VMs that do not run.
pub fn storage(host: &Host, running: &BTreeSet<&VmId>) -> Result<Storage, ObserveError> {
    let images = host.state_dir.as_path().join("images");
    let images = files::names(&images).map_err(failed(&images))?;
    let idle = host.vms.iter().filter(|(id, _)| !running.contains(id));
    let idle = idle.flat_map(|(_, vm)| &vm.disks);
    let missing = crate::disk::PROGRAMS
        .into_iter()
        .filter(|program| crate::programs::find(program).is_none());
    Ok(Storage {
        disks: disks(&host.state_dir)?,
        inside: inside(&host.state_dir, &images)?,
        images: images
            .into_iter()
            .filter(|name| !name.starts_with('.'))
            .collect(),
        held: holders::holders(idle.map(|disk| disk.path.as_path())),
        missing: missing.collect(),
    })
}

/// What is known of kernels inside images: those of which all files are there.
fn inside(
    state_dir: &AbsolutePath,
    names: &[String],
) -> Result<BTreeMap<String, InsideKernel>, ObserveError> {
    let mut all = BTreeMap::new();
    for name in names.iter().filter(|name| name.ends_with(INSIDE)) {
        let path = state_dir.as_path().join("images").join(name);
        let json = files::read(&path).map_err(failed(&path))?;
        let inside = json.and_then(|json| serde_json::from_slice::<InsideKernel>(&json).ok());
        let is_whole = |inside: &InsideKernel| {
            let mut files = inside.file_names();
            files.all(|file| names.contains(&file))
        };
        if let Some(inside) = inside.filter(is_whole) {
            all.insert(name.clone(), inside);
        }
    }
    Ok(all)
}

/// What a host is adapted to that is not observed otherwise.
pub fn made(state_dir: &AbsolutePath) -> Result<Storage, ObserveError> {
    let images = state_dir.as_path().join("images");
    let names = files::names(&images).map_err(failed(&images))?;
    Ok(Storage {
        disks: disks(state_dir)?,
        inside: inside(state_dir, &names)?,
        ..Storage::default()
    })
}

/// Every disk in `vms/`.
pub fn disks(
    state_dir: &AbsolutePath,
) -> Result<BTreeMap<VmId, BTreeMap<DiskName, MadeDisk>>, ObserveError> {
    let directory = state_dir.as_path().join("vms");
    let mut all = BTreeMap::new();
    for name in files::names(&directory).map_err(failed(&directory))? {
        let Ok(id) = name.parse::<VmId>() else {
            continue;
        };
        let images = state_dir.as_path().join("images");
        let disks = disks_of(&disk::directory(state_dir, &id), &images)?;
        if !disks.is_empty() {
            all.insert(id, disks);
        }
    }
    Ok(all)
}

fn disks_of(
    directory: &Utf8Path,
    images: &Utf8Path,
) -> Result<BTreeMap<DiskName, MadeDisk>, ObserveError> {
    let mut disks = BTreeMap::new();
    for file in files::names(directory).map_err(failed(directory))? {
        let Some((name, format)) = file.rsplit_once('.') else {
            continue;
        };
        let format = match format {
            "raw" => DiskFormat::Raw,
            "qcow2" => DiskFormat::Qcow2,
            _ => continue,
        };
        let Ok(name) = name.parse::<DiskName>() else {
            continue;
        };
        let path = directory.join(&file);
        let record = directory.join(disk::record_name(&name));
        let record = files::read(&record).map_err(failed(&record))?;
        let made = made_disk(&path, format).map_err(failed(&path))?;
        let record = record.and_then(|json| DiskRecord::from_json(&json).ok());
        let below = record
            .as_ref()
            .map(|one| below(one, images))
            .unwrap_or_default();
        disks.insert(
            name,
            MadeDisk {
                record,
                below,
                ..made
            },
        );
    }
    Ok(disks)
}

/// A file of a disk, whoever made it.
pub(super) fn made_disk(path: &Utf8Path, format: DiskFormat) -> std::io::Result<MadeDisk> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut first = [0; 512];
    let read = match format {
        DiskFormat::Raw => 0,
        DiskFormat::Qcow2 => file.read_at(&mut first, 0)?,
    };
    let header = Header::of_disk(format, &first[..read], metadata.len());
    Ok(MadeDisk {
        format,
        size: header.ok().map(|header| Size::from_bytes(header.size)),
        allocated: Size::from_bytes(metadata.blocks() * 512),
        record: None,
        below: Below::Whole,
    })
}

fn below(record: &DiskRecord, images: &Utf8Path) -> Below {
    let (DiskOrigin::Overlay { .. }, Some(image)) = (&record.origin, &record.image) else {
        return Below::Whole;
    };
    match std::fs::metadata(image.path.as_path()) {
        Err(_) => Below::Gone,
        // What is in the image store is known by its name, and may have been fetched again.
        Ok(now)
            if now.len() == image.length
                && (image.path.as_path().starts_with(images)
                    || disk::modified(&now) == image.modified) =>
        {
            Below::Whole
        }
        Ok(_) => Below::Changed,
    }
}
