//! The lock of one VM.
//!
//! Whoever changes the host has the host's lock, and takes that of a VM for the moment in which it is decided
//! whether the VM runs: a start is not to follow a stop that has returned. What takes long and is about one VM, as a
//! snapshot, has the VM's lock alone, and whoever changes the host waits for it with neither.
//!
//! The host's lock comes first: nobody waits for it who has a VM's.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::time::Duration;

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};

use crate::files;
use crate::host::VmId;
use crate::unit::RUNTIME_ROOT;

/// What somebody does who has the lock of a VM: the verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    Start,
    Stop,
    Snapshot,
    Pause,
    Resume,
    Api,
}

impl Doing {
    const fn verb(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Snapshot => "snapshot",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Api => "api",
        }
    }
}

/// Held while this lives; the kernel lets go of it when the process ends, however that happens. Its file is there for
/// as long, unless the process was killed.
#[derive(Debug)]
pub struct VmLock {
    file: File,
    path: Utf8PathBuf,
}

impl Drop for VmLock {
    fn drop(&mut self) {
        // While it is held: whoever waits for it sees then that it is no lock any more.
        let _ = fs::remove_file(&self.path);
    }
}

/// Who has the lock of a VM, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder(String);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How long somebody may have it without that being said: a start or a stop has it for a moment.
const MOMENT: Duration = Duration::from_millis(200);
/// Between two attempts of who does not wait in the kernel.
const INTERVAL: Duration = Duration::from_millis(10);

/// Takes the lock of a VM. `waiting` is called with who has it, before a wait for more than a moment.
pub fn lock_vm(id: &VmId, doing: Doing, waiting: impl FnOnce(&Holder)) -> anyhow::Result<VmLock> {
    take_in(&directory(), id, doing, waiting).with_context(|| cannot(id))
}

/// The same, beside other work: the bus must be read on meanwhile.
pub(super) async fn lock_vm_soon(id: &VmId, doing: Doing) -> anyhow::Result<VmLock> {
    loop {
        if let Some(lock) = try_lock_vm(id, doing)? {
            return Ok(lock);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Takes the lock of a VM, unless somebody has it.
pub fn try_lock_vm(id: &VmId, doing: Doing) -> anyhow::Result<Option<VmLock>> {
    let attempt = attempt(&directory(), id, doing).with_context(|| cannot(id))?;
    Ok(match attempt {
        Attempt::Taken(lock) => Some(lock),
        Attempt::Busy(_) => None,
    })
}

/// Who has the lock of a VM, if somebody has. It makes no file.
pub fn holder(id: &VmId) -> anyhow::Result<Option<Holder>> {
    holder_in(&directory(), id).with_context(|| cannot(id))
}

/// Waits until nobody has the lock of a VM.
pub fn until_free(id: &VmId, waiting: impl FnOnce(&Holder)) -> anyhow::Result<()> {
    let wait = || match open(&path(&directory(), id)) {
        Ok(file) => wait(&file, id, waiting),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) => Err(err),
    };
    wait().with_context(|| cannot(id))
}

/// Removes what runs that were killed have left.
pub(super) fn sweep() -> anyhow::Result<()> {
    let directory = directory();
    sweep_in(&directory)
        .with_context(|| format!("cannot remove what a run that was killed left in {directory}"))
}

fn sweep_in(directory: &Utf8Path) -> io::Result<()> {
    for name in files::names(directory)? {
        let path = directory.join(name);
        match open(&path) {
            // While it is held here: whoever is about to take it sees then that it is no lock any more.
            Ok(file) => match file.try_lock() {
                Ok(()) => files::remove(&path)?,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(err)) => return Err(err),
            },
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => return Err(err),
        }
    }
    Ok(())
}

fn directory() -> Utf8PathBuf {
    Utf8Path::new(RUNTIME_ROOT).join("locks")
}

fn path(directory: &Utf8Path, id: &VmId) -> Utf8PathBuf {
    directory.join(id.as_str())
}

fn cannot(id: &VmId) -> String {
    let path = path(&directory(), id);
    format!("cannot take the lock of VM {id}, {path}")
}

enum Attempt {
    Taken(VmLock),
    Busy(File),
}

fn take_in(
    directory: &Utf8Path,
    id: &VmId,
    doing: Doing,
    waiting: impl FnOnce(&Holder),
) -> io::Result<VmLock> {
    let mut waiting = Some(waiting);
    loop {
        match attempt(directory, id, doing)? {
            Attempt::Taken(lock) => return Ok(lock),
            Attempt::Busy(file) => wait(&file, id, |holder| {
                if let Some(waiting) = waiting.take() {
                    waiting(holder);
                }
            })?,
        }
    }
}

fn attempt(directory: &Utf8Path, id: &VmId, doing: Doing) -> io::Result<Attempt> {
    let path = path(directory, id);
    loop {
        let made = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let file = match made {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                files::ensure_directory(directory, 0o700)?;
                continue;
            }
            made => made?,
        };
        match file.try_lock() {
            Ok(()) if is_at(&file, &path)? => {
                let lock = VmLock { file, path };
                lock.note(doing)?;
                return Ok(Attempt::Taken(lock));
            }
            // Whoever had it has removed it.
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Attempt::Busy(file)),
            Err(TryLockError::Error(err)) => return Err(err),
        }
    }
}

fn open(path: &Utf8Path) -> io::Result<File> {
    File::options().read(true).write(true).open(path)
}

fn is_at(file: &File, path: &Utf8Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(there) => Ok(there.ino() == file.metadata()?.ino()),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(err) => Err(err),
    }
}

impl VmLock {
    /// Notes who has it, for those who wait.
    fn note(&self, doing: Doing) -> io::Result<()> {
        let mut file = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{} {}", std::process::id(), doing.verb())
    }
}

/// Waits until nobody has the lock of this file.
fn wait(file: &File, id: &VmId, waiting: impl FnOnce(&Holder)) -> io::Result<()> {
    let end = std::time::Instant::now() + MOMENT;
    loop {
        match file.try_lock() {
            Ok(()) => return file.unlock(),
            Err(TryLockError::Error(err)) => return Err(err),
            Err(TryLockError::WouldBlock) if std::time::Instant::now() < end => {
                std::thread::sleep(INTERVAL);
            }
            Err(TryLockError::WouldBlock) => break,
        }
    }
    waiting(&read(file, id)?);
    file.lock()?;
    file.unlock()
}

fn holder_in(directory: &Utf8Path, id: &VmId) -> io::Result<Option<Holder>> {
    let file = match open(&path(directory, id)) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match file.try_lock() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => read(&file, id).map(Some),
        Err(TryLockError::Error(err)) => Err(err),
    }
}

fn read(mut file: &File, id: &VmId) -> io::Result<Holder> {
    let mut noted = String::new();
    file.rewind()?;
    file.take(40).read_to_string(&mut noted)?;
    Ok(Holder(match noted.trim_end().split_once(' ') {
        Some((pid, verb)) => format!("nkudo {verb} of {id} (PID {pid})"),
        // It has it, and has not noted that yet.
        None => format!("another nkudo, which is at {id},"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting() -> (tempfile::TempDir, Utf8PathBuf, VmId) {
        let keep = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(keep.path().to_owned()).unwrap();
        (keep, path.join("locks"), "web".parse().unwrap())
    }

    fn take(directory: &Utf8Path, id: &VmId, doing: Doing) -> VmLock {
        take_in(directory, id, doing, |holder| panic!("waits for {holder}")).unwrap()
    }

    #[test]
    fn of_two_one_waits_and_is_told_for_whom() {
        let (_keep, directory, web) = setting();
        assert_eq!(holder_in(&directory, &web).unwrap(), None);
        assert!(!directory.exists(), "a question makes no file");
        let first = take(&directory, &web, Doing::Snapshot);
        let said = format!("nkudo snapshot of web (PID {})", std::process::id());
        let holder = holder_in(&directory, &web).unwrap().unwrap();
        assert_eq!(holder.to_string(), said);
        // Another VM's is another.
        take(&directory, &"db".parse().unwrap(), Doing::Start);
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| {
                take_in(&directory, &web, Doing::Stop, |holder| {
                    tell.send(holder.to_string()).unwrap();
                })
            });
            assert_eq!(told.recv().unwrap(), said);
            drop(first);
            let second = second.join().unwrap().unwrap();
            let holder = holder_in(&directory, &web).unwrap().unwrap();
            assert!(holder.to_string().starts_with("nkudo stop of web"));
            drop(second);
        });
        assert_eq!(holder_in(&directory, &web).unwrap(), None);
    }

    #[test]
    fn who_waited_has_the_lock_that_everybody_finds() {
        let (_keep, directory, web) = setting();
        let first = take(&directory, &web, Doing::Start);
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let second =
                scope.spawn(|| take_in(&directory, &web, Doing::Stop, |_| tell.send(()).unwrap()));
            told.recv().unwrap();
            // It removes the file, which the second has opened.
            drop(first);
            let second = second.join().unwrap().unwrap();
            assert!(holder_in(&directory, &web).unwrap().is_some());
            drop(second);
        });
        assert_eq!(files::names(&directory).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_a_killed_run_has_left_is_nobodys() {
        let (_keep, directory, web) = setting();
        files::ensure_directory(&directory, 0o700).unwrap();
        fs::write(path(&directory, &web), "1 snapshot\n").unwrap();
        assert_eq!(holder_in(&directory, &web).unwrap(), None);
        take(&directory, &web, Doing::Start);
        fs::write(path(&directory, &web), "1 snapshot\n").unwrap();
        let db = "db".parse().unwrap();
        let _held = take(&directory, &db, Doing::Start);
        sweep_in(&directory).unwrap();
        assert_eq!(files::names(&directory).unwrap(), ["db"]);
        assert!(holder_in(&directory, &db).unwrap().is_some());
    }
}
