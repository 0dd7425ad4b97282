//! The sockets that a VMM makes, by the runtime directory of its VM.

use camino::{Utf8Path, Utf8PathBuf};

/// The port of the host at which the guest's systemd says that it is ready.
pub(super) const NOTIFY_PORT: u32 = 9999;

pub fn api_socket(runtime_directory: &Utf8Path) -> Utf8PathBuf {
    runtime_directory.join("api.sock")
}

pub fn serial_socket(runtime_directory: &Utf8Path) -> Utf8PathBuf {
    runtime_directory.join("serial.sock")
}

/// The host's end of the guest's vsock device, for connections to the guest.
pub fn vsock_socket(runtime_directory: &Utf8Path) -> Utf8PathBuf {
    runtime_directory.join("vsock.sock")
}

/// Where the VMM connects to when the guest connects to `NOTIFY_PORT` of the host
/// (cloud-hypervisor's docs/vsock.md).
pub fn notify_socket(runtime_directory: &Utf8Path) -> Utf8PathBuf {
    let vsock = vsock_socket(runtime_directory);
    format!("{vsock}_{NOTIFY_PORT}").into()
}
