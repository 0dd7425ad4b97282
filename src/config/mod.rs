//! From TOML text to a [`Host`], or to all the mistakes in the text at once.
//!
//! The parser recovers from syntax errors, and the walk over what it found goes on after each
//! mistake. serde would stop at the first, which is why it is not used here.

#![deny(clippy::disallowed_methods)]

mod cursor;
mod device;
mod diagnostic;
mod disk;
mod explain;
mod image;
mod lower;
mod nearest;
mod network;
mod order;
mod origin;
pub mod shape;
mod sink;
mod syntax;
mod unique;
mod values;
mod vm;
mod warnings;

#[cfg(test)]
mod tests;

use toml::de::DeTable;

pub use diagnostic::{Diagnostic, Place, Severity, render, render_coloured};

pub use explain::{BadSubject, Subject, explain};
pub use origin::{Origin, Origins, Path, Step};
pub use warnings::warnings;

use crate::host::Host;
use sink::Sink;

/// A file's text, read by the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The path, as it is to be shown.
    pub name: String,
    pub text: String,
}

/// What became of the sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// There unless something was wrong.
    pub host: Option<Host>,
    /// All the mistakes, in the order of the sources and then of their lines.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads the sources as the parts of one configuration.
pub fn load(sources: &[Source]) -> Outcome {
    load_into(Sink::default(), sources).0
}

/// As [`load`], and keeps where each value is from.
pub fn load_with_origins(sources: &[Source]) -> (Outcome, Origins) {
    load_into(Sink::with_origins(), sources)
}

fn load_into(mut sink: Sink, sources: &[Source]) -> (Outcome, Origins) {
    let mut tables = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let (table, errors) = DeTable::parse_recoverable(&source.text);
        for mistake in syntax::diagnostics(index, source, &errors) {
            sink.syntax(source, mistake);
        }
        tables.push(table);
    }
    sink.syntax_ends();
    let host = lower::host(&sink, &tables);
    let (diagnostics, origins) = sink.end();
    debug_assert!(
        host.is_some() || !diagnostics.is_empty(),
        "a mistake was not reported"
    );
    let outcome = Outcome {
        host: host.filter(|_| diagnostics.is_empty()),
        diagnostics,
    };
    (outcome, origins)
}
