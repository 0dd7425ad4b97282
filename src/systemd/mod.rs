//! systemd over D-Bus: the few methods that nkudo calls, and the jobs that they lead to.
//!
//! The system bus, not systemd's private socket: only on the bus do signals reach a client that
//! did not exist when systemd started (org.freedesktop.systemd1(5)).

mod job;
mod machine1;
mod manager;
mod network1;
mod properties;
mod variant;

pub use job::{JobError, JobResult, Jobs};
pub use machine1::{Machine1Proxy, MachineProxy};
pub use manager::{ManagerProxy, UnitListing};
pub use network1::{DhcpServerProxy, LeaseOfNetworkd, Network1Proxy};
pub use properties::{Interface, property};
pub use variant::{ExtraFd, transient_properties};

/// Whether the other side answered, and the answer is an error. The bus's own names of errors have a variant of zbus's.
pub const fn is_answer(err: &zbus::Error) -> bool {
    matches!(err, zbus::Error::MethodError(..) | zbus::Error::FDO(_))
}

/// Whether the other side answered with the error of this name, which is none of the bus's own.
pub fn is_named(err: &zbus::Error, name: &str) -> bool {
    matches!(err, zbus::Error::MethodError(found, ..) if found.as_str() == name)
}

/// Whether systemd has no such unit loaded.
pub fn is_no_such_unit(err: &zbus::Error) -> bool {
    is_named(err, "org.freedesktop.systemd1.NoSuchUnit")
}
