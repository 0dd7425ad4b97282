//! `nkudo schema`: the shape of nkudo.toml, for editors.

use anyhow::Context as _;

use crate::config::shape;

use super::{Exit, print};

pub fn run() -> anyhow::Result<Exit> {
    let json = serde_json::to_string_pretty(&shape::schema()).context("cannot print the schema")?;
    print(&format!("{json}\n"))?;
    Ok(Exit::Done)
}
