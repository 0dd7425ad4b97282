//! Snapshots of VMs: memory, devices and disks as they were at one moment.
//!
//! `<state-dir>/snapshots/<id>/<name>/`, of root alone: `manifest.json`; `vmm/`, what the VMM wrote; `disks/`,
//! the disks that the VM writes to, each with its record; `seed.img`. A snapshot is made under another name and
//! renamed when it is whole and synced, so one that is there is whole.

mod copies;
mod devices;
mod guard;
mod kept;
mod manifest;
mod restoring;
mod take;

use camino::Utf8PathBuf;

use crate::host::{AbsolutePath, SnapshotName, VmId};

pub use devices::{differences, refusals};
pub use guard::wait as guard;
pub use kept::{Kept, kept, kept_of, remove};
pub use manifest::{DiskCopy, Manifest, NicId, Unchanged};
pub use restoring::{Restoring, Undone, went_on};
pub use take::{Taken, Taking};

/// What the VMM wrote, in a snapshot.
pub const VMM: &str = "vmm";
/// The copies of disks.
const DISKS: &str = "disks";
/// The copy of the seed.
pub const SEED: &str = "seed.img";
const MANIFEST: &str = "manifest.json";
/// Links that keep Nix's garbage collector from what the VM runs from.
const GC_ROOTS: &str = "gcroots";

/// Where all snapshots are.
pub fn root(state_dir: &AbsolutePath) -> Utf8PathBuf {
    state_dir.as_path().join("snapshots")
}

/// Where a VM's are.
pub fn directory(state_dir: &AbsolutePath, id: &VmId) -> Utf8PathBuf {
    root(state_dir).join(id.as_str())
}

pub fn path(state_dir: &AbsolutePath, id: &VmId, name: &SnapshotName) -> Utf8PathBuf {
    directory(state_dir, id).join(name.as_str())
}
