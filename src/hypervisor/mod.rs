//! A VM as a cloud-hypervisor command line.

#![deny(clippy::disallowed_methods)]

mod argv;
pub mod events;
mod plug;
mod sockets;
mod version;

pub use argv::{argv, disk_id, quoted, restoring_argv};
pub use plug::disk_config;
pub use sockets::{api_socket, notify_socket, serial_socket, vsock_socket};
pub use version::{BadVersion, Version};
