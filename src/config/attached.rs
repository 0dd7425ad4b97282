//! Files that a configuration names and that rendering needs: read by the caller, handed in as text.

use std::cell::RefCell;
use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

use super::Source;

/// A file that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    pub path: Utf8PathBuf,
    /// Its text, or why it cannot be read.
    pub text: Result<String, String>,
}

impl Attached {
    /// As a source that a diagnostic can point into.
    pub fn source(&self) -> Source {
        Source {
            name: self.path.to_string(),
            text: self.text.clone().unwrap_or_default(),
        }
    }
}

/// Those that are there, and those that are named and are not.
#[derive(Debug, Default)]
pub(super) struct Files {
    there: Vec<Attached>,
    /// The index of the first one among the sources that diagnostics point into.
    first: usize,
    wanted: RefCell<BTreeSet<Utf8PathBuf>>,
}

impl Files {
    pub(super) fn new(there: &[Attached], first: usize) -> Self {
        Self {
            there: there.to_vec(),
            first,
            wanted: RefCell::default(),
        }
    }

    /// The file, and its index among the sources; `None` where the caller did not read it yet.
    pub(super) fn get(&self, path: &Utf8Path) -> Option<(usize, &Attached)> {
        let at = self.there.iter().position(|file| file.path == path);
        if at.is_none() {
            self.wanted.borrow_mut().insert(path.to_owned());
        }
        at.map(|at| (self.first + at, &self.there[at]))
    }

    pub(super) fn into_wanted(self) -> BTreeSet<Utf8PathBuf> {
        self.wanted.into_inner()
    }
}
