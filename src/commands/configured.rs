//! Reads the configuration, and says its mistakes.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};

use crate::cli::Configuration;
use crate::config::{self, Attached, Diagnostic, Origins, Outcome, Source};
use crate::generation::{Input, Origin};
use crate::host::{Host, VmId};
use crate::seed::FirstBoot;

use super::sources::{self, Missing};

/// How many diagnostics are shown. Who has more begins with these.
const MOST: usize = 200;

/// A configuration without mistakes, and what it was read from.
pub(super) struct Configured {
    pub(super) host: Host,
    pub(super) first_boots: BTreeMap<VmId, FirstBoot>,
    pub(super) origin: Origin,
    pub(super) inputs: Vec<Input>,
}

/// The configuration; `None` where it has mistakes, which have been said then.
pub(super) fn configured(configuration: &Configuration) -> anyhow::Result<Option<Configured>> {
    let sources = sources::read(configuration)?;
    let (outcome, attached) = load(&sources);
    say(&outcome.diagnostics, &with(&sources, &attached))?;
    let Some(host) = outcome.host else {
        return Ok(None);
    };
    let origin = if configuration.files.is_empty() {
        Origin::Default
    } else {
        Origin::Named
    };
    Ok(Some(Configured {
        host,
        first_boots: outcome.first_boots,
        origin,
        inputs: sources::inputs(&sources, &attached)?,
    }))
}

/// What the sources mean, and the files that they name.
pub(super) fn load(sources: &[Source]) -> (Outcome, Vec<Attached>) {
    let outcome = config::load(sources);
    if outcome.wanted.is_empty() {
        return (outcome, Vec::new());
    }
    let attached = sources::attached(&outcome.wanted, Missing::IsSaid);
    (config::load_attached(sources, &attached), attached)
}

/// All that a diagnostic can point into.
fn with(sources: &[Source], attached: &[Attached]) -> Vec<Source> {
    let attached = attached.iter().map(Attached::source);
    sources.iter().cloned().chain(attached).collect()
}

/// A configuration without mistakes, with its text and where each value of it is.
pub(super) struct Traced {
    pub(super) host: Host,
    pub(super) origins: Origins,
    pub(super) sources: Vec<Source>,
}

/// As [`configured`].
pub(super) fn traced(
    configuration: &Configuration,
    missing: Missing,
) -> anyhow::Result<Option<Traced>> {
    let sources = sources::read(configuration)?;
    let (mut outcome, mut origins) = config::load_with_origins(&sources);
    let mut attached = Vec::new();
    if !outcome.wanted.is_empty() {
        attached = sources::attached(&outcome.wanted, missing);
        (outcome, origins) = config::load_attached_with_origins(&sources, &attached);
    }
    say(&outcome.diagnostics, &with(&sources, &attached))?;
    Ok(outcome.host.map(|host| Traced {
        host,
        origins,
        sources,
    }))
}

pub(super) fn say(diagnostics: &[Diagnostic], sources: &[Source]) -> anyhow::Result<()> {
    let (shown, more) = diagnostics.split_at(diagnostics.len().min(MOST));
    // anstream drops the colours where NO_COLOR asks for that; without a terminal the plain
    // rendering is also the same to the byte.
    let text = if io::stderr().is_terminal() {
        config::render_coloured(shown, sources)
    } else {
        config::render(shown, sources)
    };
    let mut stderr = anstream::stderr().lock();
    write!(stderr, "{text}")?;
    if !more.is_empty() {
        writeln!(stderr, "and {} more", more.len())?;
    }
    Ok(())
}
