//! Reads the configuration, and says its mistakes.

use std::io::{self, IsTerminal as _, Write as _};

use crate::cli::Configuration;
use crate::config::{self, Diagnostic, Origins, Source};
use crate::generation::{Input, Origin};
use crate::host::Host;

use super::sources;

/// How many diagnostics are shown. Who has more begins with these.
const MOST: usize = 200;

/// A configuration without mistakes, and what it was read from.
pub(super) struct Configured {
    pub(super) host: Host,
    pub(super) origin: Origin,
    pub(super) inputs: Vec<Input>,
}

/// The configuration; `None` where it has mistakes, which have been said then.
pub(super) fn configured(configuration: &Configuration) -> anyhow::Result<Option<Configured>> {
    let sources = sources::read(configuration)?;
    let outcome = config::load(&sources);
    say(&outcome.diagnostics, &sources)?;
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
        origin,
        inputs: sources::inputs(&sources)?,
    }))
}

/// A configuration without mistakes, with its text and where each value of it is.
pub(super) struct Traced {
    pub(super) host: Host,
    pub(super) origins: Origins,
    pub(super) sources: Vec<Source>,
}

/// As [`configured`].
pub(super) fn traced(configuration: &Configuration) -> anyhow::Result<Option<Traced>> {
    let sources = sources::read(configuration)?;
    let (outcome, origins) = config::load_with_origins(&sources);
    say(&outcome.diagnostics, &sources)?;
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
