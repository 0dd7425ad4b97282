//! What there is on the host: effects that only read.

mod booted;
mod capacity;
mod closer;
mod holders;
mod hypervisor;
mod leases;
mod look;
mod look_network;
mod needs;
mod network;
mod observed;
mod pci;
mod running;
mod storage;
mod tuning;
mod units;

pub use booted::{BootedError, booted, booted_ids, specification};
pub use capacity::{capacity, meminfo};
pub use closer::{Closer, DiskUse, VmmHealth, closer, paused_directory, within_reach};
pub use holders::holders;
pub use hypervisor::{hypervisor, note_hypervisor};
pub use leases::leases;
pub use look::{
    ObserveError, held_directory, not_ready_directory, observe, obstacles_directory,
    stopping_directory, systemd_version,
};
pub use look_network::{SYSCTL_FILE, uplinks_directory};
pub use needs::{Needs, PagePool, default_hugepage, needs, page_pools};
pub use network::{DhcpUnit, DroppingChain, NetworkFacts, NetworkManager, Route, Rules, Sysctls};
pub use observed::{
    Admin, Detail, HeldBy, Hypervisor, Link, LinkKind, Networkd, Observed, Remains, Specification,
    SystemdVersion, Traffic, Unit, UnitFacts, UnitOrigin, UnitState,
};
pub use pci::{Iommu, PciDevice, PciDevices, Vfio};
pub use running::{Running, Usage};
pub use storage::{Below, Holder, MadeDisk, Storage, disks, made, storage};
pub use tuning::{Noted, TuningFacts, tuning, tuning_note};
