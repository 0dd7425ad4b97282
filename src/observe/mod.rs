//! What there is on the host: effects that only read.

mod capacity;
mod look;
mod observed;
mod units;

pub use capacity::capacity;
pub use look::{ObserveError, held_directory, hypervisor, observe, systemd_version};
pub use observed::{
    Admin, Detail, Hypervisor, Link, LinkKind, Networkd, Observed, Remains, Specification,
    SystemdVersion, Unit, UnitFacts, UnitOrigin, UnitState,
};
