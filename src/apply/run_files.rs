//! What nkudo keeps in /run/nkudo: the lock, booted specifications, root directories, held VMs.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};

use super::vm_lock::{self, Doing, lock_vm};
use super::{companion, seed};
use crate::booted::Booted;
use crate::files;
use crate::generation::{GcRoots, Unneeded, paths};
use crate::host::{LinkName, Vm, VmId};
use crate::network::{NETWORK_MANAGER_DIR, NETWORKD_DIR};
use crate::observe::{
    HeldBy, held_directory, not_ready_directory, obstacles_directory, stopping_directory,
    uplinks_directory,
};
use crate::pci::records_directory;
use crate::unit::{
    Programs, RUNTIME_ROOT, TRANSIENT, companions_directory, root_directories, root_directory,
};

/// The mode of booted specifications.
const BOOTED_MODE: u32 = 0o644;

/// Held while this lives; the kernel lets go of it when the process ends, however that happens.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "it is held, not read")] File);

/// Takes the lock that lets one nkudo at a time change the host. `waiting` is called with the PID
/// of whoever has it, before waiting for that.
pub fn lock(waiting: impl FnOnce(&str)) -> anyhow::Result<Lock> {
    let take = || -> io::Result<Lock> {
        let file = lock_file()?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                (&file).take(20).read_to_string(&mut holder)?;
                waiting(holder.trim());
                file.lock()?;
            }
            Err(TryLockError::Error(err)) => return Err(err),
        }
        taken(file)
    };
    take().with_context(cannot_lock)
}

/// The same, unless somebody has it.
pub fn try_lock() -> anyhow::Result<Option<Lock>> {
    let take = || -> io::Result<Option<Lock>> {
        let file = lock_file()?;
        match file.try_lock() {
            Ok(()) => taken(file).map(Some),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(err)) => Err(err),
        }
    };
    take().with_context(cannot_lock)
}

fn lock_path() -> Utf8PathBuf {
    Utf8Path::new(RUNTIME_ROOT).join("lock")
}

fn cannot_lock() -> String {
    let path = lock_path();
    format!("cannot take the lock {path}")
}

fn lock_file() -> io::Result<File> {
    files::ensure_directory(Utf8Path::new(RUNTIME_ROOT), 0o755)?;
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(lock_path())
}

/// Notes who has it.
fn taken(mut file: File) -> io::Result<Lock> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Lock(file))
}

/// To be called by whoever has the lock: what others have not finished writing is swept away.
pub(super) fn ensure_directories() -> anyhow::Result<()> {
    let root = Utf8Path::new(RUNTIME_ROOT);
    ensure(root, 0o755)?;
    // The steps of VMs' units read them, as the VMs' users. They say no more than the units do.
    let booted = Booted::directory();
    ensure(&booted, 0o755)?;
    ensure(&crate::seed::directory_of_volumes(), 0o700)?;
    ensure(&companions_directory(), 0o700)?;
    ensure(&root_directories(), 0o755)?;
    ensure(&held_directory(), 0o755)?;
    ensure(&stopping_directory(), 0o755)?;
    ensure(&obstacles_directory(), 0o755)?;
    let written = [
        root.to_owned(),
        booted.clone(),
        held_directory(),
        stopping_directory(),
        not_ready_directory(),
        obstacles_directory(),
        records_directory(),
        NETWORKD_DIR.into(),
        Utf8Path::new(NETWORK_MANAGER_DIR).join("conf.d"),
        TRANSIENT.into(),
        "/run/sysctl.d".into(),
        "/run/tmpfiles.d".into(),
    ];
    for directory in written {
        files::sweep(&directory).with_context(|| {
            format!("cannot remove what a run that was killed left in {directory}")
        })?;
    }
    vm_lock::sweep()?;
    // An nkudo before this one wrote them for root alone, and a VM that runs may restart at any time.
    for name in files::names(&booted).with_context(|| format!("cannot list {booted}"))? {
        let path = booted.join(name);
        files::ensure_mode(&path, BOOTED_MODE)
            .with_context(|| format!("cannot change the mode of {path}"))?;
    }
    Ok(())
}

fn ensure(path: &Utf8Path, mode: u32) -> anyhow::Result<()> {
    files::ensure_directory(path, mode).with_context(|| format!("cannot make {path}"))
}

/// The directory that becomes the VM's root directory. systemd makes the mount points in it, and
/// would make `root` in it with mode 0750, which the VM's user could not pass.
pub(super) fn ensure_root(id: &VmId) -> anyhow::Result<()> {
    let root = root_directory(id);
    files::ensure_directory(&root, 0o755)
        .and_then(|()| files::ensure_directory(&root.join("root"), 0o755))
        .with_context(|| format!("cannot make the VM's root directory {root}"))
}

/// Makes the place where a file of the host is bound into the root directory of a VM that runs: it
/// is read-only to systemd by then, and to the VM.
pub(super) fn ensure_mount_point(id: &VmId, path: &Utf8Path) -> anyhow::Result<()> {
    let place = Utf8PathBuf::from(format!("{}{path}", root_directory(id)));
    let make = || -> io::Result<()> {
        if let Some(parent) = place.parent() {
            std::fs::create_dir_all(parent)?;
        }
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&place)
            .map(|_| ())
    };
    make().with_context(|| format!("cannot make {place}"))
}

pub(super) fn write_booted(booted: &Booted) -> anyhow::Result<()> {
    let path = Booted::path(&booted.id);
    files::replace(&path, &booted.to_json()?, BOOTED_MODE)
        .with_context(|| format!("cannot write the VM's specification {path}"))
}

/// Keeps Nix's garbage collector from what the VM runs from, its next restart by systemd included, whatever
/// becomes of the generation.
pub(super) fn keep_store_paths(
    id: &VmId,
    vm: &Vm,
    programs: &Programs,
    unneeded: Unneeded,
) -> anyhow::Result<()> {
    let links = gc_roots_directory(id);
    let paths = paths(&(vm, programs))?;
    let keep = || match GcRoots::new(&links)? {
        Some(roots) => roots.keep(&paths, unneeded),
        None => Ok(()),
    };
    keep().with_context(|| format!("cannot register {links} as roots of Nix's garbage collector"))
}

fn gc_roots_directory(id: &VmId) -> Utf8PathBuf {
    Utf8Path::new(RUNTIME_ROOT)
        .join("gcroots")
        .join(id.as_str())
}

/// Removes all of a VM that does not run and is in no file any more.
pub(super) fn remove(id: &VmId) -> anyhow::Result<()> {
    let root = root_directory(id);
    files::remove_empty_tree(&root).with_context(|| format!("cannot remove {root}"))?;
    let booted = Booted::path(id);
    files::remove(&booted).with_context(|| format!("cannot remove {booted}"))?;
    seed::remove(id)?;
    companion::remove(id)?;
    forget_not_ready(id)?;
    let links = gc_roots_directory(id);
    let let_go = || GcRoots::new(&links)?.map_or(Ok(()), |roots| roots.remove());
    let_go().with_context(|| format!("cannot remove the links {links}"))?;
    release(id)
}

/// Notes that it is nkudo which stops this run of the VM (`InvocationID`, systemd.exec(5)): a stop by
/// anybody else holds it.
pub(super) fn begin_stop(id: &VmId, invocation: &str) -> anyhow::Result<()> {
    note(&stopping_directory(), id, invocation.as_bytes())
}

/// Also without the lock: a switch that begins at this moment may sweep away what is half written.
fn note(directory: &Utf8Path, id: &VmId, bytes: &[u8]) -> anyhow::Result<()> {
    ensure(directory, 0o755)?;
    let path = directory.join(id.as_str());
    let write = || files::replace(&path, bytes, 0o644);
    match write() {
        Err(err) if err.kind() == io::ErrorKind::NotFound => write(),
        written => written,
    }
    .with_context(|| format!("cannot write {path}"))
}

/// The opposite of `begin_stop`.
pub(super) fn end_stop(id: &VmId) -> anyhow::Result<()> {
    let path = stopping_directory().join(id.as_str());
    files::remove(&path).with_context(|| format!("cannot remove {path}"))
}

/// Notes that this run of the VM was not ready in time, and is stopped for that.
pub(super) fn note_not_ready(id: &VmId, invocation: &str) -> anyhow::Result<()> {
    note(&not_ready_directory(), id, invocation.as_bytes())
}

/// The opposite of `note_not_ready`.
pub(super) fn forget_not_ready(id: &VmId) -> anyhow::Result<()> {
    let path = not_ready_directory().join(id.as_str());
    files::remove(&path).with_context(|| format!("cannot remove {path}"))
}

/// No stop of nkudo's is under way: what a run that was killed noted goes.
pub(super) fn end_stops() -> anyhow::Result<()> {
    let directory = stopping_directory();
    let names = files::names(&directory).with_context(|| format!("cannot list {directory}"))?;
    for name in names {
        let path = directory.join(name);
        files::remove(&path).with_context(|| format!("cannot remove {path}"))?;
    }
    Ok(())
}

/// Notes that the VM is to be left alone by switches until it is started. Whoever has the VM's lock meanwhile knows
/// that no start of it goes unnoticed.
pub fn hold(id: &VmId) -> anyhow::Result<()> {
    note(&held_directory(), id, HeldBy::Nkudo.as_str().as_bytes())
}

/// Notes what stands in the way of a VM, a line each.
pub(super) fn note_obstacles(id: &VmId, obstacles: &[String]) -> anyhow::Result<()> {
    let path = obstacles_directory().join(id.as_str());
    files::replace(&path, obstacles.join("\n").as_bytes(), 0o644)
        .with_context(|| format!("cannot write {path}"))
}

/// Forgets what stood in the way of these VMs.
pub(super) fn forget_obstacles(of: impl Fn(&VmId) -> bool) -> anyhow::Result<()> {
    let directory = obstacles_directory();
    let names = files::names(&directory).with_context(|| format!("cannot list {directory}"))?;
    for name in names {
        if name.parse().is_ok_and(|id| of(&id)) {
            let path = directory.join(name);
            files::remove(&path).with_context(|| format!("cannot remove {path}"))?;
        }
    }
    Ok(())
}

/// The opposite of `hold`.
pub fn release(id: &VmId) -> anyhow::Result<()> {
    let path = held_directory().join(id.as_str());
    files::remove(&path).with_context(|| format!("cannot remove {path}"))
}

/// Who has stopped the VM since it was started, if somebody has.
pub fn held_by(id: &VmId) -> anyhow::Result<Option<HeldBy>> {
    let path = held_directory().join(id.as_str());
    let noted = files::read(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(noted.map(|bytes| HeldBy::from_bytes(&bytes)))
}

/// One note that holds a VM: a later one is another file.
#[derive(Debug, PartialEq, Eq)]
pub struct Hold(Option<(u64, i64, i64)>);

impl Hold {
    pub fn of(id: &VmId) -> anyhow::Result<Self> {
        let path = held_directory().join(id.as_str());
        match fs::metadata(&path) {
            Ok(file) => Ok(Self(Some((file.ino(), file.ctime(), file.ctime_nsec())))),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Self(None)),
            Err(err) => Err(err).with_context(|| format!("cannot look at {path}")),
        }
    }

    /// Lets go of the VM, unless somebody has stopped it since this was what held it.
    pub fn release(&self, id: &VmId) -> anyhow::Result<()> {
        let _own = lock_vm(id, Doing::Start, |_| ())?;
        let now = Self::of(id)?;
        if now.0.is_some() && now != *self {
            bail!("{id} was stopped by somebody meanwhile, and stays so");
        }
        release(id)
    }
}

/// Notes that nkudo put a link of the host into a bridge.
pub(super) fn note_uplink(link: &LinkName, bridge: &LinkName) -> anyhow::Result<()> {
    let directory = uplinks_directory();
    let path = directory.join(link.as_str());
    files::ensure_directory(&directory, 0o755)
        .and_then(|()| files::replace(&path, bridge.as_str().as_bytes(), 0o644))
        .with_context(|| format!("cannot write {path}"))
}

pub(super) fn forget_uplink(link: &LinkName) -> anyhow::Result<()> {
    let path = uplinks_directory().join(link.as_str());
    files::remove(&path).with_context(|| format!("cannot remove {path}"))
}
