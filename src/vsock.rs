//! Connections to guests by their vsock: the VMM's socket, and what is said on it (cloud-hypervisor's docs/vsock.md).

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::OFlags;

use crate::hypervisor::vsock_socket;
use crate::journal;

/// How long the VMM and its guest may take together.
const LIMIT: Duration = Duration::from_secs(5);
/// `OK 4294967295\n`, and then some.
const LONGEST: usize = 32;

#[derive(Debug, thiserror::Error)]
pub enum VsockError {
    #[error("there is no {0}: the VM has no vsock since its last start")]
    Absent(Utf8PathBuf),
    #[error("{0} is not the socket that the VMM made")]
    Foreign(Utf8PathBuf),
    #[error("nobody answers on {0}")]
    Nobody(Utf8PathBuf, #[source] io::Error),
    #[error("nothing in the guest listens on port {0} of its vsock")]
    Refused(u32),
    #[error("neither the VMM nor its guest answered within {} s; a guest without a driver for its vsock does not", LIMIT.as_secs())]
    Silent,
    #[error("the VMM does not speak as it should: it said {0:?}")]
    Strange(String),
}

/// A connection to a port of the guest.
///
/// The directory is the VM's user's: a VMM that was taken over can put there what it likes, and answer what it likes. So
/// no link is followed, the socket has to be that user's own, and the answer is one short line.
pub fn connect(runtime_directory: &Utf8Path, port: u32) -> Result<UnixStream, VsockError> {
    let path = vsock_socket(runtime_directory);
    let failed = |err: io::Error| match err.kind() {
        io::ErrorKind::NotFound => VsockError::Absent(path.clone()),
        _ => VsockError::Nobody(path.clone(), err),
    };
    let flags = (OFlags::PATH | OFlags::NOFOLLOW).bits();
    let there = File::options()
        .read(true)
        .custom_flags(flags.cast_signed())
        .open(&path)
        .map_err(failed)?;
    let metadata = there.metadata().map_err(failed)?;
    let owner = runtime_directory.metadata().map_err(failed)?.uid();
    if !metadata.file_type().is_socket() || metadata.uid() != owner {
        return Err(VsockError::Foreign(path));
    }
    // This very socket, whatever has its name by now.
    let mut stream =
        UnixStream::connect(format!("/proc/self/fd/{}", there.as_raw_fd())).map_err(failed)?;
    let end = Instant::now() + LIMIT;
    stream.set_write_timeout(Some(LIMIT)).map_err(failed)?;
    // In one piece, so that whoever reads it once has read it.
    let request = format!("CONNECT {port}\n");
    match stream
        .write_all(request.as_bytes())
        .and_then(|()| first_line(&mut stream, end))
    {
        Ok(line) if is_consent(&line) => {}
        Ok(line) if line.is_empty() => return Err(VsockError::Refused(port)),
        Ok(line) => {
            let text = String::from_utf8_lossy(&line);
            return Err(VsockError::Strange(journal::plain(&text)));
        }
        Err(err) => {
            return Err(match err.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => VsockError::Silent,
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                    VsockError::Refused(port)
                }
                _ => VsockError::Nobody(path, err),
            });
        }
    }
    let for_ever = |stream: &UnixStream| {
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(None)
    };
    for_ever(&stream).map_err(failed)?;
    Ok(stream)
}

/// Up to the end of the line and not a byte further: what follows is the guest's.
fn first_line(stream: &mut UnixStream, end: Instant) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < LONGEST && line.last() != Some(&b'\n') {
        let left = end.saturating_duration_since(Instant::now());
        // Zero would be no limit.
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        if stream.read(&mut byte)? == 0 {
            break;
        }
        line.push(byte[0]);
    }
    Ok(line)
}

/// `OK` and the number of the host's end.
fn is_consent(line: &[u8]) -> bool {
    let number = line
        .strip_prefix(b"OK ")
        .and_then(|rest| rest.strip_suffix(b"\n"));
    number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// What comes of a VMM that answers so, and how much of what follows the first line is left.
    fn answered(answer: &[u8]) -> (Result<UnixStream, VsockError>, String) {
        let directory = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(directory.path()).unwrap();
        let listener = UnixListener::bind(vsock_socket(directory)).unwrap();
        let answer = answer.to_vec();
        let vmm = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let asked = first_line(&mut stream, Instant::now() + LIMIT).unwrap();
            // It may have heard enough.
            let _ = stream.write_all(&answer);
            String::from_utf8(asked).unwrap()
        });
        let connected = connect(directory, 22);
        (connected, vmm.join().unwrap())
    }

    #[test]
    fn a_guest_that_listens_is_connected_to_and_nothing_of_what_it_says_is_lost() {
        let (connected, asked) = answered(b"OK 1073741824\nSSH-2.0-x\r\n");
        assert_eq!(asked, "CONNECT 22\n");
        let mut rest = String::new();
        connected.unwrap().read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "SSH-2.0-x\r\n");
    }

    #[test]
    fn a_guest_that_does_not_listen_is_told_from_a_vmm_that_says_something_else() {
        let (connected, _) = answered(b"");
        assert!(matches!(connected, Err(VsockError::Refused(22))));
        for answer in [&b"OK \n"[..], b"OK 1", b"NO\x1b[2J\n", &[b'x'; 10_000]] {
            let (connected, _) = answered(answer);
            let Err(VsockError::Strange(said)) = connected else {
                panic!("{connected:?}")
            };
            assert!(
                said.len() <= 3 * LONGEST && !said.contains('\x1b'),
                "{said:?}"
            );
        }
    }

    #[test]
    fn a_link_to_another_socket_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(directory.path()).unwrap();
        assert!(matches!(connect(directory, 22), Err(VsockError::Absent(_))));
        let other = directory.join("other.sock");
        let _listener = UnixListener::bind(&other).unwrap();
        std::os::unix::fs::symlink(&other, vsock_socket(directory)).unwrap();
        assert!(matches!(
            connect(directory, 22),
            Err(VsockError::Foreign(_))
        ));
    }
}
