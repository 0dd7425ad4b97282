//! Opens a file for root to change, by a path that others may have a hand in.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// Links on one path that are followed (as many as the kernel follows, path_resolution(7)).
const LINKS: usize = 40;

/// Opens the file without reading it (`O_PATH`). Symbolic links are followed only where they are
/// root's: whoever may write into the directory of a disk could otherwise point its name at
/// anything, and have root give a VM access to that.
pub(super) fn open(path: &Utf8Path) -> io::Result<OwnedFd> {
    let real = resolve(path)?;
    let below_root = real.as_path().strip_prefix("/").unwrap_or(&real);
    let fd = openat2(
        hosts_root()?,
        below_root.as_std_path(),
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        // A link that was put there since is not followed.
        ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )?;
    Ok(fd)
}

/// The host's root directory, as PID 1 has it: in the unit's own mount namespace a file that the VM only
/// reads lies on a read-only mount, on which root cannot change its access either.
fn hosts_root() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open("/proc/1/root", flags, Mode::empty()) {
        // Whoever may not do that is not root, and there is no other namespace to get out of.
        Err(Errno::ACCESS | Errno::NOENT) => Ok(rustix::fs::open("/", flags, Mode::empty())?),
        other => Ok(other?),
    }
}

/// Where a path leads, over symbolic links of root's alone.
pub fn resolve(path: &Utf8Path) -> io::Result<Utf8PathBuf> {
    let mut done = Utf8PathBuf::from("/");
    // The components still to walk, the next one last.
    let mut left: Vec<String> = reversed(path);
    let mut links = 0;
    while let Some(component) = left.pop() {
        if component == ".." {
            done.pop();
            continue;
        }
        let place = done.join(&component);
        let here = place.symlink_metadata()?;
        if !here.is_symlink() {
            done = place;
            continue;
        }
        if here.uid() != 0 {
            return Err(io::Error::other(format!(
                "{place} is a symbolic link of user {}, and root follows only its own",
                here.uid()
            )));
        }
        links += 1;
        if links > LINKS {
            return Err(io::Error::other(format!(
                "{path} has too many symbolic links"
            )));
        }
        let target = place.read_link_utf8()?;
        if target.is_absolute() {
            done = "/".into();
        }
        left.extend(reversed(&target));
    }
    Ok(done)
}

fn reversed(path: &Utf8Path) -> Vec<String> {
    let mut components: Vec<String> = path
        .components()
        .filter_map(|component| match component {
            Utf8Component::Normal(name) => Some(name.to_owned()),
            Utf8Component::ParentDir => Some("..".to_owned()),
            _ => None,
        })
        .collect();
    components.reverse();
    components
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_resolved_one_by_one() {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::fs::write(root.join("real/disk"), "").unwrap();
        symlink("../real/disk", root.join("real/one")).unwrap();
        symlink(root.join("real"), root.join("two")).unwrap();
        let resolved = resolve(&root.join("two/one"));
        // Links that are not root's are refused, and a test need not be root.
        if rustix::process::geteuid().is_root() {
            assert_eq!(resolved.unwrap(), root.join("real/disk"));
        } else {
            assert!(
                resolved
                    .unwrap_err()
                    .to_string()
                    .contains("symbolic link of user")
            );
        }
        assert!(open(&root.join("real/disk")).is_ok());
        assert!(open(&root.join("real/none")).is_err());
    }

    #[test]
    fn a_circle_of_links_ends() {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        assert!(resolve(&root.join("a")).is_err());
    }
}
