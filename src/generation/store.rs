//! Generations on disk: `<state-dir>/generations/<number>/`, and `<state-dir>/current`.
//!
//! A generation is written beside its place and renamed to it, so one that is there is whole.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};

use super::{GcRoots, Generation, Manifest, Record, Rendering, Unneeded, paths, paths_of_disk};
use crate::disk::DiskRecord;
use crate::document::to_json;
use crate::files;

/// The generation that the host was switched to last; neither before the first switch.
#[derive(Debug, Default)]
pub struct Current {
    pub readable: Option<(u64, Manifest)>,
    pub unreadable: Option<Unreadable>,
}

/// The current generation, where it cannot be read.
#[derive(Debug)]
pub struct Unreadable {
    pub number: u64,
    pub why: StoreError,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot {doing} {path}")]
    Io {
        doing: &'static str,
        path: Utf8PathBuf,
        source: io::Error,
    },
    #[error(
        "there is no generation {number} in {directory}; `nkudo generations` lists those that there are"
    )]
    Missing { number: u64, directory: Utf8PathBuf },
    #[error(
        "cannot read {path}: it is damaged, or of a nkudo that is newer or much older; \
         `nkudo render` makes a generation anew, and `nkudo switch` switches to it"
    )]
    Manifest {
        path: Utf8PathBuf,
        source: serde_json::Error,
    },
    #[error("cannot write the generation as JSON")]
    Serialise(#[from] serde_json::Error),
}

/// What became of a generation that was to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    New(u64),
    /// The newest one is the same.
    Already(u64),
}

impl Stored {
    pub fn number(self) -> u64 {
        match self {
            Self::New(number) | Self::Already(number) => number,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Store {
    state_dir: Utf8PathBuf,
}

/// Begins the name of a generation that is being written.
const UNFINISHED: &str = ".new-";
/// Begins the name of a generation that is being removed.
const REMOVED: &str = ".old-";
const RECORD: &str = "rendered.json";
/// Beside the generations' numbers, in `gcroots`.
const DISKS: &str = "disks";

impl Store {
    pub fn new(state_dir: &Utf8Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
        }
    }

    pub fn state_dir(&self) -> &Utf8Path {
        &self.state_dir
    }

    pub fn directory(&self, number: u64) -> Utf8PathBuf {
        self.generations().join(number.to_string())
    }

    fn generations(&self) -> Utf8PathBuf {
        self.state_dir.join("generations")
    }

    fn current_link(&self) -> Utf8PathBuf {
        self.state_dir.join("current")
    }

    /// The numbers that are there, ascending.
    pub fn numbers(&self) -> Result<Vec<u64>, StoreError> {
        let directory = self.generations();
        let names = files::names(&directory).map_err(failed("list", &directory))?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    pub fn newest(&self) -> Result<Option<u64>, StoreError> {
        Ok(self.numbers()?.last().copied())
    }

    pub fn manifest(&self, number: u64) -> Result<Manifest, StoreError> {
        let path = self.directory(number).join("manifest.json");
        let json = files::read(&path).map_err(failed("read", &path))?;
        let json = json.ok_or_else(|| StoreError::Missing {
            number,
            directory: self.generations(),
        })?;
        Manifest::from_json(&json).map_err(|source| StoreError::Manifest { path, source })
    }

    /// When, by whom and why a generation was rendered; `None` where nobody noted that readably.
    pub fn record(&self, number: u64) -> Result<Option<Record>, StoreError> {
        let path = self.directory(number).join(RECORD);
        let json = files::read(&path).map_err(failed("read", &path))?;
        Ok(json.and_then(|json| serde_json::from_slice(&json).ok()))
    }

    /// Removes a generation. It is gone at once, though its files may take longer.
    pub fn remove(&self, number: u64) -> Result<(), StoreError> {
        let _lock = lock(&self.state_dir.join(".lock"))?;
        // Until now the generation may have been what kept a disk's image.
        self.keep_store_paths_of_disks()?;
        let path = self.directory(number);
        let aside = self.generations().join(format!("{REMOVED}{number}"));
        fs::rename(&path, &aside).map_err(failed("remove", &path))?;
        let parent = self.generations();
        files::sync_directory(&parent).map_err(failed("sync", &parent))?;
        self.remove_unfinished()
    }

    /// Keeps Nix's garbage collector from what the generation's VMs need, where there is Nix.
    pub fn keep_store_paths(&self, number: u64, manifest: &Manifest) -> Result<(), StoreError> {
        let links = self.gc_roots(&number.to_string());
        let paths = paths(&(&manifest.host, &manifest.programs))?;
        let keep = || match GcRoots::new(&links)? {
            Some(roots) => roots.keep(&paths, Unneeded::Keep),
            None => Ok(()),
        };
        keep().map_err(failed(
            "register as roots of Nix's garbage collector",
            &links,
        ))
    }

    /// The same for disks that were made from images, which outlive the generations that they were made by.
    fn keep_store_paths_of_disks(&self) -> Result<(), StoreError> {
        let links = self.gc_roots(DISKS);
        let Some(roots) = GcRoots::new(&links).map_err(failed("register the roots in", &links))?
        else {
            return Ok(());
        };
        let mut needed = BTreeSet::new();
        let mut unneeded = Unneeded::Remove;
        let vms = self.state_dir.join("vms");
        for vm in files::names(&vms).map_err(failed("list", &vms))? {
            let directory = vms.join(vm);
            let names = match files::names(&directory) {
                Err(err) if err.kind() == io::ErrorKind::NotADirectory => continue,
                names => names.map_err(failed("list", &directory))?,
            };
            for name in names {
                if Utf8Path::new(&name).extension() != Some("json") {
                    continue;
                }
                let path = directory.join(name);
                let json = files::read(&path).map_err(failed("read", &path))?;
                match DiskRecord::from_json(&json.unwrap_or_default()) {
                    Ok(record) => needed.extend(paths_of_disk(&record)),
                    // A newer nkudo's: what it needs is not known, and so nothing is let go of.
                    Err(_) => unneeded = Unneeded::Keep,
                }
            }
        }
        roots
            .keep(&needed, unneeded)
            .map_err(failed("register the roots in", &links))
    }

    fn gc_roots(&self, name: &str) -> Utf8PathBuf {
        self.state_dir.join("gcroots").join(name)
    }

    /// Lets go of what only generations that are not there any more needed.
    fn remove_stale_gc_roots(&self) -> Result<(), StoreError> {
        let numbers = self.numbers()?;
        let directory = self.gc_roots("");
        for name in files::names(&directory).map_err(failed("list", &directory))? {
            if name == DISKS || name.parse().is_ok_and(|number| numbers.contains(&number)) {
                continue;
            }
            let links = self.gc_roots(&name);
            let remove = || GcRoots::new(&links)?.map_or(Ok(()), |roots| roots.remove());
            remove().map_err(failed("remove the links", &links))?;
        }
        Ok(())
    }

    /// The generation that was switched to last.
    pub fn current(&self) -> Result<Option<u64>, StoreError> {
        let link = self.current_link();
        let target = files::link_target(&link).map_err(failed("read the link", &link))?;
        Ok(target.and_then(|target| target.file_name()?.parse().ok()))
    }

    /// The generation that was switched to last, with its number; `None` before the first switch.
    pub fn current_manifest(&self) -> Result<Option<(u64, Manifest)>, StoreError> {
        self.current()?
            .map(|number| Ok((number, self.manifest(number)?)))
            .transpose()
    }

    /// The same for whoever shows what runs: a generation that cannot be read keeps nobody from that.
    pub fn current_if_readable(&self) -> Result<Current, StoreError> {
        let mut current = Current::default();
        if let Some(number) = self.current()? {
            match self.manifest(number) {
                Ok(manifest) => current.readable = Some((number, manifest)),
                Err(why) => current.unreadable = Some(Unreadable { number, why }),
            }
        }
        Ok(current)
    }

    /// Points `current` at a generation. Done last, when the host is as it says.
    pub fn set_current(&self, number: u64) -> Result<(), StoreError> {
        files::sweep(&self.state_dir).map_err(failed("clean", &self.state_dir))?;
        let link = self.current_link();
        files::replace_link(&link, &format!("generations/{number}"))
            .map_err(failed("write the link", &link))
    }

    /// Stores the generation, unless the newest one is the same.
    pub fn save(&self, rendering: Rendering<'_>, record: &Record) -> Result<Stored, StoreError> {
        let directory = self.generations();
        files::ensure_shared_directory(&self.state_dir, 0o755)
            .map_err(failed("make", &self.state_dir))?;
        // A seed can hold secrets.
        files::ensure_directory(&directory, 0o700).map_err(failed("make", &directory))?;
        let _lock = lock(&self.state_dir.join(".lock"))?;
        self.remove_unfinished()?;
        self.keep_store_paths_of_disks()?;
        let numbers = self.numbers()?;
        let number = numbers.last().map_or(1, |newest| newest + 1);
        let mut generation = rendering.generation(number)?;
        if let Some(newest) = numbers.last()
            // One that cannot be read is not the same.
            && let Ok(manifest) = self.manifest(*newest)
            && manifest.id == generation.manifest.id
        {
            self.keep_store_paths(*newest, &manifest)?;
            return Ok(Stored::Already(*newest));
        }
        let record = to_json(record)?;
        generation.files.insert(RECORD.into(), record);
        // Before it is there, so that no collector comes between.
        self.keep_store_paths(number, &generation.manifest)?;
        self.write(&generation, number)?;
        Ok(Stored::New(number))
    }

    fn write(&self, generation: &Generation, number: u64) -> Result<(), StoreError> {
        let parent = self.generations();
        let place = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempdir_in(&parent)
            .map_err(failed("make a directory in", &parent))?;
        let unfinished = Utf8PathBuf::from_path_buf(place.path().to_owned())
            .map_err(|path| io::Error::other(format!("{} is not UTF-8", path.display())))
            .map_err(failed("make a directory in", &parent))?;
        // Modes of their own: the umask may cut more, or less.
        fs::set_permissions(&unfinished, Permissions::from_mode(0o700))
            .map_err(failed("write", &unfinished))?;
        // The empty one is the generation's own.
        let directories: BTreeSet<&Utf8Path> = generation
            .files
            .keys()
            .flat_map(|path| path.ancestors().skip(1))
            .collect();
        for directory in &directories {
            let directory = unfinished.join(directory);
            files::ensure_directory(&directory, 0o700).map_err(failed("make", &directory))?;
        }
        // Nobody looks at any of them before all are there, so none needs to be renamed into place.
        for (path, bytes) in &generation.files {
            let file = unfinished.join(path);
            files::create(&file, bytes, 0o600).map_err(failed("write", &file))?;
        }
        for directory in directories {
            let directory = unfinished.join(directory);
            files::sync_directory(&directory).map_err(failed("sync", &directory))?;
        }
        let place = self.directory(number);
        fs::rename(&unfinished, &place).map_err(failed("write", &place))?;
        files::sync_directory(&parent).map_err(failed("sync", &parent))
    }

    /// What a run that was killed left behind. Only while the lock is held.
    fn remove_unfinished(&self) -> Result<(), StoreError> {
        let directory = self.generations();
        let names = files::names(&directory).map_err(failed("list", &directory))?;
        for name in names
            .iter()
            .filter(|name| name.starts_with(UNFINISHED) || name.starts_with(REMOVED))
        {
            let path = directory.join(name);
            fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
        }
        self.remove_stale_gc_roots()
    }
}

/// Takes the lock, waiting for whoever has it: rendering takes milliseconds.
fn lock(path: &Utf8Path) -> Result<File, StoreError> {
    let open = || File::options().create(true).append(true).open(path);
    let file = open().map_err(failed("open", path))?;
    file.lock().map_err(failed("lock", path))?;
    Ok(file)
}

fn failed<'a>(
    doing: &'static str,
    path: &'a Utf8Path,
) -> impl FnOnce(io::Error) -> StoreError + use<'a> {
    move |source| StoreError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}
