//! Disks that nkudo makes: `<state-dir>/vms/<id>/<name>.raw` or `.qcow2`.
//!
//! Each has a record beside it, `<name>.json`, of what it was made from. `plan` says what becomes of a
//! disk; what is here makes, grows, sets aside and removes them. A disk is made under another name in its
//! directory and renamed when it is whole and synced, so one that is there is whole.

mod as_made;
mod copy;
mod grow;
mod header;
mod kept;
mod make;
mod record;

use camino::Utf8PathBuf;

use crate::host::{AbsolutePath, DiskFormat, DiskName, VmId};

pub use as_made::as_made;
pub use copy::{Copied, copy};
pub use grow::grow;
pub use header::{BadImage, Header};
pub use kept::{DiskFile, aside, disk_files, disk_files_of, put_back, remove, set_aside};
pub use make::{Making, Place, check_image, make, mkfs, modified, place, remove_unfinished};
pub use record::{DiskRecord, ImageSeen};

/// What disks are made with, besides nkudo itself.
pub const PROGRAMS: [&str; 5] = [
    "qemu-img",
    "mkfs.ext4",
    "mkfs.xfs",
    "mkfs.btrfs",
    "mkfs.vfat",
];

/// Where a VM's disks are.
pub fn directory(state_dir: &AbsolutePath, id: &VmId) -> Utf8PathBuf {
    state_dir.as_path().join("vms").join(id.as_str())
}

/// The file of a disk that nkudo makes.
pub fn file_name(name: &DiskName, format: DiskFormat) -> String {
    format!("{name}.{format}")
}

/// The record of such a disk.
pub fn record_name(name: &DiskName) -> String {
    format!("{name}.json")
}
