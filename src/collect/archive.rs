//! A `.tar.zst` out of texts.

use std::io;

use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::Part;

/// The archive's bytes: everything in one directory, readable for its owner alone.
pub fn archive(directory: &str, parts: &[Part], time: u64) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for part in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(part.text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(time);
        header.set_entry_type(tar::EntryType::Regular);
        tar.append_data(
            &mut header,
            format!("{directory}/{}", part.name),
            part.text.as_bytes(),
        )?;
    }
    let tar = tar.into_inner()?;
    Ok(compress_to_vec(tar.as_slice(), CompressionLevel::Fastest))
}
