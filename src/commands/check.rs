//! `nkudo check`: all mistakes of a configuration.

use std::io::{IsTerminal as _, Write as _};

use crate::cli::Configuration;
use crate::config;

use super::{Exit, sources};

pub fn run(configuration: &Configuration) -> anyhow::Result<Exit> {
    let sources = sources::read(configuration)?;
    let outcome = config::load(&sources);
    let mut talk = anstream::stderr().lock();
    // anstream drops the colours where NO_COLOR asks for that; without a terminal the plain
    // rendering is also the same to the byte.
    let text = if std::io::stderr().is_terminal() {
        config::render_coloured(&outcome.diagnostics, &sources)
    } else {
        config::render(&outcome.diagnostics, &sources)
    };
    write!(talk, "{text}")?;
    let Some(host) = outcome.host else {
        return Ok(Exit::BadConfiguration);
    };
    let count = |number: usize, one: &str| {
        let plural = if number == 1 { "" } else { "s" };
        format!("{number} {one}{plural}")
    };
    let (vms, networks) = (
        count(host.vms.len(), "VM"),
        count(host.networks.len(), "network"),
    );
    writeln!(talk, "{vms}, {networks}: no mistakes")?;
    Ok(Exit::Done)
}
