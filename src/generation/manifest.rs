//! `manifest.json`: what a generation means, for nkudo to read again.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::document::{FormatVersion, to_json};
use crate::host::{Host, VmId};
use crate::unit::Programs;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    pub version: FormatVersion,
    /// SHA-256 of the generation's files: the same id, the same generation.
    pub id: String,
    /// The nkudo that rendered it.
    pub rendered_by: String,
    pub programs: Programs,
    pub origin: Origin,
    pub inputs: Vec<Input>,
    /// What identifies each VM's specification: `NKUDO_DIGEST` of its unit.
    pub digests: BTreeMap<VmId, String>,
    pub host: Host,
}

/// How the configuration's files were named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// /etc/nkudo/nkudo.toml and its drop-ins.
    Default,
    /// On the command line.
    Named,
}

/// A file of the configuration, as it was when it was rendered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Input {
    pub name: String,
    pub sha256: String,
    #[serde(default, skip_serializing_if = "Role::is_configuration")]
    pub role: Role,
}

/// What a file is to a configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    #[default]
    Configuration,
    /// The configuration names it, and what is in it goes into the generation.
    Attached,
}

impl Role {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde calls it with a reference"
    )]
    fn is_configuration(&self) -> bool {
        *self == Self::Configuration
    }
}

/// `rendered.json`: what is so of one rendering and not of the generation, and so not in its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Record {
    pub at: Timestamp,
    pub by: String,
    /// `--message`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Manifest {
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        to_json(self)
    }

    /// Puts the id into the JSON of this manifest as it was without one: to write it all anew takes as long
    /// as all the rest of rendering.
    pub(super) fn set_id(&self, json: &mut Vec<u8>) -> serde_json::Result<()> {
        const EMPTY: &[u8] = b"\n  \"id\": \"\"";
        match json.windows(EMPTY.len()).position(|part| part == EMPTY) {
            Some(at) => {
                let end = at + EMPTY.len() - 1;
                json.splice(end..end, self.id.bytes());
            }
            None => *json = self.to_json()?,
        }
        Ok(())
    }

    pub fn from_json(json: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }
}
