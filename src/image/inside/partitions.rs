//! Where the filesystems of an image are: a GPT, an MBR, or all of it.

use std::fs::File;
use std::sync::Arc;

use gpt::disk::LogicalBlockSize;
use gpt::header::read_header_from_arbitrary_device;
use gpt::partition::file_read_partitions;

use super::NoKernel;
use super::slice::Slice;

const SECTOR: u64 = 512;
/// Far more than any image has.
const MOST: u32 = 1024;

/// The root filesystem of this architecture (UAPI.2, Discoverable Partitions).
const ROOT: &str = if cfg!(target_arch = "aarch64") {
    "b921b045-1df0-41c3-af44-4c6f280d3fae"
} else {
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
};

#[derive(Debug)]
pub(super) struct Partition {
    /// `partition 1`, or `all of it`.
    pub(super) name: String,
    pub(super) slice: Slice,
    /// By which the kernel knows it.
    pub(super) uuid: Option<String>,
    /// Whether the table says that the root filesystem is here.
    pub(super) is_root: bool,
}

pub(super) fn partitions(image: &File, length: u64) -> Result<Vec<Partition>, NoKernel> {
    let image = Arc::new(image.try_clone()?);
    let whole = Slice::new(Arc::clone(&image), 0, length);
    let sector: [u8; 512] = whole.bytes(0);
    if whole.bytes(SECTOR) == *b"EFI PART" {
        return of_gpt(&image, length);
    }
    // A FAT without partitions has the same mark; its first bytes are a jump.
    let is_fat = sector[0] == 0xeb || sector[0] == 0xe9;
    if sector[510..] == [0x55, 0xaa] && !(is_fat && sector[11..13] == [0, 2]) {
        let parts = of_mbr(&image, length, &sector);
        if !parts.is_empty() {
            return Ok(parts);
        }
    }
    Ok(vec![Partition {
        name: "all of it".to_owned(),
        slice: whole,
        uuid: None,
        is_root: false,
    }])
}

fn of_gpt(image: &Arc<File>, length: u64) -> Result<Vec<Partition>, NoKernel> {
    let bad = |err: &dyn std::fmt::Display| NoKernel::Table(err.to_string());
    let mut device = Slice::new(Arc::clone(image), 0, length);
    let sector = LogicalBlockSize::Lb512;
    let header = read_header_from_arbitrary_device(&mut device, sector).map_err(|err| bad(&err))?;
    if header.part_size != 128 || header.num_parts > MOST {
        return Err(bad(&"it has entries of an odd size, or too many"));
    }
    let entries = file_read_partitions(&mut device, &header, sector).map_err(|err| bad(&err))?;
    let parts = entries.into_iter().filter_map(|(number, entry)| {
        let start = entry.first_lba.checked_mul(SECTOR)?;
        let sectors = entry
            .last_lba
            .checked_sub(entry.first_lba)?
            .checked_add(1)?;
        let size = sectors.checked_mul(SECTOR)?.min(length.checked_sub(start)?);
        Some(Partition {
            name: format!("partition {number}"),
            slice: Slice::new(Arc::clone(image), start, size),
            uuid: Some(entry.part_guid.to_string()),
            is_root: entry.part_type_guid.guid.to_string().to_lowercase() == ROOT,
        })
    });
    Ok(parts.collect())
}

/// The primary partitions: logical ones are in a chain that no image of today has.
fn of_mbr(image: &Arc<File>, length: u64, sector: &[u8; 512]) -> Vec<Partition> {
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    };
    let disk = number(&sector[440..444]);
    let entries = sector[446..510].chunks_exact(16).enumerate();
    let parts = entries.filter_map(|(index, entry)| {
        let (start, size) = (
            number(&entry[8..12]) * SECTOR,
            number(&entry[12..16]) * SECTOR,
        );
        let size = size.min(length.checked_sub(start)?);
        (entry[4] != 0 && size > 0).then(|| Partition {
            name: format!("partition {}", index + 1),
            slice: Slice::new(Arc::clone(image), start, size),
            uuid: Some(format!("{disk:08x}-{:02x}", index + 1)),
            is_root: false,
        })
    });
    parts.collect()
}
