//! File descriptors that the runtime waits for.

#![expect(
    unsafe_code,
    reason = "tokio cannot see for itself that a descriptor stays open while it is registered"
)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor, to wait until there is something to read from it.
pub(super) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is the same open descriptor until it is dropped, and it is dropped by the
    // AsyncFd, which deregisters it first.
    let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    registered.map_err(io::Error::from)
}
