//! A part of an image, as the readers of filesystems want it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use ext4_view::Ext4Read;

/// Never reaches beyond its ends, whatever is asked of it.
#[derive(Debug, Clone)]
pub(super) struct Slice {
    file: Arc<File>,
    start: u64,
    length: u64,
    at: u64,
}

impl Slice {
    pub(super) fn new(file: Arc<File>, start: u64, length: u64) -> Self {
        Self {
            file,
            start,
            length,
            at: 0,
        }
    }

    /// Reads what there is, up to the length of the buffer.
    pub(super) fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.length.saturating_sub(at);
        let length = usize::try_from(rest).map_or(buffer.len(), |rest| rest.min(buffer.len()));
        let Some(at) = self.start.checked_add(at) else {
            return Ok(0);
        };
        self.file.read_at(&mut buffer[..length], at)
    }

    /// Reads so many bytes at a place; zeros where there are none.
    pub(super) fn bytes<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        match self.read_at(at, &mut bytes) {
            Ok(length) if length == N => bytes,
            _ => [0; N],
        }
    }
}

impl Read for Slice {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.read_at(self.at, buffer)?;
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for Slice {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
        };
        self.at = to.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

/// The reader of FAT can write too.
impl Write for Slice {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Ext4Read for Slice {
    fn read(
        &mut self,
        start: u64,
        to: &mut [u8],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync + 'static>> {
        let mut done = 0;
        while done < to.len() {
            match self.read_at(start.saturating_add(done as u64), &mut to[done..])? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                more => done += more,
            }
        }
        Ok(())
    }
}
