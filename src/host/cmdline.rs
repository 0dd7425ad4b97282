//! Kernel command lines.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::by_text;

/// A kernel command line: 1 to 2047 bytes, no control characters.
///
/// x86's COMMAND_LINE_SIZE is 2048 with the NUL, and cloud-hypervisor refuses what is longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CmdLine(String);

/// Why a text is not a kernel command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCmdLine {
    #[error("it is empty")]
    Empty,
    #[error("it is {0} bytes long; the kernel takes at most 2047")]
    TooLong(usize),
    #[error("it holds a control character ({0:?})")]
    Control(char),
    #[error("it holds {0:?}; the VMM takes only ASCII here")]
    NotAscii(char),
}

impl CmdLine {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The longest to which another of the same length can be added.
    pub const HALF: usize = 1023;

    /// This one with another after it, where both are no longer than half of what the kernel takes.
    #[must_use]
    pub fn then(&self, after: &Self) -> Self {
        format!("{self} {after}")
            .parse()
            .unwrap_or_else(|_| self.clone())
    }
}

impl FromStr for CmdLine {
    type Err = BadCmdLine;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(BadCmdLine::Empty);
        }
        if text.len() > 2047 {
            return Err(BadCmdLine::TooLong(text.len()));
        }
        match text.chars().find(|c| c.is_control() || !c.is_ascii()) {
            Some(bad) if bad.is_control() => Err(BadCmdLine::Control(bad)),
            Some(bad) => Err(BadCmdLine::NotAscii(bad)),
            None => Ok(Self(text.to_owned())),
        }
    }
}

by_text!(CmdLine);

impl fmt::Display for CmdLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
