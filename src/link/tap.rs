//! TAPs: made by opening them, gone when their last file descriptor is closed.

#![expect(
    unsafe_code,
    reason = "TUNSETIFF is an ioctl, and has no form in a library that is kept up"
)]

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::ioctl::{Setter, ioctl, opcode};

use crate::host::LinkName;

/// `struct ifreq` of linux/if.h, as TUNSETIFF reads it: the name and the flags.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

const _: () = assert!(size_of::<InterfaceRequest>() == 40);

// linux/if_tun.h. It says int, and takes a struct ifreq.
const TUNSETIFF: rustix::ioctl::Opcode = opcode::write::<std::ffi::c_int>(b'T', 202);
const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
/// cloud-hypervisor's offloads need it.
const IFF_VNET_HDR: u16 = 0x4000;
/// Never open somebody else's TAP of this name.
const IFF_TUN_EXCL: u16 = 0x8000;

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
    let mut request = InterfaceRequest {
        name: [0; 16],
        flags: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL,
        rest: [0; 22],
    };
    // A LinkName has at most 15 bytes of ASCII, so the last byte stays the NUL.
    for (to, from) in request.name.iter_mut().zip(name.as_str().bytes()) {
        *to = from;
    }
    // SAFETY: TUNSETIFF reads a struct ifreq of 40 bytes, which InterfaceRequest is, and the
    // descriptor is one of the TUN driver.
    unsafe {
        let set = Setter::<TUNSETIFF, InterfaceRequest>::new(request);
        ioctl(&file, set)?;
    }
    Ok(file.into())
}
