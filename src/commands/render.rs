//! `nkudo render`: the configuration as a generation.

use camino::Utf8Path;

use jiff::Timestamp;

use crate::cli::{Configuration, Render};
use crate::config::{self, Subject};
use crate::generation::{Record, Rendering, Store, Stored};

use super::configured::{configured, traced};
use super::sources::Missing;
use super::{Exit, block_on, print, programs};

pub fn run(render: &Render, state_dir: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    if let Some(subject) = &render.explain {
        return explain(&render.configuration, subject);
    }
    let Some(configured) = configured(&render.configuration)? else {
        return Ok(Exit::BadConfiguration);
    };
    let programs = block_on(programs::programs(&configured.host))?;
    let store = Store::new(state_dir.unwrap_or(configured.host.state_dir.as_path()));
    let rendering = Rendering {
        host: &configured.host,
        first_boots: &configured.first_boots,
        programs: &programs,
        origin: configured.origin,
        inputs: &configured.inputs,
    };
    let record = Record {
        at: Timestamp::now(),
        by: who(),
        message: render.message.clone(),
    };
    let stored = store.save(rendering, &record)?;
    let directory = store.directory(stored.number());
    match stored {
        Stored::New(number) => {
            tracing::info!("made generation {number}, in {directory}");
            tracing::info!("hint: `nkudo diff` says what it changes, `nkudo switch` does it");
        }
        Stored::Already(number) => {
            tracing::info!("generation {number} is the same already, in {directory}");
        }
    }
    print(&format!("{}\n", stored.number()))?;
    Ok(Exit::Done)
}

/// Prints a part of the configuration with each value's origin.
fn explain(configuration: &Configuration, subject: &Subject) -> anyhow::Result<Exit> {
    let Some(traced) = traced(configuration, Missing::IsSaid)? else {
        return Ok(Exit::BadConfiguration);
    };
    print(&config::explain(subject, &traced.origins, &traced.sources)?)?;
    Ok(Exit::Done)
}

/// Who is rendering: behind sudo the person, not root.
fn who() -> String {
    ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_else(|| match rustix::process::getuid().as_raw() {
            // Of a unit, say.
            0 => "root".to_owned(),
            uid => format!("user {uid}"),
        })
}
