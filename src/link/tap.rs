//! TAPs: made by opening them, gone when their last file descriptor is closed. And macvtaps, which
//! are links before they are opened, and after.

#![expect(
    unsafe_code,
    reason = "TUNSETIFF is an ioctl, and has no form in a library that is kept up"
)]

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;

use rustix::ioctl::{Setter, ioctl, opcode};

use crate::host::{LinkName, QueuePairs};

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
/// Several file descriptors, one for each pair of queues. Whoever opens one has to say the same.
const IFF_MULTI_QUEUE: u16 = 0x0100;

/// Makes a TAP that is not persistent: it lives as long as these file descriptors, one for each
/// pair of queues, and their copies.
///
/// # Errors
///
/// `EBUSY` where a link of this name is there already, whosever it is; `ENOENT` without the TUN
/// driver; `EPERM` without CAP_NET_ADMIN.
pub fn open_tap(name: &LinkName, queues: QueuePairs) -> io::Result<Vec<OwnedFd>> {
    let mut flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if queues.get() > 1 {
        flags |= IFF_MULTI_QUEUE;
    }
    // Only the first one makes it, and has to: the others join what that made.
    let mut all = vec![open_queue(name, flags | IFF_TUN_EXCL)?];
    for _ in 1..queues.get() {
        all.push(open_queue(name, flags)?);
    }
    Ok(all)
}

fn open_queue(name: &LinkName, flags: u16) -> io::Result<OwnedFd> {
    let file = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    set_flags(&file, name, flags)?;
    Ok(file.into())
}

/// Opens a macvtap's queues, by the device file of its index that the kernel or udev makes.
///
/// # Errors
///
/// `ENOENT` where there is no such file, `EPERM` where it is another link's.
pub fn open_macvtap(name: &LinkName, index: u32, queues: QueuePairs) -> io::Result<Vec<OwnedFd>> {
    let path = format!("/dev/tap{index}");
    let mut flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if queues.get() > 1 {
        flags |= IFF_MULTI_QUEUE;
    }
    let own = std::fs::read_to_string(format!("/sys/class/net/{name}/macvtap/tap{index}/dev"))?;
    let mut all = Vec::new();
    for _ in 0..queues.get() {
        let file = File::options().read(true).write(true).open(&path)?;
        let device = file.metadata()?.rdev();
        let numbers = format!(
            "{}:{}",
            rustix::fs::major(device),
            rustix::fs::minor(device)
        );
        if numbers != own.trim() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "{path} is the device {numbers}, and {name} is {}",
                    own.trim()
                ),
            ));
        }
        set_flags(&file, name, flags)?;
        all.push(file.into());
    }
    Ok(all)
}

fn set_flags(file: &File, name: &LinkName, flags: u16) -> io::Result<()> {
    let mut request = InterfaceRequest {
        name: [0; 16],
        flags,
        rest: [0; 22],
    };
    // A LinkName has at most 15 bytes of ASCII, so the last byte stays the NUL.
    for (to, from) in request.name.iter_mut().zip(name.as_str().bytes()) {
        *to = from;
    }
    // SAFETY: TUNSETIFF reads a struct ifreq of 40 bytes, which InterfaceRequest is, and the
    // descriptor is one of the TUN driver or of a macvtap.
    unsafe {
        let set = Setter::<TUNSETIFF, InterfaceRequest>::new(request);
        ioctl(file, set)?;
    }
    Ok(())
}
