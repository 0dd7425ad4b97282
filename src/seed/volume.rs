//! The seed as a FAT volume labelled CIDATA.

use std::io::{self, Cursor, Write as _};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};

/// What cloud-init looks for (its documentation, "NoCloud").
const LABEL: [u8; 11] = *b"CIDATA     ";
/// Always the same, so that the volume's bytes are: `nk` and a number.
const VOLUME_ID: u32 = 0x6e6b_0001;
/// Room for the volume's own tables. Less than this is no smaller on a tmpfs, which keeps no zeros.
const LEAST: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
#[error("cannot make the seed's volume of {size} bytes")]
pub struct VolumeError {
    size: usize,
    source: io::Error,
}

/// The bytes of a volume with these files in it. The same files give the same bytes: without its
/// feature `chrono`, fatfs dates every file 1980-01-01.
pub fn volume<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<Vec<u8>, VolumeError> {
    let files: Vec<_> = files.into_iter().collect();
    let content: usize = files
        .iter()
        .map(|(_, bytes)| bytes.len() + (64 << 10))
        .sum();
    // A sixteenth for the allocation table, and whole mebibytes: a disk of 512-byte sectors.
    let size = (content + content / 16).next_multiple_of(LEAST).max(LEAST);
    write(size, &files).map_err(|source| VolumeError { size, source })
}

fn write(size: usize, files: &[(&str, &[u8])]) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size];
    let mut storage = Cursor::new(bytes.as_mut_slice());
    let options = FormatVolumeOptions::new()
        .volume_label(LABEL)
        .volume_id(VOLUME_ID);
    fatfs::format_volume(&mut storage, options)?;
    let volume = FileSystem::new(&mut storage, FsOptions::new())?;
    for (name, content) in files {
        let mut file = volume.root_dir().create_file(name)?;
        file.truncate()?;
        file.write_all(content)?;
        file.flush()?;
    }
    volume.unmount()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_volume_holds_its_files_and_is_the_same_each_time() {
        let large = vec![b'x'; 3 << 20];
        let files: [(&str, &[u8]); 3] =
            [("meta-data", b"a"), ("user-data", &large), ("empty", b"")];
        let bytes = volume(files).unwrap();
        assert_eq!(bytes, volume(files).unwrap());
        let read = FileSystem::new(Cursor::new(bytes), FsOptions::new()).unwrap();
        assert_eq!(read.volume_label(), "CIDATA");
        assert_eq!(
            read.read_volume_label_from_root_dir().unwrap().as_deref(),
            Some("CIDATA")
        );
        for (name, content) in files {
            let mut found = Vec::new();
            let mut file = read.root_dir().open_file(name).unwrap();
            file.read_to_end(&mut found).unwrap();
            assert_eq!(found, content, "{name}");
        }
    }
}
