//! Units as data: one value, of which both the text form and the D-Bus form are made.
//!
//! The text is what people read in a generation and what `systemd-analyze verify` takes; the
//! properties are what StartTransientUnit takes (org.freedesktop.systemd1(5)). Each `Setting`
//! knows both of its spellings, so the two cannot drift apart.

#![deny(clippy::disallowed_methods)]

mod builder;
mod companion;
mod dhcp;
mod escape;
mod limits;
mod property;
mod readiness;
mod restoring;
mod sandbox;
mod setting;
mod text;
mod vm;

pub use companion::{
    companion_root, companions, companions_directory, share_socket, sockets_directory, tpm_socket,
};
pub use dhcp::{dhcp_digest, dhcp_unit, dhcp_unit_name, leases_file};
pub use limits::{Limit, LimitValues, limit_values, read_limits};
pub use property::{Property, Value};
pub use readiness::{NOT_READY, readiness, readiness_socket, readiness_unit_name};
pub use restoring::{Restoration, restoring};
pub use sandbox::SYSTEM_FILES;
pub use setting::{Bind, Exec, Privilege, Section, Setting};
pub use vm::{
    GENERATION_FIELD, Programs, RUNTIME_ROOT, Source, TRANSIENT, root_directories, root_directory,
    runtime_directory, slice_name, vm_unit, vm_unit_name,
};

/// One unit, its settings in the order in which a reader should meet them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    pub name: String,
    pub settings: Vec<(Section, &'static str, Setting)>,
}
