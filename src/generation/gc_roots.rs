//! Roots that keep Nix's garbage collector from what generations and running VMs need.
//!
//! A root is two links: `<links>/<name>` to a path of the store, in a directory of the generation's or the
//! VM's, and below /nix/var/nix/gcroots/nkudo one to that link. The collector obeys the second only while
//! the first is there, so what is removed by hand, or with /run at a boot, holds nothing back any more. It
//! enters directories below gcroots, but no link to a directory, hence one link for each path.
//!
//! Where there is no Nix, none of this does anything.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use super::store_paths::{STORE, StorePath};
use crate::files;

/// Where the collector looks for roots.
const REGISTRY: &str = "/nix/var/nix/gcroots";

/// What becomes of links to what is not needed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unneeded {
    Remove,
    Keep,
}

/// A directory of links into the Nix store, each of which is registered as a root.
#[derive(Debug)]
pub struct GcRoots {
    links: Utf8PathBuf,
    registered: Utf8PathBuf,
}

impl GcRoots {
    /// Links in the directory `links`; `None` on a host without Nix.
    pub fn new(links: &Utf8Path) -> io::Result<Option<Self>> {
        let mut nix = [STORE, REGISTRY].iter().map(Utf8Path::new);
        if !nix.all(Utf8Path::is_dir) {
            return Ok(None);
        }
        let links = camino::absolute_utf8(links)?;
        Ok(Some(Self::registered_in(Utf8Path::new(REGISTRY), &links)))
    }

    fn registered_in(registry: &Utf8Path, links: &Utf8Path) -> Self {
        let below = links.as_str().trim_start_matches('/');
        Self {
            links: links.to_owned(),
            registered: registry.join("nkudo").join(below),
        }
    }

    /// Makes roots of the store paths that these paths are in, or lead to by symbolic links.
    ///
    /// Where nkudo may not write there, a warning is all: whoever renders only to look at it is not root, and a
    /// store that somebody else keeps (a read-only /nix) is collected there.
    pub fn keep(&self, paths: &BTreeSet<Utf8PathBuf>, unneeded: Unneeded) -> io::Result<()> {
        match self.ensure(paths, unneeded) {
            Err(err)
                if matches!(
                    err.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                tracing::warn!(
                    "cannot keep nix-collect-garbage from what {} is about: {err}",
                    self.links
                );
                Ok(())
            }
            other => other,
        }
    }

    fn ensure(&self, paths: &BTreeSet<Utf8PathBuf>, unneeded: Unneeded) -> io::Result<()> {
        let resolved = paths
            .iter()
            .filter_map(|path| path.canonicalize_utf8().ok());
        let store_paths: BTreeSet<StorePath> = resolved
            .chain(paths.iter().cloned())
            .filter_map(|path| StorePath::of(&path))
            .collect();
        if !store_paths.is_empty() {
            files::ensure_directory(&self.links, 0o755)?;
            files::ensure_directory(&self.registered, 0o755)?;
        }
        for path in &store_paths {
            let link = self.links.join(path.name());
            ensure_link(&link, path.as_path())?;
            ensure_link(&self.registered.join(path.name()), &link)?;
        }
        if unneeded == Unneeded::Remove {
            let is_needed = |name: &str| store_paths.iter().any(|path| path.name() == name);
            self.remove_but(is_needed)?;
        }
        Ok(())
    }

    /// Removes all of them.
    pub fn remove(&self) -> io::Result<()> {
        self.remove_but(|_| false)
    }

    fn remove_but(&self, is_needed: impl Fn(&str) -> bool) -> io::Result<()> {
        for directory in [&self.registered, &self.links] {
            let names = files::names(directory)?;
            for name in names.iter().filter(|name| !is_needed(name)) {
                let link = directory.join(name);
                // What is no link was not put there by nkudo.
                if link.is_symlink() {
                    files::remove(&link)?;
                }
            }
            remove_if_empty(directory)?;
        }
        Ok(())
    }
}

fn ensure_link(link: &Utf8Path, target: &Utf8Path) -> io::Result<()> {
    if link.read_link_utf8().is_ok_and(|there| there == target) {
        return Ok(());
    }
    files::replace_link(link, target.as_str())
}

fn remove_if_empty(directory: &Utf8Path) -> io::Result<()> {
    match fs::remove_dir(directory) {
        Err(err)
            if !matches!(
                err.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Err(err)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX: &str = "0123456789abcdfghijklmnpqrsvwxyz-linux";
    const INITRD: &str = "1123456789abcdfghijklmnpqrsvwxyz-initrd";

    struct Host {
        _directory: tempfile::TempDir,
        root: Utf8PathBuf,
        roots: GcRoots,
    }

    fn host() -> Host {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
        let roots = GcRoots::registered_in(&root.join("registry"), &root.join("state/7"));
        Host {
            _directory: directory,
            root,
            roots,
        }
    }

    fn paths<const N: usize>(paths: [&str; N]) -> BTreeSet<Utf8PathBuf> {
        paths.into_iter().map(Utf8PathBuf::from).collect()
    }

    #[test]
    fn a_root_leads_by_two_links_to_the_store() {
        let host = host();
        let kernel = format!("/nix/store/{LINUX}/bzImage");
        let paths = paths([&kernel, "/srv/web.raw"]);
        host.roots.keep(&paths, Unneeded::Remove).unwrap();
        host.roots.keep(&paths, Unneeded::Remove).unwrap();
        assert_eq!(files::names(&host.roots.registered).unwrap(), [LINUX]);
        let registered = files::link_target(&host.roots.registered.join(LINUX));
        let link = registered.unwrap().unwrap();
        assert_eq!(link, host.root.join("state/7").join(LINUX));
        assert_eq!(
            files::link_target(&link).unwrap().unwrap(),
            Utf8Path::new("/nix/store").join(LINUX)
        );
    }

    #[test]
    fn what_is_not_needed_any_more_is_let_go_of_and_only_when_that_is_asked() {
        let host = host();
        let before = paths([&format!("/nix/store/{LINUX}/bzImage")]);
        let after = paths([&format!("/nix/store/{INITRD}")]);
        host.roots.keep(&before, Unneeded::Remove).unwrap();
        host.roots.keep(&after, Unneeded::Keep).unwrap();
        assert_eq!(files::names(&host.roots.links).unwrap(), [LINUX, INITRD]);
        host.roots.keep(&after, Unneeded::Remove).unwrap();
        assert_eq!(files::names(&host.roots.links).unwrap(), [INITRD]);
        assert_eq!(files::names(&host.roots.registered).unwrap(), [INITRD]);
    }

    #[test]
    fn nothing_is_left_of_removed_roots_and_nobody_elses_file_goes_with_them() {
        let host = host();
        host.roots.remove().unwrap();
        let kernel = paths([&format!("/nix/store/{LINUX}/bzImage")]);
        host.roots.keep(&kernel, Unneeded::Remove).unwrap();
        host.roots.remove().unwrap();
        assert!(!host.roots.links.exists() && !host.roots.registered.exists());
        host.roots.keep(&kernel, Unneeded::Remove).unwrap();
        fs::write(host.roots.links.join("note"), "mine").unwrap();
        host.roots.remove().unwrap();
        assert_eq!(files::names(&host.roots.links).unwrap(), ["note"]);
    }

    #[test]
    fn without_a_path_of_the_store_nothing_is_made() {
        let host = host();
        host.roots
            .keep(&paths(["/srv/web.raw"]), Unneeded::Remove)
            .unwrap();
        assert_eq!(files::names(&host.root).unwrap(), [""; 0]);
    }
}
