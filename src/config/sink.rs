//! Where diagnostics are collected while files are walked.

use std::cell::RefCell;
use std::ops::Range;

use super::Source;
use super::diagnostic::{Diagnostic, Place};

/// Takes diagnostics, and drops those that only follow from a syntax error.
#[derive(Debug, Default)]
pub(super) struct Sink {
    found: RefCell<Vec<Diagnostic>>,
    /// The lines that hold syntax errors, with the index of their source.
    broken: Vec<(usize, Range<usize>)>,
    /// Sources in which the header of a table could not be read.
    headless: Vec<usize>,
}

impl Sink {
    /// A mistake that the TOML parser found. These come before any other.
    pub(super) fn syntax(&mut self, source: &Source, diagnostic: Diagnostic) {
        let Place {
            source: index,
            span,
        } = &diagnostic.place;
        let lines = lines_around(&source.text, span);
        if source.text[lines.clone()].trim_start().starts_with('[') {
            self.headless.push(*index);
        }
        self.broken.push((*index, lines));
        self.found.get_mut().push(diagnostic);
    }

    pub(super) fn report(&self, diagnostic: Diagnostic) {
        let Place { source, span } = &diagnostic.place;
        let on_broken_line = self.broken.iter().any(|(broken, lines)| {
            broken == source && lines.start <= span.start && span.start <= lines.end
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

    /// All of them, in the order of the files.
    pub(super) fn into_diagnostics(self) -> Vec<Diagnostic> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|one| (one.place.source, one.place.span.start));
        found
    }
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
