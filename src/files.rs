//! Writing files so that at every moment the old or the new one is there, whole.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};

use crate::interruption::effect;

/// Begins the name of what is being made, wherever it is: what a run that was killed has left is told by it.
pub const UNFINISHED: &str = ".nkudo-";

/// Puts `bytes` at `path` with `mode`: written beside it, synced, renamed over it.
///
/// The directory has to be there.
pub fn replace(path: &Utf8Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let directory = parent(path)?;
    let mut file = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempfile_in(directory)?;
    file.write_all(bytes)?;
    // Not by the creation mode, which the umask cuts.
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    effect();
    file.persist(path).map_err(|err| err.error)?;
    effect();
    sync_directory(directory)
}

/// Makes a file that is not there yet, with `mode`, and syncs it; its directory is left to the caller.
pub fn create(path: &Utf8Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = File::options();
    let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    // The umask may have cut the mode.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

/// Makes `path` a symbolic link to `target`, replacing the link that is there.
pub fn replace_link(path: &Utf8Path, target: &str) -> io::Result<()> {
    let directory = parent(path)?;
    let link = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .make_in(directory, |place| std::os::unix::fs::symlink(target, place))?;
    effect();
    link.persist(path).map_err(|err| err.error)?;
    effect();
    sync_directory(directory)
}

/// Removes a file; one that is not there is as good as removed.
pub fn remove(path: &Utf8Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => {
            effect();
            Ok(())
        }
        err => absent_is_fine(err),
    }
}

/// Removes a directory, unless there is something in it.
pub fn remove_if_empty(directory: &Utf8Path) -> io::Result<()> {
    match fs::remove_dir(directory) {
        Err(err) if err.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => absent_is_fine(other),
    }
}

/// Removes what runs that were killed left of the files that they were replacing. To be called by
/// whoever holds the lock that lets one at a time write there.
pub fn sweep(directory: &Utf8Path) -> io::Result<()> {
    for name in names(directory)? {
        if name.starts_with(UNFINISHED) {
            remove(&directory.join(name))?;
        }
    }
    Ok(())
}

/// Makes a directory of nkudo's own with `mode`, and its parents; one that is there gets that mode.
pub fn ensure_directory(path: &Utf8Path, mode: u32) -> io::Result<()> {
    ensure_shared_directory(path, mode)?;
    ensure_mode(path, mode)
}

/// Gives a file or directory that is there `mode`, unless it has it.
pub fn ensure_mode(path: &Utf8Path, mode: u32) -> io::Result<()> {
    if fs::metadata(path)?.permissions().mode() & 0o7777 == mode {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    effect();
    Ok(())
}

/// Makes a directory with `mode`, and its parents, where others put files too, or choose the mode: one
/// that is there keeps its own.
pub fn ensure_shared_directory(path: &Utf8Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {
            effect();
            fs::set_permissions(path, Permissions::from_mode(mode))
        }
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(err) => Err(err),
    }
}

/// Removes a tree in which only empty files and directories are expected, and nothing else: what
/// has content was not put there by nkudo or systemd, and stays, as an error.
pub fn remove_empty_tree(path: &Utf8Path) -> io::Result<()> {
    let entries = match path.read_dir_utf8() {
        Ok(entries) => entries,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(err),
    };
    for entry in entries {
        let entry = entry?;
        // Of the entry itself: a link is not followed.
        let kind = entry.file_type()?;
        if kind.is_dir() {
            remove_empty_tree(entry.path())?;
        } else if entry.metadata()?.len() == 0 || kind.is_symlink() {
            remove(entry.path())?;
        } else {
            return Err(io::Error::other(format!("{} is not empty", entry.path())));
        }
    }
    absent_is_fine(fs::remove_dir(path))?;
    effect();
    Ok(())
}

/// Reads a file; `None` where there is none.
pub fn read(path: &Utf8Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err),
    }
}

/// The names in a directory, sorted; none where there is no directory. Names that are not UTF-8
/// are not nkudo's, and left out.
pub fn names(directory: &Utf8Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(err),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Makes what was created, renamed or removed in a directory last.
pub fn sync_directory(directory: &Utf8Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn parent(path: &Utf8Path) -> io::Result<&Utf8Path> {
    path.parent()
        .ok_or_else(|| io::Error::other(format!("{path} is not in a directory")))
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// What a symbolic link points to; `None` where there is none.
pub fn link_target(path: &Utf8Path) -> io::Result<Option<Utf8PathBuf>> {
    match path.read_link_utf8() {
        Ok(target) => Ok(Some(target)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> (tempfile::TempDir, Utf8PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
        (directory, path)
    }

    #[test]
    fn a_replaced_file_has_its_mode_and_leaves_nothing_beside_it() {
        let (_keep, dir) = directory();
        let file = dir.join("a");
        replace(&file, b"one", 0o600).unwrap();
        replace(&file, b"two", 0o644).unwrap();
        assert_eq!(read(&file).unwrap().unwrap(), b"two");
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o644
        );
        replace_link(&dir.join("l"), "one").unwrap();
        replace_link(&dir.join("l"), "two").unwrap();
        assert_eq!(link_target(&dir.join("l")).unwrap().unwrap(), "two");
        assert_eq!(names(&dir).unwrap(), ["a", "l"]);
    }

    #[test]
    fn a_directory_of_nkudos_own_gets_its_mode_and_one_of_others_keeps_it() {
        let (_keep, dir) = directory();
        let path = dir.join("a");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        ensure_directory(&path, 0o700).unwrap();
        assert_eq!(mode(), 0o700);
        ensure_shared_directory(&path, 0o755).unwrap();
        assert_eq!(mode(), 0o700);
        ensure_directory(&path, 0o755).unwrap();
        assert_eq!(mode(), 0o755);
    }

    #[test]
    fn an_empty_tree_goes_and_one_with_content_stays() {
        let (_keep, dir) = directory();
        let tree = dir.join("tree");
        fs::create_dir_all(tree.join("usr/lib")).unwrap();
        fs::write(tree.join("usr/kvm"), "").unwrap();
        remove_empty_tree(&tree).unwrap();
        assert!(!tree.exists());
        remove_empty_tree(&tree).unwrap();

        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join("disk.raw"), "data").unwrap();
        assert!(remove_empty_tree(&tree).is_err());
        assert!(tree.join("disk.raw").exists());
    }
}
