//! The filesystems in which a kernel may be.

use std::io::{self, Read};

use ext4_view::Ext4;

use super::slice::Slice;

/// Entries of a directory that are looked at: one may be without end.
const MOST: usize = 10_000;

pub(super) enum Filesystem {
    /// ext2 and ext3 too.
    Ext4(Ext4),
    Fat(Box<fatfs::FileSystem<Slice>>),
}

impl Filesystem {
    /// Opens what is there, or says what that is.
    pub(super) fn open(slice: &Slice) -> Result<Self, String> {
        if slice.bytes(1080) == [0x53, 0xef] {
            let ext4 = Ext4::load(Box::new(slice.clone()));
            return ext4
                .map(Self::Ext4)
                .map_err(|err| format!("an ext4 that cannot be read ({err})"));
        }
        if let Some(other) = other(slice) {
            return Err(format!("{other}, which nkudo does not read"));
        }
        if slice.bytes(510) == [0x55, 0xaa] {
            let fat = fatfs::FileSystem::new(slice.clone(), fatfs::FsOptions::new());
            return fat
                .map(|fat| Self::Fat(Box::new(fat)))
                .map_err(|err| format!("a FAT that cannot be read ({err})"));
        }
        Err("nothing that nkudo knows".to_owned())
    }

    /// The names in a directory, sorted; none where there is no directory.
    pub(super) fn names(&self, directory: &str) -> Vec<String> {
        let mut names: Vec<String> = match self {
            Self::Ext4(ext4) => {
                let Ok(entries) = ext4.read_dir(directory) else {
                    return Vec::new();
                };
                // Whatever comes after an error in it is not to be trusted.
                let entries = entries.take(MOST).map_while(Result::ok);
                entries
                    .filter_map(|entry| entry.file_name().as_str().ok().map(str::to_owned))
                    .collect()
            }
            Self::Fat(fat) => {
                let root = fat.root_dir();
                let directory = match directory.trim_matches('/') {
                    "" => root,
                    below => match root.open_dir(below) {
                        Ok(directory) => directory,
                        Err(_) => return Vec::new(),
                    },
                };
                let entries = directory.iter().take(MOST).map_while(Result::ok);
                entries.map(|entry| entry.file_name()).collect()
            }
        };
        names.sort();
        names
    }

    /// A file's length and its content. Symbolic links lead nowhere but within this filesystem.
    pub(super) fn file(&self, path: &str) -> io::Result<(u64, Box<dyn Read + '_>)> {
        match self {
            Self::Ext4(ext4) => {
                let metadata = ext4.metadata(path).map_err(io::Error::other)?;
                if !metadata.file_type().is_regular_file() {
                    return Err(io::Error::other("it is not a regular file"));
                }
                let file = ext4.open(path).map_err(io::Error::other)?;
                Ok((metadata.len(), Box::new(file)))
            }
            Self::Fat(fat) => {
                let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
                let directory = match above.trim_matches('/') {
                    "" => fat.root_dir(),
                    below => fat.root_dir().open_dir(below)?,
                };
                let entries = directory.iter().take(MOST).map_while(Result::ok);
                let mut named = entries
                    .filter(fatfs::DirEntry::is_file)
                    .filter(|entry| entry.file_name().eq_ignore_ascii_case(name));
                let entry = named.next();
                let entry = entry.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
                Ok((entry.len(), Box::new(entry.to_file())))
            }
        }
    }

    /// The text of a small file.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let mut text = String::new();
        let (_, file) = self.file(path).ok()?;
        file.take(64 << 10).read_to_string(&mut text).ok()?;
        Some(text)
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.file(path).is_ok()
    }

    /// The name of the file that a symbolic link leads to in the end.
    pub(super) fn target_name(&self, path: &str) -> Option<String> {
        let Self::Ext4(ext4) = self else { return None };
        let target = ext4.canonicalize(path).ok()?;
        let target = target.to_str().ok()?.to_owned();
        target.rsplit('/').next().map(str::to_owned)
    }

    /// Whether it is a system's root.
    pub(super) fn is_root(&self) -> bool {
        let Self::Ext4(ext4) = self else { return false };
        let has = |path: &str| ext4.exists(path).unwrap_or(false);
        has("/etc") && (has("/sbin") || has("/usr"))
    }

    pub(super) fn uuid(&self) -> Option<String> {
        match self {
            Self::Ext4(ext4) => Some(ext4.uuid().to_string()),
            Self::Fat(_) => None,
        }
    }

    /// What it is, where it has no kernel.
    pub(super) fn told(&self) -> String {
        match self {
            Self::Ext4(_) => "ext4 without a kernel in /boot".to_owned(),
            Self::Fat(_) => {
                let unified = self.names("/EFI/Linux");
                let is_unified = |name: &String| name.to_lowercase().ends_with(".efi");
                if unified.iter().any(is_unified) {
                    "FAT with unified kernel images, which only a firmware boots".to_owned()
                } else {
                    "FAT without a kernel".to_owned()
                }
            }
        }
    }
}

/// What is known by its magic number, and not read.
fn other(slice: &Slice) -> Option<&'static str> {
    let magic: [(&str, u64, &[u8]); 7] = [
        ("xfs", 0, b"XFSB"),
        ("btrfs", 0x10040, b"_BHRfS_M"),
        ("LVM", 512, b"LABELONE"),
        ("encrypted by LUKS", 0, b"LUKS\xba\xbe"),
        ("squashfs", 0, b"hsqs"),
        ("erofs", 1024, &[0xe2, 0xe1, 0xf5, 0xe0]),
        ("swap", 4086, b"SWAPSPACE2"),
    ];
    let found = magic.iter().find(|(_, at, bytes)| {
        let mut there = [0; 10];
        let there = &mut there[..bytes.len()];
        slice
            .read_at(*at, there)
            .is_ok_and(|read| read == bytes.len())
            && there == *bytes
    });
    found.map(|(name, ..)| *name)
}
