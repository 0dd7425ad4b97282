//! `nkudo collect`: what somebody else needs to see of a host in trouble, in one archive.
//!
//! Every text goes through `mask` on its way in, whoever wrote it. What consists of secrets (seeds, keys, the
//! configuration as written) is not in it at all.

mod archive;
mod gather;
mod mask;

pub use archive::archive;
pub use gather::{Console, gather};
pub use mask::mask;

/// A file of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its path below the archive's one directory.
    pub name: String,
    pub text: String,
}

impl Part {
    /// Everything that is collected is made by this, and so masked.
    pub fn new(name: impl Into<String>, text: &str) -> Self {
        Self {
            name: name.into(),
            text: mask(text),
        }
    }
}
