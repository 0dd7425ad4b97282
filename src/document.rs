//! What nkudo writes as JSON, for programs and for itself to read again.

#![deny(clippy::disallowed_methods)]

use serde::{Deserialize, Serialize};

/// The version of a document's format; reading refuses any other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct FormatVersion;

impl From<FormatVersion> for u32 {
    fn from(_: FormatVersion) -> Self {
        1
    }
}

impl TryFrom<u32> for FormatVersion {
    type Error = String;

    fn try_from(version: u32) -> Result<Self, Self::Error> {
        match version {
            1 => Ok(Self),
            other => Err(format!(
                "its format has version {other}, and this nkudo knows 1"
            )),
        }
    }
}

/// The lines of a document.
pub fn to_json(document: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut json = serde_json::to_vec_pretty(document)?;
    json.push(b'\n');
    Ok(json)
}
