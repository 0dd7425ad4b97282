//! Decompression. What is read has the right checksum already.

use std::fs::File;
use std::io::{self, BufReader, Read, Write as _};

use super::Progress;
use super::sparse::SparseWriter;
use crate::host::Compression;

/// Decompresses `from` into `to`, an empty file; how many bytes that came to.
pub(super) fn unpack(
    from: &File,
    compression: Compression,
    to: &File,
    progress: &Progress,
) -> io::Result<u64> {
    let packed = BufReader::with_capacity(1 << 20, from);
    match compression {
        Compression::None => write(packed, to, progress),
        // Several members after one another, as gzip(1) takes them, and xz(1) and zstd(1) streams and frames.
        Compression::Gz => write(flate2::bufread::MultiGzDecoder::new(packed), to, progress),
        Compression::Xz => write(lzma_rust2::XzReader::new(packed, true), to, progress),
        Compression::Zstd => write(Zstd::new(packed), to, progress),
    }
}

fn write(mut from: impl Read, to: &File, progress: &Progress) -> io::Result<u64> {
    let mut writer = SparseWriter::at(to, 0);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return writer.finish(),
            Ok(length) => {
                writer.write_all(&buffer[..length])?;
                progress.at(writer.position());
            }
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
}

/// All the frames of a zstd file: `ruzstd` decodes one at a time.
struct Zstd<R: Read> {
    frame: Option<ruzstd::decoding::StreamingDecoder<BufReader<R>, ruzstd::decoding::FrameDecoder>>,
    rest: Option<BufReader<R>>,
}

impl<R: Read> Zstd<R> {
    fn new(from: R) -> Self {
        Self {
            frame: None,
            rest: Some(BufReader::new(from)),
        }
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::io::BufRead as _;
        loop {
            if let Some(frame) = &mut self.frame {
                let length = frame.read(buffer)?;
                if length > 0 {
                    return Ok(length);
                }
            }
            if let Some(frame) = self.frame.take() {
                self.rest = Some(frame.into_inner());
            }
            let Some(mut rest) = self.rest.take() else {
                return Ok(0);
            };
            if rest.fill_buf()?.is_empty() {
                return Ok(0);
            }
            match ruzstd::decoding::StreamingDecoder::new(rest) {
                Ok(frame) => self.frame = Some(frame),
                Err(err) => return Err(io::Error::other(err.to_string())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Seek as _;
    use std::process::{Command, Stdio};

    /// What the usual program makes of these bytes, twice in a row: two members or frames.
    fn packed(program: &str, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut all = Vec::new();
        for half in bytes.chunks(bytes.len().div_ceil(2)) {
            let mut child = Command::new(program)
                .arg("-c")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .ok()?;
            let mut stdin = child.stdin.take()?;
            let half = half.to_owned();
            let writing = std::thread::spawn(move || stdin.write_all(&half));
            all.extend(child.wait_with_output().ok()?.stdout);
            writing.join().ok()?.ok()?;
        }
        Some(all)
    }

    fn unpacked(compression: Compression, packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut from = tempfile::tempfile().unwrap();
        from.write_all(packed).unwrap();
        from.rewind().unwrap();
        let mut to = tempfile::tempfile().unwrap();
        let length = unpack(&from, compression, &to, &Progress::begin("test"))?;
        let mut bytes = Vec::new();
        to.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, length);
        Ok(bytes)
    }

    #[test]
    fn what_the_usual_programs_pack_is_unpacked() {
        let mut bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        bytes.extend(vec![0; 1 << 20]);
        bytes.push(1);
        for (program, compression) in [
            ("gzip", Compression::Gz),
            ("xz", Compression::Xz),
            ("zstd", Compression::Zstd),
        ] {
            // A machine that lacks one still proves the others.
            let Some(packed) = packed(program, &bytes) else {
                continue;
            };
            assert!(
                unpacked(compression, &packed).unwrap() == bytes,
                "{program}"
            );
            for broken in [&packed[..packed.len() - 9], b"no such format", b"\0\0"] {
                assert!(unpacked(compression, broken).is_err(), "{program}");
            }
        }
    }
}
