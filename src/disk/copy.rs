//! Copies of files as large as disks: by reference where the filesystem can, else without the holes.

use std::fs::File;
use std::io;

use rustix::fs::{SeekFrom, copy_file_range, ioctl_ficlone, seek};
use rustix::io::Errno;

/// How a file was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// It shares its blocks with the other until one of them is written to.
    Reflink,
    /// So many bytes were copied, and the holes left out.
    Bytes(u64),
}

/// Bytes that one call copies: so few that a signal is soon seen.
const AT_ONCE: u64 = 64 << 20;

/// Makes `to`, an empty file, a copy of `from`.
pub fn copy(from: &File, to: &File) -> io::Result<Copied> {
    // Refused for many reasons: another filesystem (EXDEV), one that cannot (EOPNOTSUPP, EINVAL),
    // one whose options differ from file to file (EINVAL). Copying answers to all of them.
    if ioctl_ficlone(to, from).is_ok() {
        return Ok(Copied::Reflink);
    }
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut copied = 0;
    let mut at = 0;
    while at < length {
        let start = match seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            Err(err) => return Err(err.into()),
        };
        let end = seek(from, SeekFrom::Hole(start))?.min(length);
        copied += copy_range(from, to, start, end)?;
        at = end;
    }
    Ok(Copied::Bytes(copied))
}

fn copy_range(from: &File, to: &File, start: u64, end: u64) -> io::Result<u64> {
    let (mut from_at, mut to_at) = (start, start);
    while from_at < end {
        let length = usize::try_from((end - from_at).min(AT_ONCE)).unwrap_or(usize::MAX);
        match copy_file_range(from, Some(&mut from_at), to, Some(&mut to_at), length) {
            // The file was cut off while it was copied.
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            // Between filesystems, older kernels and some filesystems refuse it.
            Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::PERM) => {
                copy_by_hand(from, to, from_at, end)?;
                break;
            }
            Err(err) => return Err(err.into()),
        }
    }
    Ok(end - start)
}

fn copy_by_hand(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let mut buffer = vec![0; 1 << 20];
    let mut at = start;
    while at < end {
        let length = buffer
            .len()
            .min(usize::try_from(end - at).unwrap_or(usize::MAX));
        from.read_exact_at(&mut buffer[..length], at)?;
        to.write_all_at(&buffer[..length], at)?;
        at += length as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    #[test]
    fn a_copy_has_the_bytes_and_the_holes() {
        let directory = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            let path = directory.path().join(name);
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(true);
            options.open(path).unwrap()
        };
        let from = open("from");
        from.write_all_at(b"begin", 1 << 20).unwrap();
        from.write_all_at(b"middle", 64 << 20).unwrap();
        from.set_len(256 << 20).unwrap();
        let to = open("to");
        copy(&from, &to).unwrap();
        let read = |at: u64, length: usize| {
            let mut bytes = vec![1; length];
            to.read_exact_at(&mut bytes, at).unwrap();
            bytes
        };
        assert_eq!(to.metadata().unwrap().len(), 256 << 20);
        assert_eq!(read(1 << 20, 5), b"begin");
        assert_eq!(read(64 << 20, 6), b"middle");
        assert_eq!(read(100 << 20, 4), [0; 4]);
        let blocks = to.metadata().unwrap().blocks() * 512;
        assert!(blocks < 4 << 20, "{blocks} bytes are allocated");

        // What copying does where the kernel cannot.
        let by_hand = open("by-hand");
        copy_by_hand(&from, &by_hand, 1 << 20, (1 << 20) + 5).unwrap();
        let mut bytes = [0; 5];
        by_hand.read_exact_at(&mut bytes, 1 << 20).unwrap();
        assert_eq!(&bytes, b"begin");
    }
}
