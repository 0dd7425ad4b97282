//! Checksums.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use sha2::Digest as _;

use crate::host::Sha256;

/// Why a file is not the one that was meant.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("cannot read it")]
    Read(#[source] io::Error),
    #[error("its SHA-256 checksum is {found}, and should be {wanted}")]
    Mismatch { wanted: Sha256, found: Sha256 },
}

/// Compares a file with its checksum.
pub fn verify(file: &File, wanted: &Sha256) -> Result<(), VerifyError> {
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let length = file.read_at(&mut buffer, at).map_err(VerifyError::Read)?;
        if length == 0 {
            break;
        }
        hash.update(&buffer[..length]);
        at += length as u64;
    }
    matches(hash, wanted)
}

pub(super) fn matches(hash: sha2::Sha256, wanted: &Sha256) -> Result<(), VerifyError> {
    let found = Sha256::of_bytes(&hash.finalize().into());
    if found == *wanted {
        return Ok(());
    }
    Err(VerifyError::Mismatch {
        wanted: wanted.clone(),
        found,
    })
}
