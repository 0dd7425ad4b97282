//! Writes a file from its beginning to its end, and leaves holes where there are only zeros.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;

/// The unit in which zeros are looked for: a block of most filesystems.
const BLOCK: usize = 4096;

#[derive(Debug)]
pub(super) struct SparseWriter<'f> {
    file: &'f File,
    at: u64,
}

impl<'f> SparseWriter<'f> {
    /// Goes on at the end of what is in the file.
    pub(super) fn at(file: &'f File, at: u64) -> Self {
        Self { file, at }
    }

    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// Gives the file its length, which a hole at the end has not.
    pub(super) fn finish(self) -> io::Result<u64> {
        self.file.set_len(self.at)?;
        Ok(self.at)
    }
}

impl Write for SparseWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            // Up to the next boundary of blocks.
            let aligned = BLOCK - usize::try_from(self.at % BLOCK as u64).unwrap_or(0);
            let (block, after) = rest.split_at(aligned.min(rest.len()));
            if block.iter().any(|byte| *byte != 0) {
                self.file.write_all_at(block, self.at)?;
            }
            self.at += block.len() as u64;
            rest = after;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn zeros_become_holes_and_all_else_is_as_it_was() {
        let file = tempfile::tempfile().unwrap();
        let mut writer = SparseWriter::at(&file, 0);
        let mut bytes = vec![0; 4 << 20];
        bytes[3 << 20] = 7;
        bytes[5] = 1;
        for piece in bytes.chunks(10_007) {
            writer.write_all(piece).unwrap();
        }
        assert_eq!(writer.finish().unwrap(), 4 << 20);
        let mut read = vec![9; 4 << 20];
        file.read_exact_at(&mut read, 0).unwrap();
        assert!(read == bytes);
        let allocated = file.metadata().unwrap().blocks() * 512;
        assert!(allocated < 1 << 20, "{allocated} bytes are allocated");
    }
}
