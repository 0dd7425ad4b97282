//! What the VMM opens.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::ioctl::{Getter, Opcode, ioctl, opcode};

use super::Chain;
use super::options::{Disk, Options};

/// What is held open while the VM lives.
#[derive(Debug)]
pub(super) struct Devices {
    _files: Vec<File>,
    _vsock: Option<UnixListener>,
}

pub(super) fn kernel(options: &Options) -> Result<Vec<u8>, Chain> {
    fs::read(&options.payload)
        .map_err(|err| Chain::boot(["Cannot open kernel file".to_owned(), err.to_string()]))
}

pub(super) fn open(options: &Options) -> Result<Devices, Chain> {
    let mut files = Vec::new();
    if let Some(initramfs) = &options.initramfs {
        files.push(File::open(initramfs).map_err(|err| {
            Chain::boot(["Cannot open initramfs file".to_owned(), err.to_string()])
        })?);
    }
    for queues in &options.taps {
        for fd in queues {
            is_a_tap(*fd, queues.len())?;
        }
    }
    files.push(File::open(&options.rng).map_err(|err| {
        device([
            "Cannot create virtio-rng device".to_owned(),
            err.to_string(),
        ])
    })?);
    files.extend(vfio(&options.devices)?);
    let vsock = options.vsock.as_ref().map(UnixListener::bind).transpose();
    let vsock = vsock.map_err(|err| {
        device([
            "Cannot create virtio-vsock backend".to_owned(),
            "Error binding to the host-side Unix socket".to_owned(),
            err.to_string(),
        ])
    })?;
    // Only where there is one: then the sandbox has to let it be opened.
    match File::options().read(true).write(true).open("/dev/kvm") {
        Ok(kvm) => files.push(kvm),
        Err(err) if err.kind() == io::ErrorKind::NotFound => {}
        Err(err) => {
            return Err(Chain::boot([
                "Failed to open /dev/kvm".to_owned(),
                err.to_string(),
            ]));
        }
    }
    Ok(Devices {
        _files: files,
        _vsock: vsock,
    })
}

/// Opens what the real one has PCI devices by: each one's group, which it finds in sysfs.
fn vfio(devices: &[PathBuf]) -> Result<Vec<File>, Chain> {
    let cannot = |what: String, err: io::Error| {
        device([
            "Cannot create a VFIO device".to_owned(),
            what,
            err.to_string(),
        ])
    };
    let open = |path: PathBuf| {
        let file = File::options().read(true).write(true).open(&path);
        file.map_err(|err| cannot(format!("failed to open {}", path.display()), err))
    };
    let mut files = Vec::new();
    let mut groups = BTreeSet::new();
    for path in devices {
        if files.is_empty() {
            files.push(open("/dev/vfio/vfio".into())?);
        }
        let group = fs::read_link(path.join("iommu_group"));
        let group = group.map_err(|err| cannot("Invalid path".to_owned(), err))?;
        groups.extend(group.file_name().map(ToOwned::to_owned));
    }
    for group in groups {
        files.push(open(PathBuf::from("/dev/vfio").join(group))?);
    }
    Ok(files)
}

/// Connects to those that serve devices, and waits for one that is not there yet, as the real one does.
pub(super) fn connect(options: &Options) -> Result<Vec<UnixStream>, Chain> {
    let connect = |path: &PathBuf| {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            match UnixStream::connect(path) {
                Ok(stream) => return Ok(stream),
                Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(100)),
                Err(err) => {
                    return Err(device([
                        "Cannot create a device of another process".to_owned(),
                        format!("{}: {err}", path.display()),
                    ]));
                }
            }
        }
    };
    options.sockets.iter().map(connect).collect()
}

fn device<const N: usize>(links: [String; N]) -> Chain {
    Chain::boot(std::iter::once("Error from device manager".to_owned()).chain(links))
}

pub(super) fn disk(disk: &Disk) -> Result<File, Chain> {
    let path = disk.path.display();
    let cannot = |err: io::Error| {
        device([
            "Cannot open disk path".to_owned(),
            format!("I/O error (path={path} op=open)"),
            err.to_string(),
        ])
    };
    let file = File::options()
        .read(true)
        .write(disk.write)
        .open(&disk.path);
    let file = file.map_err(cannot)?;
    let mut magic = Vec::new();
    (&file).take(4).read_to_end(&mut magic).map_err(cannot)?;
    let is_qcow2 = magic == b"QFI\xfb";
    // A raw disk may hold anything, a qcow2 header too.
    if disk.qcow2 && !is_qcow2 {
        let why = "Disk image type does not match expected type: specified = qcow2, detected = raw";
        return Err(device([why.to_owned()]));
    }
    let locked = if disk.write {
        file.try_lock()
    } else {
        file.try_lock_shared()
    };
    match locked {
        Ok(()) => Ok(file),
        Err(TryLockError::Error(err)) => Err(cannot(err)),
        Err(TryLockError::WouldBlock) => Err(Chain::boot([
            "Error locking disk images: Another instance likely holds a lock".to_owned(),
            "Cannot lock images of all block devices".to_owned(),
            format!("Failed to get the lock for disk image: {path}"),
            "The file is already locked".to_owned(),
        ])),
    }
}

/// `struct ifreq` of linux/if.h, as TUNGETIFF fills it: the name and the flags.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

// linux/if_tun.h. It says unsigned int, and fills a struct ifreq.
const TUNGETIFF: Opcode = opcode::read::<std::ffi::c_uint>(b'T', 210);
const IFF_TAP: u16 = 0x0002;
const IFF_VNET_HDR: u16 = 0x4000;
const IFF_MULTI_QUEUE: u16 = 0x0100;

/// Checks that a descriptor is a TAP with the header that cloud-hypervisor's offloads need.
#[expect(
    unsafe_code,
    reason = "TUNGETIFF is an ioctl on a descriptor that came with the process"
)]
fn is_a_tap(fd: RawFd, queues: usize) -> Result<(), Chain> {
    let not_one = |why: String| {
        device([
            "Cannot create virtio-net device".to_owned(),
            "Using existing tap".to_owned(),
            why,
        ])
    };
    // SAFETY: whoever started this process opened it, and nothing here closes it. A descriptor that
    // is not open is an error of the ioctl. TUNGETIFF fills a struct ifreq of 40 bytes.
    let request = unsafe {
        let fd = BorrowedFd::borrow_raw(fd);
        ioctl(fd, Getter::<TUNGETIFF, InterfaceRequest>::new())
    };
    let request = request.map_err(|err| not_one(err.to_string()))?;
    let needed = IFF_TAP | IFF_VNET_HDR;
    let several = request.flags & IFF_MULTI_QUEUE != 0;
    if request.flags & needed != needed || several != (queues > 1) {
        return Err(not_one(format!("its flags are {:#x}", request.flags)));
    }
    Ok(())
}
