//! `nkudo render`: the configuration as a generation.

use camino::Utf8Path;

use crate::cli::Configuration;
use crate::generation::{Rendering, Store, Stored};

use super::configured::configured;
use super::{Exit, block_on, print, programs};

pub fn run(configuration: &Configuration, state_dir: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let Some(configured) = configured(configuration)? else {
        return Ok(Exit::BadConfiguration);
    };
    let programs = block_on(programs::programs(&configured.host.hypervisor))?;
    let store = Store::new(state_dir.unwrap_or(configured.host.state_dir.as_path()));
    let stored = store.save(Rendering {
        host: &configured.host,
        programs: &programs,
        origin: configured.origin,
        inputs: &configured.inputs,
    })?;
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
