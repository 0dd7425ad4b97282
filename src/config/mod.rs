//! From TOML text to a [`Host`], or to all the mistakes in the text at once.
//!
//! The parser recovers from syntax errors, and the walk over what it found goes on after each
//! mistake. serde would stop at the first, which is why it is not used here.

#![deny(clippy::disallowed_methods)]

mod address;
mod attached;
mod cloud_init;
mod cursor;
mod device;
mod diagnostic;
mod disk;
mod disk_kind;
mod explain;
mod forward;
mod image;
mod lower;
mod memory;
mod nearest;
mod network;
mod order;
mod origin;
mod pci;
mod ready;
mod services;
pub mod shape;
mod share;
mod sink;
mod syntax;
mod tuning;
mod unique;
mod values;
mod vm;
mod warnings;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8PathBuf;
use toml::de::DeTable;

pub use attached::Attached;
pub use diagnostic::{Diagnostic, Place, Severity, render, render_coloured};

pub use explain::{BadSubject, Subject, explain};
pub use origin::{Origin, Origins, Path, Step};
pub use warnings::warnings;

pub(crate) use nearest::did_you_mean;

use crate::host::{Host, VmId};
use crate::seed::FirstBoot;
use attached::Files;
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
    /// What the seeds of VMs with cloud-init are made of. It is apart from the host, which is shown and
    /// kept where secrets must not be.
    pub first_boots: BTreeMap<VmId, FirstBoot>,
    /// Files that the sources name and that were not attached: without them there is no host.
    pub wanted: BTreeSet<Utf8PathBuf>,
    /// All the mistakes, in the order of the sources and then of their lines.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads the sources as the parts of one configuration.
pub fn load(sources: &[Source]) -> Outcome {
    load_attached(sources, &[])
}

/// As [`load`], with the files that an earlier [`Outcome::wanted`] asked for. Diagnostics that point into
/// them count them as sources after the others.
pub fn load_attached(sources: &[Source], attached: &[Attached]) -> Outcome {
    load_into(Sink::default(), sources, attached).0
}

/// As [`load`], and keeps where each value is from.
pub fn load_with_origins(sources: &[Source]) -> (Outcome, Origins) {
    load_attached_with_origins(sources, &[])
}

/// As [`load_attached`], and keeps where each value is from.
pub fn load_attached_with_origins(sources: &[Source], attached: &[Attached]) -> (Outcome, Origins) {
    load_into(Sink::with_origins(), sources, attached)
}

/// The parser collects every syntax error, each with text of its own: of a file of this size that may be
/// gigabytes. Of a larger one only the first is said.
const LARGEST_RECOVERED: usize = 2 << 20;

fn parse(text: &str) -> (toml::Spanned<DeTable<'_>>, Vec<toml::de::Error>) {
    if text.len() <= LARGEST_RECOVERED {
        return DeTable::parse_recoverable(text);
    }
    match DeTable::parse(text) {
        Ok(table) => (table, Vec::new()),
        Err(error) => (
            toml::Spanned::new(0..text.len(), DeTable::new()),
            vec![error],
        ),
    }
}

fn load_into(mut sink: Sink, sources: &[Source], attached: &[Attached]) -> (Outcome, Origins) {
    sink.files = Files::new(attached, sources.len());
    let mut tables = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let (table, errors) = parse(&source.text);
        for mut mistake in syntax::diagnostics(index, source, &errors) {
            if source.text.len() > LARGEST_RECOVERED {
                let hint = "the file is so large that nothing else of it is looked at until this is mended";
                mistake.diagnostic = mistake.diagnostic.hint(hint);
            }
            sink.syntax(source, mistake);
        }
        tables.push(table);
    }
    sink.syntax_ends();
    let lowered = lower::host(&sink, &tables);
    let end = sink.end();
    debug_assert!(
        lowered.is_some() || !end.diagnostics.is_empty(),
        "a mistake was not reported"
    );
    let good = end.diagnostics.is_empty() && end.wanted.is_empty();
    let (host, first_boots) = lowered.filter(|_| good).unzip();
    let outcome = Outcome {
        host,
        first_boots: first_boots.unwrap_or_default(),
        wanted: end.wanted,
        diagnostics: end.diagnostics,
    };
    (outcome, end.origins)
}
