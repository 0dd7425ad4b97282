//! Which VMM the run uses, and a client for any VMM's API.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{find, stand_in};

/// What runs as cloud-hypervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Vmm {
    Real(PathBuf),
    /// With the reason why it is not the real one.
    StandIn(&'static str),
}

impl Vmm {
    /// The real one where it can run; `NKUDO_TEST_VMM=stand-in` does without it.
    pub(crate) fn chosen() -> Self {
        match std::env::var_os("NKUDO_TEST_VMM") {
            Some(vmm) if vmm == "stand-in" => Self::StandIn("NKUDO_TEST_VMM says so"),
            Some(vmm) => panic!("NKUDO_TEST_VMM={} is not `stand-in`", vmm.display()),
            None => Self::available(),
        }
    }

    /// The real one where it can run.
    pub(crate) fn available() -> Self {
        if std::env::consts::ARCH != "x86_64" {
            return Self::StandIn("the tests' guests are for x86_64");
        }
        if !Path::new("/dev/kvm").exists() {
            return Self::StandIn("there is no /dev/kvm");
        }
        match find(stand_in::NAME) {
            Some(vmm) => Self::Real(vmm),
            None => Self::StandIn("there is no cloud-hypervisor in PATH"),
        }
    }

    /// The file to run or to install. The stand-in is this program under another name.
    pub(crate) fn file(&self) -> PathBuf {
        match self {
            Self::Real(vmm) => vmm.clone(),
            Self::StandIn(_) => std::env::current_exe().unwrap(),
        }
    }
}

impl fmt::Display for Vmm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Real(vmm) => {
                let output = Command::new(vmm).arg("--version").output().unwrap();
                let version = String::from_utf8_lossy(&output.stdout);
                let version = version.lines().next().unwrap_or("of no version");
                write!(f, "{version} ({})", vmm.display())
            }
            Self::StandIn(why) => write!(f, "the tests' stand-in: {why}"),
        }
    }
}

/// Makes one request of an API (`PUT vm.power-button`); returns the status and the body.
pub(crate) fn ask(socket: &Path, request: &str) -> std::io::Result<(u16, String)> {
    let (method, path) = request.split_once(' ').unwrap();
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "{method} /api/v1/{path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"
    )?;
    // The server keeps the connection open: what it announces is read, and no more.
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "))
                .map_or(0, |length| length.trim().parse::<usize>().unwrap());
            if body.len() >= length {
                let status = head.split_whitespace().nth(1).unwrap();
                return Ok((status.parse().unwrap(), body.to_owned()));
            }
        }
        match stream.read(&mut chunk)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            length => answer.extend_from_slice(&chunk[..length]),
        }
    }
}
