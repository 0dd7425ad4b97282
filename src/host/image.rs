//! Images: what disks are made from, and the files that nkudo keeps of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{AbsolutePath, CmdLine, DiskFormat, Url, by_text};

/// `[image.<name>]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Image {
    pub disk: ImageFile,
    /// What disks made of it have.
    pub format: DiskFormat,
    /// To boot it without a firmware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<ImageBoot>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum ImageBoot {
    /// What its publisher gives beside it.
    Beside {
        kernel: ImageFile,
        #[serde(skip_serializing_if = "Option::is_none")]
        initrd: Option<ImageFile>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cmdline: Option<CmdLine>,
    },
    /// What is in its own filesystem.
    Inside {
        kernel: InsideWord,
        #[serde(skip_serializing_if = "Option::is_none")]
        cmdline: Option<CmdLine>,
    },
}

/// The word that stands in the place of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InsideWord {
    Inside,
}

/// Where a file of an image is used from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ImageFile {
    /// Where it is. Its checksum, where one is known, is compared when a disk is made of it.
    Here {
        path: AbsolutePath,
        #[serde(skip_serializing_if = "Option::is_none")]
        sha256: Option<Sha256>,
    },
    /// From the image store, which gets it first.
    Stored(StoredFile),
}

/// A file of the image store: what it is made of, which is also its name there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StoredFile {
    pub from: Location,
    /// Of the file at `from`, as its publisher gives it: before decompression and conversion.
    pub sha256: Sha256,
    pub compression: Compression,
    pub form: Form,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Location {
    Url(Url),
    Path(AbsolutePath),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    None,
    Gz,
    Xz,
    Zstd,
}

/// What is in the file, and what becomes of it in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    Raw,
    Qcow2,
    /// Converted to raw by qemu-img.
    ToRaw(ForeignFormat),
    /// No disk, but a kernel or an initrd.
    Boot,
}

/// Formats that can be converted to raw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForeignFormat {
    Qcow2,
    Vmdk,
    Vhdx,
    Vhd,
    Vdi,
}

impl ForeignFormat {
    /// In the words of a file.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vhdx => "vhdx",
            Self::Vhd => "vhd",
            Self::Vdi => "vdi",
        }
    }

    /// In the words of qemu-img, which calls VHD `vpc`.
    pub const fn qemu(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vhdx => "vhdx",
            Self::Vhd => "vpc",
            Self::Vdi => "vdi",
        }
    }
}

impl StoredFile {
    /// Its name in the image store: the same name, the same content. `<sha256>.qcow2`,
    /// `<sha256>-xz.raw`, `<sha256>-qcow2.raw`.
    pub fn name(&self) -> String {
        let compression = match self.compression {
            Compression::None => "",
            Compression::Gz => "-gz",
            Compression::Xz => "-xz",
            Compression::Zstd => "-zstd",
        };
        let (from, extension) = match self.form {
            Form::Raw => (None, "raw"),
            Form::Qcow2 => (None, "qcow2"),
            Form::ToRaw(format) => (Some(format), "raw"),
            Form::Boot => (None, "boot"),
        };
        let from = from.map_or_else(String::new, |format| format!("-{}", format.qemu()));
        format!("{}{compression}{from}.{extension}", self.sha256)
    }
}

/// Ends the name of the record of an image's own kernel.
pub const INSIDE: &str = ".inside";

impl ImageFile {
    /// Where it is, once it is there.
    pub fn path(&self, state_dir: &AbsolutePath) -> AbsolutePath {
        match self {
            Self::Here { path, .. } => path.clone(),
            Self::Stored(file) => state_dir.join(&["images", &file.name()]),
        }
    }

    /// What the store calls the record of the kernel inside; `None` for a file of which the content is not known.
    pub fn inside(&self) -> Option<String> {
        Some(match self {
            Self::Here { sha256, .. } => format!("{}{INSIDE}", sha256.as_ref()?),
            Self::Stored(file) => format!("{}{INSIDE}", file.name()),
        })
    }

    /// What it is known by: its content, or its path where that is not known.
    pub fn identity(&self) -> String {
        match self {
            Self::Here {
                sha256: Some(sha256),
                ..
            } => format!("sha256:{sha256}"),
            Self::Here { path, .. } => format!("path:{path}"),
            Self::Stored(file) => format!("sha256:{}", file.sha256),
        }
    }
}

impl Image {
    pub fn files(&self) -> impl Iterator<Item = &ImageFile> {
        let (kernel, initrd) = match &self.boot {
            Some(ImageBoot::Beside { kernel, initrd, .. }) => (Some(kernel), initrd.as_ref()),
            Some(ImageBoot::Inside { .. }) | None => (None, None),
        };
        std::iter::once(&self.disk).chain(kernel).chain(initrd)
    }

    /// What the store calls the record of the kernel inside, where the image is booted by that.
    pub fn inside(&self) -> Option<String> {
        match &self.boot {
            Some(ImageBoot::Inside { .. }) => self.disk.inside(),
            _ => None,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => url.fmt(f),
            Self::Path(path) => path.fmt(f),
        }
    }
}

/// A SHA-256 checksum, as 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(String);

/// Why a text is not a checksum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSha256 {
    #[error("it has {0} characters, not 64")]
    Length(usize),
    #[error("it holds {0:?}, which is no hexadecimal digit")]
    Digit(char),
}

impl Sha256 {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The checksum that a hash function came to.
    pub fn of_bytes(bytes: &[u8; 32]) -> Self {
        Self(hex::encode(bytes))
    }
}

impl FromStr for Sha256 {
    type Err = BadSha256;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(bad) = text.chars().find(|c| !c.is_ascii_hexdigit()) {
            return Err(BadSha256::Digit(bad));
        }
        if text.len() != 64 {
            return Err(BadSha256::Length(text.len()));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

by_text!(Sha256);

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_file_is_named_by_its_content_and_by_what_was_made_of_it() {
        let sha256: Sha256 = "AB".repeat(32).parse().unwrap();
        let mut file = StoredFile {
            from: Location::Url("https://a.example/b".parse().unwrap()),
            sha256: sha256.clone(),
            compression: Compression::Xz,
            form: Form::ToRaw(ForeignFormat::Vhd),
        };
        assert_eq!(file.name(), format!("{sha256}-xz-vpc.raw"));
        file.compression = Compression::None;
        file.form = Form::Qcow2;
        assert_eq!(file.name(), format!("{}.qcow2", "ab".repeat(32)));
    }
}
