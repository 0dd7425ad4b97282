//! Which paths of the Nix store something needs: a generation, or a VM that runs.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::fmt;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;
use serde_json::Value;

use crate::disk::DiskRecord;
use crate::host::DiskOrigin;

/// Where Nix keeps what it builds.
pub(super) const STORE: &str = "/nix/store";

/// A path of the Nix store: `/nix/store/<32 characters>-<name>`, and nothing below it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StorePath(Utf8PathBuf);

impl StorePath {
    /// The store path that `path` is, or is below.
    pub fn of(path: &Utf8Path) -> Option<Self> {
        let name = path.strip_prefix(STORE).ok()?.components().next()?.as_str();
        let (hash, rest) = name.split_at_checked(32)?;
        // Nix's base 32 has no e, o, t and u; a path with them is refused by Nix, not here.
        let is_hash = hash
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let is_name = rest.strip_prefix('-').is_some_and(|name| !name.is_empty());
        (is_hash && is_name).then(|| Self(Utf8Path::new(STORE).join(name)))
    }

    pub fn as_path(&self) -> &Utf8Path {
        &self.0
    }

    /// `<32 characters>-<name>`.
    pub fn name(&self) -> &str {
        self.0.file_name().unwrap_or_default()
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The absolute paths that are values in `what`, whatever its keys are: a kernel, a disk, a share, a program.
///
/// A kernel's command line names paths of the guest (`init=/nix/store/…`), which are not the host's, unless
/// the guest has the host's store as a share.
pub fn paths(what: &impl Serialize) -> serde_json::Result<BTreeSet<Utf8PathBuf>> {
    let what = serde_json::to_value(what)?;
    let mut found = Found::default();
    found.look("", &what);
    let shares_the_store = [STORE, "/nix", "/"]
        .iter()
        .any(|path| found.paths.contains(Utf8Path::new(path)));
    if shares_the_store {
        let words = found.cmdlines.iter().flat_map(|line| line.split(' '));
        let in_store = words.filter_map(|word| Some(&word[word.find(STORE)?..]));
        found.paths.extend(in_store.map(Utf8PathBuf::from));
    }
    Ok(found.paths)
}

/// The paths that a disk needs for as long as it is there, whatever generations say by then: what is below an
/// overlay, and the kernel that it is booted by.
pub fn paths_of_disk(record: &DiskRecord) -> BTreeSet<Utf8PathBuf> {
    let Some(image) = &record.image else {
        return BTreeSet::new();
    };
    let below = matches!(record.origin, DiskOrigin::Overlay { .. }).then_some(&image.path);
    let all = [below, image.kernel.as_ref(), image.initrd.as_ref()];
    all.into_iter()
        .flatten()
        .map(|path| path.as_path().to_owned())
        .collect()
}

#[derive(Debug, Default)]
struct Found {
    paths: BTreeSet<Utf8PathBuf>,
    cmdlines: Vec<String>,
}

impl Found {
    fn look(&mut self, key: &str, value: &Value) {
        match value {
            Value::String(text) if key == "cmdline" => self.cmdlines.push(text.clone()),
            // A path holds no white space: see `AbsolutePath`. A text that does is a file's content.
            Value::String(text) if text.starts_with('/') && !text.contains(char::is_whitespace) => {
                self.paths.insert(text.into());
            }
            Value::Array(values) => values.iter().for_each(|value| self.look(key, value)),
            Value::Object(entries) => entries
                .iter()
                .for_each(|(key, value)| self.look(key, value)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const HASH: &str = "0123456789abcdfghijklmnpqrsvwxyz";

    fn found(what: &Value) -> Vec<String> {
        let found = paths(what).unwrap();
        found.into_iter().map(Utf8PathBuf::into_string).collect()
    }

    #[test]
    fn a_store_path_is_the_first_component_below_the_store() {
        let path = |text: &str| StorePath::of(Utf8Path::new(text)).map(|path| path.to_string());
        let linux = format!("/nix/store/{HASH}-linux-6.18");
        assert_eq!(path(&linux), Some(linux.clone()));
        assert_eq!(path(&format!("{linux}/bzImage")), Some(linux));
        for other in [
            "/nix/store",
            "/nix/store/.links/abc",
            "/nix/storehouse/x",
            "/srv/nix/store/x",
            &format!("/nix/store/{HASH}"),
            &format!("/nix/store/{HASH}-"),
            &format!("/nix/store/{}-linux", HASH.to_uppercase()),
            "/nix/store/0123456789abcdfghijklmnpqrsvwxyö-linux",
        ] {
            assert_eq!(path(other), None, "{other}");
        }
    }

    #[test]
    fn every_path_is_found_wherever_it_stands() {
        let what = json!({
            "kernel": "/nix/store/k", "size": "1G", "count": 1, "on": true, "none": null,
            "disks": [{ "path": "/srv/a.raw" }, { "origin": { "image": "/srv/image" } }],
            "user-data": "/bin/sh is not\na path",
        });
        assert_eq!(found(&what), ["/nix/store/k", "/srv/a.raw", "/srv/image"]);
    }

    #[test]
    fn a_guests_own_store_is_not_the_hosts_and_a_shared_one_is() {
        let init = format!("/nix/store/{HASH}-nixos/init");
        let cmdline = format!("console=ttyS0 init={init} quiet");
        assert!(found(&json!({ "cmdline": cmdline })).is_empty());
        let shared = json!({ "cmdline": cmdline, "shares": [{ "source": "/nix/store" }] });
        assert_eq!(found(&shared), ["/nix/store".to_owned(), init]);
    }
}
