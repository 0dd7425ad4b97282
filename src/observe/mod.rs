//! What there is on the host: effects that only read.

mod capacity;
mod holders;
mod look;
mod observed;
mod storage;
mod units;

pub use capacity::capacity;
pub use look::{ObserveError, held_directory, hypervisor, observe, systemd_version};
pub use observed::{
    Admin, Detail, Hypervisor, Link, LinkKind, Networkd, Observed, Remains, Specification,
    SystemdVersion, Unit, UnitFacts, UnitOrigin, UnitState,
};
pub use storage::{Holder, MadeDisk, Storage, disks, storage};
