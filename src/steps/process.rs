//! The VMM's process, watched without being its parent.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;

use super::readable::readable;

/// `$MAINPID` of the unit.
#[derive(Debug)]
pub(super) enum MainProcess {
    Runs(AsyncFd<OwnedFd>),
    /// It has ended, or there is none.
    Gone,
}

impl MainProcess {
    pub(super) fn of_unit() -> io::Result<Self> {
        let pid = std::env::var("MAINPID")
            .ok()
            .and_then(|pid| pid.parse().ok())
            .and_then(Pid::from_raw);
        match pid {
            Some(pid) => Self::open(pid),
            None => Ok(Self::Gone),
        }
    }

    fn open(pid: Pid) -> io::Result<Self> {
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => Ok(Self::Runs(readable(fd)?)),
            Err(Errno::SRCH) => Ok(Self::Gone),
            Err(err) => Err(err.into()),
        }
    }

    /// Returns when the process has ended: a pidfd is readable then (pidfd_open(2)).
    pub(super) async fn ended(&self) {
        if let Self::Runs(pidfd) = self {
            // An error here would mean that the runtime is going down.
            let _ = pidfd.readable().await;
        }
    }
}
