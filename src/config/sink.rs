//! Where diagnostics are collected while files are walked.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;

use camino::Utf8PathBuf;

use super::Source;
use super::attached::Files;
use super::diagnostic::{Diagnostic, Place};
use super::origin::{Origins, Path};
use super::syntax::Syntax;

/// Takes diagnostics, and drops those that only follow from a syntax error.
#[derive(Debug, Default)]
pub(super) struct Sink {
    found: RefCell<Vec<Diagnostic>>,
    /// The lines that hold syntax errors, with the index of their source.
    broken: Vec<(usize, Range<usize>)>,
    /// Sources in which the header of a table could not be read.
    headless: Vec<usize>,
    /// What was read, for whoever asks where a value is from.
    origins: Option<RefCell<Origins>>,
    /// Files that the sources name.
    pub(super) files: Files,
}

impl Sink {
    /// One that also keeps where each value is from.
    pub(super) fn with_origins() -> Self {
        Self {
            origins: Some(RefCell::default()),
            ..Self::default()
        }
    }

    /// The path of the whole file, if origins are kept.
    pub(super) fn path(&self) -> Option<Rc<Path>> {
        self.origins.is_some().then(Rc::default)
    }

    /// A key was looked for, and found at a place or not at all.
    pub(super) fn taken(&self, path: &Path, place: Option<Place>) {
        if let Some(origins) = &self.origins {
            origins.borrow_mut().taken(path, place);
        }
    }

    /// There is a VM or a network, named at `place`.
    pub(super) fn declared(&self, path: Option<&Path>, place: &Place) {
        if let (Some(origins), Some(path)) = (&self.origins, path) {
            origins.borrow_mut().declared(path, place.clone());
        }
    }

    pub(super) fn derived(&self, path: &Path, value: String) {
        if let Some(origins) = &self.origins {
            origins.borrow_mut().derived(path, value);
        }
    }

    /// A mistake that the TOML parser found. These come before any other.
    pub(super) fn syntax(&mut self, source: &Source, syntax: Syntax) {
        let index = syntax.diagnostic.place.source;
        let lines = lines_around(&source.text, &syntax.broken);
        if source.text[lines.clone()].trim_start().starts_with('[') {
            self.headless.push(index);
        }
        self.broken.push((index, lines));
        self.found.get_mut().push(syntax.diagnostic);
    }

    /// All syntax errors of all sources are there.
    pub(super) fn syntax_ends(&mut self) {
        self.broken
            .sort_unstable_by_key(|(source, lines)| (*source, lines.start));
    }

    pub(super) fn report(&self, diagnostic: Diagnostic) {
        let Place { source, span } = &diagnostic.place;
        // They are in order, and do not overlap.
        let at = self
            .broken
            .partition_point(|(broken, lines)| (*broken, lines.start) <= (*source, span.start));
        let on_broken_line = at.checked_sub(1).is_some_and(|at| {
            let (broken, lines) = &self.broken[at];
            broken == source && span.start <= lines.end
        });
        if !on_broken_line {
            self.found.borrow_mut().push(diagnostic);
        }
    }

    /// Something is missing. It may be what the parser could not read, so this is not said then.
    pub(super) fn report_absence(&self, diagnostic: Diagnostic) {
        if self.broken.is_empty() {
            self.report(diagnostic);
        }
    }

    /// A key is unknown. Below a broken header, keys land in the table before it.
    pub(super) fn report_unknown(&self, diagnostic: Diagnostic) {
        if !self.headless.contains(&diagnostic.place.source) {
            self.report(diagnostic);
        }
    }

    /// The diagnostics in the order of the files, and all else that was noted.
    pub(super) fn end(self) -> End {
        let mut diagnostics = self.found.into_inner();
        diagnostics.sort_by_key(|one| (one.place.source, one.place.span.start));
        End {
            diagnostics,
            origins: self.origins.map(RefCell::into_inner).unwrap_or_default(),
            wanted: self.files.into_wanted(),
        }
    }
}

/// What was noted by the end of the walk.
#[derive(Debug)]
pub(super) struct End {
    pub(super) diagnostics: Vec<Diagnostic>,
    pub(super) origins: Origins,
    pub(super) wanted: BTreeSet<Utf8PathBuf>,
}

fn lines_around(text: &str, span: &Range<usize>) -> Range<usize> {
    let bytes = text.as_bytes();
    let start = span.start.min(bytes.len());
    let end = span.end.clamp(start, bytes.len());
    let first = bytes[..start]
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |at| at + 1);
    let last = bytes[end..]
        .iter()
        .position(|b| *b == b'\n')
        .map_or(bytes.len(), |at| end + at);
    first..last
}
