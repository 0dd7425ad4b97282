//! What the first bytes of a disk image say. They may be hostile.

#![deny(clippy::disallowed_methods)]

use crate::host::DiskFormat;

/// How many of them are looked at.
pub(super) const LENGTH: usize = 512;

const QCOW2: &[u8] = b"QFI\xfb";
/// Other formats that a file named raw may turn out to be.
const OTHERS: [(&[u8], &str); 4] = [
    (QCOW2, "qcow2"),
    (b"KDMV", "vmdk"),
    (b"# Disk DescriptorFile", "vmdk"),
    (b"vhdxfile", "vhdx"),
];
const COMPRESSED: [(&[u8], &str); 3] = [
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x1f\x8b", "gz"),
];

/// A disk image as its header describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The size that a guest sees, in bytes.
    pub size: u64,
}

/// Why a file is not the image that it is said to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadImage {
    #[error("it is empty")]
    Empty,
    #[error("it is no qcow2 file, though the configuration says so")]
    NotQcow2,
    #[error(
        "it is a {0} file, though the configuration says that it is raw; say `format = \"{0}\"`"
    )]
    NotRaw(&'static str),
    #[error("it is compressed; say `compression = \"{0}\"`")]
    Compressed(&'static str),
    #[error("its header is cut off or of an unknown version")]
    Header,
    #[error(
        "it refers to another file (a backing file), which nkudo does not follow; flatten it with `qemu-img convert`"
    )]
    Backing,
    #[error(
        "it keeps its data in another file, which nkudo does not follow; flatten it with `qemu-img convert`"
    )]
    DataFile,
    #[error("it is encrypted")]
    Encrypted,
}

impl Header {
    /// Reads the header of an image that must stand for itself. `length` is the file's, in bytes.
    pub fn of_image(format: DiskFormat, first: &[u8], length: u64) -> Result<Self, BadImage> {
        if length == 0 {
            return Err(BadImage::Empty);
        }
        match format {
            DiskFormat::Raw => {
                let begins = |known: &[(&[u8], &'static str)]| {
                    let found = known.iter().find(|(magic, _)| first.starts_with(magic));
                    found.map(|(_, what)| *what)
                };
                if let Some(what) = begins(&COMPRESSED) {
                    return Err(BadImage::Compressed(what));
                }
                if let Some(what) = begins(&OTHERS) {
                    return Err(BadImage::NotRaw(what));
                }
                Ok(Self { size: length })
            }
            DiskFormat::Qcow2 => {
                let header = Qcow2::read(first)?;
                if header.backing != 0 {
                    return Err(BadImage::Backing);
                }
                if header.incompatible & EXTERNAL_DATA != 0 {
                    return Err(BadImage::DataFile);
                }
                if header.encryption != 0 {
                    return Err(BadImage::Encrypted);
                }
                Ok(Self { size: header.size })
            }
        }
    }

    /// Reads the size of a disk that a VM may have written to; what else it says is not trusted.
    pub fn of_disk(format: DiskFormat, first: &[u8], length: u64) -> Result<Self, BadImage> {
        match format {
            DiskFormat::Raw => Ok(Self { size: length }),
            DiskFormat::Qcow2 => Ok(Self {
                size: Qcow2::read(first)?.size,
            }),
        }
    }
}

/// A bit of `incompatible_features`.
const EXTERNAL_DATA: u64 = 1 << 2;

/// The part of a qcow2 header that matters here (docs/interop/qcow2.rst of QEMU); big-endian.
struct Qcow2 {
    backing: u64,
    size: u64,
    encryption: u32,
    /// Only in version 3.
    incompatible: u64,
}

impl Qcow2 {
    fn read(first: &[u8]) -> Result<Self, BadImage> {
        if !first.starts_with(QCOW2) {
            return Err(BadImage::NotQcow2);
        }
        let u32_at = |at: usize| -> Result<u32, BadImage> {
            let bytes = first.get(at..at + 4).and_then(|b| b.try_into().ok());
            bytes.map(u32::from_be_bytes).ok_or(BadImage::Header)
        };
        let u64_at = |at: usize| -> Result<u64, BadImage> {
            let bytes = first.get(at..at + 8).and_then(|b| b.try_into().ok());
            bytes.map(u64::from_be_bytes).ok_or(BadImage::Header)
        };
        let version = u32_at(4)?;
        if !matches!(version, 2 | 3) {
            return Err(BadImage::Header);
        }
        Ok(Self {
            backing: u64_at(8)?,
            size: u64_at(24)?,
            encryption: u32_at(32)?,
            incompatible: if version == 3 { u64_at(72)? } else { 0 },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qcow2(backing: u64, incompatible: u64, encryption: u32) -> Vec<u8> {
        let mut header = vec![0; LENGTH];
        header[..4].copy_from_slice(QCOW2);
        header[4..8].copy_from_slice(&3_u32.to_be_bytes());
        header[8..16].copy_from_slice(&backing.to_be_bytes());
        header[24..32].copy_from_slice(&(20_u64 << 30).to_be_bytes());
        header[32..36].copy_from_slice(&encryption.to_be_bytes());
        header[72..80].copy_from_slice(&incompatible.to_be_bytes());
        header
    }

    #[test]
    fn an_image_that_refers_to_another_file_is_refused() {
        let image = |header: &[u8]| Header::of_image(DiskFormat::Qcow2, header, 1 << 20);
        assert_eq!(image(&qcow2(0, 0, 0)), Ok(Header { size: 20 << 30 }));
        assert_eq!(image(&qcow2(512, 0, 0)), Err(BadImage::Backing));
        assert_eq!(image(&qcow2(0, 4, 0)), Err(BadImage::DataFile));
        assert_eq!(image(&qcow2(0, 0, 1)), Err(BadImage::Encrypted));
        assert_eq!(image(b"QFI\xfb\0\0\0\x03"), Err(BadImage::Header));
        assert_eq!(image(b""), Err(BadImage::NotQcow2));
        // A disk of a VM's own may lie over an image.
        let disk = Header::of_disk(DiskFormat::Qcow2, &qcow2(512, 0, 0), 1 << 20);
        assert_eq!(disk, Ok(Header { size: 20 << 30 }));
    }

    #[test]
    fn a_file_of_another_format_is_no_raw_image() {
        let image = |first: &[u8]| Header::of_image(DiskFormat::Raw, first, 4096);
        assert_eq!(image(&[0; 512]), Ok(Header { size: 4096 }));
        assert_eq!(image(&qcow2(0, 0, 0)), Err(BadImage::NotRaw("qcow2")));
        assert_eq!(image(b"KDMV"), Err(BadImage::NotRaw("vmdk")));
        assert_eq!(image(b"\xfd7zXZ\0\0"), Err(BadImage::Compressed("xz")));
        assert_eq!(
            Header::of_image(DiskFormat::Raw, b"", 0),
            Err(BadImage::Empty)
        );
    }
}
