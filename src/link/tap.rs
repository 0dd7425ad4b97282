//! TAPs: made by opening them, gone when their last file descriptor is closed.

#![expect(
    unsafe_code,
    reason = "TUNSETIFF is an ioctl, and has no form in a library that is kept up"
)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::libc;

use crate::host::LinkName;

mod ioctl {
    use nix::libc;

    // linux/if_tun.h. It says int, and takes a struct ifreq.
    nix::ioctl_write_ptr_bad!(
        tun_set_iff,
        nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()),
        libc::ifreq
    );
}

/// Makes a TAP of one queue that is not persistent: it lives as long as this file descriptor and
/// its copies.
///
/// # Errors
///
/// `EBUSY` where a link of this name is there already, whosever it is; `ENOENT` without the TUN
/// driver; `EPERM` without CAP_NET_ADMIN.
pub fn open_tap(name: &LinkName) -> io::Result<OwnedFd> {
    let file = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    // SAFETY: all zeros is a valid ifreq: an empty name and no flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // A LinkName has at most 15 bytes of ASCII, so the last byte stays the NUL.
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
        *to = from.cast_signed();
    }
    // VNET_HDR: cloud-hypervisor's offloads. TUN_EXCL: never open somebody else's TAP of this name.
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_TUN_EXCL;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the kernel reads the low 16 bits as unsigned"
    )]
    {
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
    }
    // SAFETY: the descriptor is open, and the request is a whole ifreq that outlives the call.
    unsafe { ioctl::tun_set_iff(file.as_raw_fd(), &raw const request) }?;
    Ok(file.into())
}
