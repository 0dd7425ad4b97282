//! Images: what disks are made from, and the files that nkudo keeps of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{AbsolutePath, CmdLine, DiskFormat};

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
        use fmt::Write as _;
        Self(bytes.iter().fold(String::new(), |mut out, byte| {
            let _ = write!(out, "{byte:02x}");
            out
        }))
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

impl TryFrom<String> for Sha256 {
    type Error = BadSha256;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Sha256> for String {
    fn from(sha256: Sha256) -> Self {
        sha256.0
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An `https://` or `http://` URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Url(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

/// Why a text is not such a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    #[error("it begins with neither `https://` nor `http://`")]
    Scheme,
    #[error("it names no host")]
    Host,
    #[error("it holds {0:?}, which has to be percent-encoded in a URL")]
    Character(char),
    #[error("it holds a password, which every generation and log would show")]
    Credentials,
    #[error("it is longer than 2000 bytes")]
    TooLong,
}

impl Url {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn scheme(&self) -> Scheme {
        if self.0.starts_with("https:") {
            Scheme::Https
        } else {
            Scheme::Http
        }
    }

    /// The host's name or address, without brackets and port.
    pub fn host(&self) -> &str {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
        match authority.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or(rest),
            None => authority.split(':').next().unwrap_or(authority),
        }
    }

    /// Where a redirect from here leads (`Location`, RFC 9110, 10.2.2).
    pub fn join(&self, location: &str) -> Result<Self, BadUrl> {
        let is_whole = location
            .split_once("://")
            .is_some_and(|(scheme, _)| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        if is_whole {
            return location.parse();
        }
        let (scheme, rest) = self.0.split_once("://").ok_or(BadUrl::Scheme)?;
        if let Some(rest) = location.strip_prefix("//") {
            return format!("{scheme}://{rest}").parse();
        }
        let end = rest.find(['?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest[..end].split_at(rest.find('/').unwrap_or(end).min(end));
        let above = match location.strip_prefix('/') {
            Some(_) => "",
            None => path.rsplit_once('/').map_or("", |(above, _)| above),
        };
        let location = location.strip_prefix('/').unwrap_or(location);
        format!("{scheme}://{authority}{above}/{location}").parse()
    }

    /// The part that names a file, without query and fragment.
    pub fn file_name(&self) -> &str {
        let end = self.0.find(['?', '#']).unwrap_or(self.0.len());
        let path = &self.0[..end];
        path.rsplit('/').next().unwrap_or(path)
    }
}

impl FromStr for Url {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"))
            .ok_or(BadUrl::Scheme)?;
        if text.len() > 2000 {
            return Err(BadUrl::TooLong);
        }
        let unsafe_in_urls = |c: &char| !c.is_ascii_graphic() || "\"<>\\^`{|}".contains(*c);
        if let Some(bad) = text.chars().find(unsafe_in_urls) {
            return Err(BadUrl::Character(bad));
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
        if authority.contains('@') {
            return Err(BadUrl::Credentials);
        }
        if authority.is_empty() || authority.starts_with(':') {
            return Err(BadUrl::Host);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Url {
    type Error = BadUrl;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Url> for String {
    fn from(url: Url) -> Self {
        url.0
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_could_not_be_fetched_or_would_tell_secrets_are_refused() {
        for good in ["https://a.example/b.qcow2", "http://[::1]:8080/b?c=d#e"] {
            assert!(good.parse::<Url>().is_ok(), "{good}");
        }
        for (text, why) in [
            ("ftp://a.example/b", BadUrl::Scheme),
            ("https:///b", BadUrl::Host),
            ("https://a.example/b c", BadUrl::Character(' ')),
            ("https://me:secret@a.example/b", BadUrl::Credentials),
        ] {
            assert_eq!(text.parse::<Url>(), Err(why), "{text}");
        }
        let url: Url = "https://a.example/d/i.raw.xz?token=/x".parse().unwrap();
        assert_eq!(url.file_name(), "i.raw.xz");
    }

    #[test]
    fn a_redirect_leads_where_the_server_means() {
        let from: Url = "https://a.example:1/b/c?d=/e".parse().unwrap();
        for (location, to) in [
            ("https://x.example/y", "https://x.example/y"),
            ("//x.example/y", "https://x.example/y"),
            ("/y?z=1", "https://a.example:1/y?z=1"),
            ("/y?z=https://b", "https://a.example:1/y?z=https://b"),
            ("y", "https://a.example:1/b/y"),
        ] {
            assert_eq!(from.join(location).unwrap().as_str(), to);
        }
        let bare: Url = "http://a.example".parse().unwrap();
        assert_eq!(bare.join("y").unwrap().as_str(), "http://a.example/y");
        assert_eq!(from.join("ftp://a.example/b"), Err(BadUrl::Scheme));
        assert_eq!(from.join("//me:secret@b/"), Err(BadUrl::Credentials));
        assert_eq!(from.host(), "a.example");
        let six: Url = "http://[::1]:8080/b".parse().unwrap();
        assert_eq!((six.host(), six.scheme()), ("::1", Scheme::Http));
    }

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
