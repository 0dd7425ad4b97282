//! Reads the configuration, and says its mistakes.

use std::io::{self, IsTerminal as _, Write as _};

use crate::cli::Configuration;
use crate::config::{self, Source};
use crate::generation::{Input, Origin};
use crate::host::Host;

use super::sources;

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

fn say(diagnostics: &[config::Diagnostic], sources: &[Source]) -> anyhow::Result<()> {
    // anstream drops the colours where NO_COLOR asks for that; without a terminal the plain
    // rendering is also the same to the byte.
    let text = if io::stderr().is_terminal() {
        config::render_coloured(diagnostics, sources)
    } else {
        config::render(diagnostics, sources)
    };
    write!(anstream::stderr().lock(), "{text}")?;
    Ok(())
}
