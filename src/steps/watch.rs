//! Directories, watched for names that come and go (inotify(7)).

use std::io;
use std::os::fd::OwnedFd;

use camino::Utf8Path;
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

use super::readable::readable;

/// Tells that there are other names in a directory than before.
#[derive(Debug)]
pub(super) struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    pub(super) fn new(directory: &Utf8Path) -> io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        inotify::add_watch(
            &fd,
            directory.as_std_path(),
            inotify::WatchFlags::CREATE
                | inotify::WatchFlags::MOVED_TO
                | inotify::WatchFlags::DELETE,
        )?;
        Ok(Self(readable(fd)?))
    }

    pub(super) async fn changed(&self) -> io::Result<()> {
        let mut guard = self.0.readable().await?;
        // Which name it was does not matter: who asks looks for what they want again.
        let mut events = [0; 4096];
        match rustix::io::read(self.0.get_ref(), &mut events) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => {}
            Err(err) => return Err(err.into()),
        }
        guard.clear_ready();
        Ok(())
    }
}
