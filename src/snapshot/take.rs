//! Takes a snapshot.
//!
//! All that takes long and can be done before or after is done while the guest runs. While it does not, the VMM writes
//! memory and devices into a directory that is bound into its sandbox for that, and the disks are copied.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::OFlags;
use serde::Deserialize;
use tokio::time::Instant;

use super::copies::{self, Copying};
use super::guard::Guard;
use super::kept::{remove_tree, sweep};
use super::{DISKS, DiskCopy, GC_ROOTS, MANIFEST, Manifest, NicId, SEED, Unchanged, VMM};
use crate::booted::Booted;
use crate::connections::Connections;
use crate::disk::{self, Copied};
use crate::document::FormatVersion;
use crate::files::{self, UNFINISHED};
use crate::generation::{GcRoots, Unneeded, paths};
use crate::host::{AbsolutePath, DiskAccess, Size, SnapshotName};
use crate::interruption::effect;
use crate::observe::paused_directory;
use crate::seed;
use crate::steps;
use crate::unit::{root_directory, runtime_directory, vm_unit_name};
use crate::vmm::{VmState, Vmm, VmmError};

/// Where the VMM finds the directory that it writes to.
const PLACE: &str = "/snapshot";
/// What it writes there, and the most that any but the memory may hold.
const MEMORY: &str = "memory-ranges";
const CONFIG: &str = "config.json";
const WRITTEN: [&str; 3] = [CONFIG, MEMORY, "state.json"];
const LARGEST: u64 = 64 << 20;
/// So many bytes of memory are written in a second at least.
const SLOWEST: u64 = 10 << 20;

/// What is to be taken, and of what.
#[derive(Debug)]
pub struct Taking<'a> {
    pub connections: &'a Connections,
    pub state_dir: &'a AbsolutePath,
    pub name: &'a SnapshotName,
    pub booted: &'a Booted,
}

/// What came of it.
#[derive(Debug)]
pub struct Taken {
    pub path: Utf8PathBuf,
    /// How long the guest stood still; `None` where it did before, and still does.
    pub paused: Option<Duration>,
    pub memory: u64,
    /// Bytes of disks that were copied, where they could not share blocks.
    pub copied: u64,
}

/// What there is while the guest stands still.
struct Still {
    disks: Vec<Copying>,
    copied: u64,
}

impl Taking<'_> {
    pub async fn take(&self) -> anyhow::Result<Taken> {
        let id = &self.booted.id;
        let vmm = Vmm::of(id);
        let info = match vmm.info().await {
            Err(VmmError::Absent { .. }) => bail!(
                "it does not run, so that there is no memory to be taken\n\
                 hint: `nkudo status {id}` says why"
            ),
            info => info.context("cannot ask its VMM")?,
        };
        let was = info.state;
        if !matches!(was, VmState::Running | VmState::Paused) {
            bail!("its VMM says that it is `{}`", was.word());
        }
        let memory = info.config.memory.total();
        let directory = super::directory(self.state_dir, id);
        let path = directory.join(self.name.as_str());
        let new = directory.join(format!("{UNFINISHED}{}", self.name));
        self.clear(&directory)?;
        if path.exists() {
            bail!(
                "there is a snapshot {} of it already\nhint: `nkudo purge {id} --snapshot {}` removes it",
                self.name,
                self.name
            );
        }
        let made = async {
            let mut still = self.prepare(&directory, &new, memory)?;
            self.bind(&new).await?;
            let paused = self.hold_still(&vmm, was, memory, &mut still).await?;
            self.unbind()?;
            let manifest = self.finish(&new, &still, memory)?;
            files::create(&new.join(MANIFEST), &manifest.to_json()?, 0o600)?;
            for below in [VMM, DISKS, ""] {
                files::sync_directory(&new.join(below))?;
            }
            effect();
            fs::rename(&new, &path)?;
            effect();
            files::sync_directory(&directory)?;
            Ok(Taken {
                path: path.clone(),
                paused,
                memory,
                copied: still.copied,
            })
        };
        let made: anyhow::Result<Taken> = made.await;
        if made.is_err() {
            self.clear(&directory)?;
        }
        let made = made?;
        self.keep_store_paths(&path)?;
        Ok(made)
    }

    /// Removes what a run that was killed has left.
    fn clear(&self, directory: &Utf8Path) -> anyhow::Result<()> {
        self.unbind()?;
        sweep(directory)?;
        files::remove_if_empty(directory).with_context(|| format!("cannot remove {directory}"))
    }

    /// Makes what is written to, and refuses where that does not fit.
    fn prepare(&self, directory: &Utf8Path, new: &Utf8Path, memory: u64) -> anyhow::Result<Still> {
        let id = &self.booted.id;
        let make = |path: &Utf8Path| {
            files::ensure_directory(path, 0o700).with_context(|| format!("cannot make {path}"))
        };
        let root = super::root(self.state_dir);
        for path in [&root, directory, new, &new.join(VMM), &new.join(DISKS)] {
            make(path)?;
        }
        effect();
        let uid = steps::user(&runtime_directory(id))?;
        let own = new.join(VMM);
        std::os::unix::fs::chown(&own, Some(uid), Some(uid))
            .with_context(|| format!("cannot give {own} to the VM's user"))?;
        let mut disks = Vec::new();
        let mut needed = memory;
        for disk in self.written() {
            let to = new.join(DISKS).join(file_name(disk));
            let copying = Copying::begin(disk.path.as_path(), &to)
                .with_context(|| format!("disk {}", disk.name))?;
            needed = needed.saturating_add(copying.costs()?);
            disks.push(copying);
        }
        let free = copies::free(new)?;
        if needed > free {
            bail!(
                "it takes {}: {} of memory and what its disks hold; {directory} has {} left\n\
                 hint: nothing was changed; free some, or `nkudo purge {id} --snapshot NAME` another one",
                Size::from_bytes(needed.next_multiple_of(1 << 20)),
                Size::from_bytes(memory),
                Size::from_bytes(free & !((1 << 20) - 1)),
            );
        }
        Ok(Still { disks, copied: 0 })
    }

    fn written(&self) -> impl Iterator<Item = &crate::host::Disk> {
        let disks = self.booted.vm.disks.iter();
        disks.filter(|disk| disk.access == DiskAccess::ReadWrite)
    }

    fn mount_point(&self) -> Utf8PathBuf {
        format!("{}{PLACE}", root_directory(&self.booted.id)).into()
    }

    /// Lets the VMM write there.
    async fn bind(&self, new: &Utf8Path) -> anyhow::Result<()> {
        let point = self.mount_point();
        fs::create_dir_all(&point).with_context(|| format!("cannot make {point}"))?;
        effect();
        self.connections
            .manager
            .bind_mount_unit(
                &vm_unit_name(&self.booted.id),
                new.join(VMM).as_str(),
                PLACE,
                false,
                false,
            )
            .await
            .context("systemd does not bind a directory for the snapshot into the VM's sandbox")?;
        effect();
        Ok(())
    }

    /// The opposite: the kernel lets go of what is mounted on a directory elsewhere when it is removed.
    fn unbind(&self) -> anyhow::Result<()> {
        let point = self.mount_point();
        match fs::remove_dir(&point) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                Err(err).with_context(|| format!("cannot remove {point}"))
            }
            _ => Ok(()),
        }
    }

    /// What needs the guest to stand still. It goes on afterwards, however this ends.
    async fn hold_still(
        &self,
        vmm: &Vmm,
        was: VmState,
        memory: u64,
        still: &mut Still,
    ) -> anyhow::Result<Option<Duration>> {
        let id = &self.booted.id;
        if was == VmState::Paused {
            self.write(vmm, memory, still).await?;
            still_paused(vmm.state().await)?;
            return Ok(None);
        }
        let marker = paused_directory().join(id.as_str());
        files::ensure_directory(&paused_directory(), 0o700)
            .and_then(|()| files::replace(&marker, b"", 0o600))
            .with_context(|| format!("cannot write {marker}"))?;
        let guard = Guard::begin(id)?;
        let begun = Instant::now();
        let paused = vmm.pause().await.context("cannot pause it");
        effect();
        let written = match paused {
            Ok(()) => self.write(vmm, memory, still).await,
            Err(err) => Err(err),
        };
        let state = vmm.state().await;
        let runs = matches!(state, Ok(VmState::Running));
        // A guest that went on has written to disks that were copied after its memory.
        let written = written.and_then(|()| still_paused(state));
        // Also where the pause failed: its answer may have been what failed.
        let resumed = if runs { Ok(()) } else { vmm.resume().await };
        let paused = begun.elapsed();
        effect();
        match (written, resumed) {
            (Ok(()), Ok(())) => {}
            (Err(err), Ok(())) => {
                guard.end()?;
                files::remove(&marker)?;
                return Err(err.context("the guest goes on, and there is no snapshot"));
            }
            (Ok(()), Err(err)) => {
                return Err(anyhow::Error::from(err).context(format!(
                    "the guest does not go on; `nkudo resume {id}` or `nkudo restart {id}`"
                )));
            }
            (Err(err), Err(VmmError::Absent { .. })) => {
                guard.end()?;
                files::remove(&marker)?;
                return Err(err.context(format!(
                    "its VMM ended, and there is no snapshot; `nkudo status {id}` says what became of it"
                )));
            }
            (Err(err), Err(other)) => {
                return Err(err.context(format!(
                    "the guest does not go on ({other}); `nkudo resume {id}` or `nkudo restart {id}`"
                )));
            }
        }
        guard.end()?;
        files::remove(&marker).with_context(|| format!("cannot remove {marker}"))?;
        Ok(Some(paused))
    }

    async fn write(&self, vmm: &Vmm, memory: u64, still: &mut Still) -> anyhow::Result<()> {
        let limit = Duration::from_secs(60 + memory / SLOWEST);
        vmm.snapshot(&format!("file://{PLACE}"), limit)
            .await
            .context("its VMM does not write its memory and devices")?;
        effect();
        for disk in &still.disks {
            if let Copied::Bytes(bytes) = disk.copy()? {
                still.copied += bytes;
            }
            effect();
        }
        Ok(())
    }

    /// What the guest need not wait for: what was written lasts, and belongs to root.
    fn finish(&self, new: &Utf8Path, still: &Still, memory: u64) -> anyhow::Result<Manifest> {
        let vm = &self.booted.vm;
        let mut disks = Vec::new();
        for (disk, copying) in self.written().zip(&still.disks) {
            disks.push(DiskCopy {
                name: disk.name.clone(),
                file: file_name(disk),
                length: copying.finish()?,
            });
            let record = disk::record_name(&disk.name);
            if disk.origin.is_made() {
                let from = disk.path.as_path().with_file_name(&record);
                copies::copy_small(&from, &new.join(DISKS).join(&record))?;
            }
        }
        let seed = match seed::disk(&self.booted.id, vm) {
            Some(disk) => copies::copy_small(disk.path.as_path(), &new.join(SEED))?,
            None => None,
        };
        let read = vm
            .disks
            .iter()
            .filter(|disk| disk.access == DiskAccess::ReadOnly);
        let below = vm.disks.iter().filter_map(|disk| disk.backing.as_ref());
        let mut unchanged = Vec::new();
        for path in read.map(|disk| &disk.path).chain(below) {
            let file =
                fs::metadata(path.as_path()).with_context(|| format!("cannot look at {path}"))?;
            unchanged.push(Unchanged {
                path: path.clone(),
                length: file.len(),
                modified: disk::modified(&file),
            });
        }
        let written = claim(&new.join(VMM))?;
        Ok(Manifest {
            version: FormatVersion,
            id: self.booted.id.clone(),
            name: self.name.clone(),
            taken: now(),
            booted: self.booted.clone(),
            nics: nics(&new.join(VMM).join(CONFIG), vm.nics.len())?,
            memory,
            vmm: written,
            disks,
            seed,
            unchanged,
        })
    }

    fn keep_store_paths(&self, path: &Utf8Path) -> anyhow::Result<()> {
        let needed = paths(&self.booted.vm)?;
        let links = path.join(GC_ROOTS);
        let keep = || match GcRoots::new(&links)? {
            Some(roots) => roots.keep(&needed, Unneeded::Remove),
            None => Ok(()),
        };
        keep()
            .with_context(|| format!("cannot register {links} as roots of Nix's garbage collector"))
    }
}

fn file_name(disk: &crate::host::Disk) -> String {
    disk::file_name(&disk.name, disk.format)
}

/// Refuses a guest that has not stood still to the end: its power button and a restart of its VMM let it go on, whoever
/// paused it.
fn still_paused(state: Result<VmState, VmmError>) -> anyhow::Result<()> {
    match state {
        Ok(VmState::Paused) => Ok(()),
        Ok(_) => bail!("somebody let the guest go on before its disks were copied"),
        Err(err) => Err(err).context("its VMM does not say whether the guest stood still"),
    }
}

/// Takes what the VMM wrote away from it. It is a stranger's: no link is followed, and what is not
/// expected is refused.
fn claim(directory: &Utf8Path) -> anyhow::Result<BTreeMap<String, u64>> {
    let names = files::names(directory).with_context(|| format!("cannot list {directory}"))?;
    std::os::unix::fs::chown(directory, Some(0), Some(0))?;
    // The VM's user reads it after a restore, when it is bound into the sandbox; nobody else gets there.
    fs::set_permissions(directory, Permissions::from_mode(0o755))?;
    let mut written = BTreeMap::new();
    for name in WRITTEN {
        let path = directory.join(name);
        let file = File::options()
            .read(true)
            .custom_flags(i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits())?)
            .open(&path)
            .with_context(|| format!("the VMM did not write {name}"))?;
        let there = file.metadata()?;
        if !there.is_file() || there.nlink() != 1 || (name != MEMORY && there.len() > LARGEST) {
            bail!("what the VMM wrote as {name} is no file of a snapshot");
        }
        std::os::unix::fs::fchown(&file, Some(0), Some(0))?;
        file.set_permissions(Permissions::from_mode(0o444))?;
        file.sync_all()
            .with_context(|| format!("cannot write {path}"))?;
        written.insert(name.to_owned(), there.len());
    }
    for other in names
        .iter()
        .filter(|name| !WRITTEN.contains(&name.as_str()))
    {
        remove_tree(&directory.join(other))?;
    }
    Ok(written)
}

/// What the VMM calls the NICs.
fn nics(config: &Utf8Path, wanted: usize) -> anyhow::Result<Vec<NicId>> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        net: Option<Vec<Nic>>,
    }
    #[derive(Deserialize)]
    struct Nic {
        id: NicId,
    }
    let json = fs::read(config).with_context(|| format!("cannot read {config}"))?;
    let config: Config =
        serde_json::from_slice(&json).with_context(|| format!("cannot make out {config}"))?;
    let nics: Vec<NicId> = config
        .net
        .unwrap_or_default()
        .into_iter()
        .map(|nic| nic.id)
        .collect();
    if nics.len() != wanted {
        bail!("the VMM has {} NICs, and the VM {wanted}", nics.len());
    }
    Ok(nics)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}
