//! A VM as a cloud-hypervisor command line.

#![deny(clippy::disallowed_methods)]

mod argv;
pub mod events;
mod plug;
mod version;

pub use argv::{argv, disk_id, notify_socket, quoted, restoring_argv};
pub use plug::disk_config;
pub use version::{BadVersion, Version};
