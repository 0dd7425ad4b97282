//! `[image.<name>]`.

use schemars::JsonSchema;

use super::value::{PathOrUrl, Sha256};

/// What disks are made from, and what VMs can share for reading. An image is never written to.
///
/// One from a URL is fetched once, by `nkudo switch` when a VM needs it or by `nkudo image pull`, and kept in
/// `<state-dir>/images/` under its checksum. One by path is used where it is, and copied there only if it is
/// decompressed or converted. See docs/disks.md.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ImageTable {
    /// Where it is: an absolute path, or a URL.
    ///
    /// Example: `source = "https://images.example/debian-13.qcow2"`
    /// Becomes: what is fetched, or what disks are cloned from
    pub source: PathOrUrl,

    /// The checksum of the file at `source`, as its publisher gives it: before decompression.
    ///
    /// Required for a URL, and for an image that is decompressed or converted. Another file is refused.
    ///
    /// Default: none
    /// Example: `sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"`
    /// Becomes: the name in `<state-dir>/images/`
    pub sha256: Option<Sha256>,

    /// What it holds, once it is decompressed. It is never guessed from the content.
    ///
    /// Default: as the name of `source` ends: `.raw`, `.qcow2`, `.vmdk`, `.vhdx`, `.vhd` or `.vdi`; another must say
    /// Example: `format = "qcow2"`
    /// Becomes: the format of disks made from it, unless it is converted
    pub format: Option<ImageFormat>,

    /// How it is compressed.
    ///
    /// Default: as the name of `source` ends: `.gz`, `.xz`, `.zst` or `.zstd`; not at all otherwise
    /// Example: `compression = "xz"`
    /// Becomes: the file in the image store, decompressed
    pub compression: Option<Compression>,

    /// What it is converted to. A format other than raw and qcow2 has to be converted.
    ///
    /// qemu-img does it, as an unprivileged user who sees this image and nothing else.
    ///
    /// Default: none: it is used as it is
    /// Example: `convert = "raw"`
    /// Becomes: `qemu-img convert`
    pub convert: Option<Convert>,

    /// The kernel that its publisher gives beside it (a path, a URL with its checksum, or both), or `"inside"`: the
    /// one in the image's own filesystem, with the initrd that is there.
    ///
    /// VMs whose first disk is of this image, and that have no `kernel` and `firmware` of their own, boot it.
    /// A disk that was made keeps booting the kernel that it was made with. `"inside"` needs the image's `sha256`, and
    /// a kernel in ext4 or FAT; see docs/disks.md for which one is taken, and how it finds its root filesystem.
    ///
    /// Default: none
    /// Example: `kernel = { source = "https://images.example/vmlinuz", sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" }`
    /// Becomes: `--kernel`
    pub kernel: Option<ImageKernel>,

    /// The initial RAM disk of that kernel, likewise.
    ///
    /// Default: none
    /// Example: `initrd = "/srv/images/initrd"`
    /// Becomes: `--initramfs`
    pub initrd: Option<BootFile>,

    /// The command line of that kernel; a VM's own goes before it. With `kernel = "inside"` it is added to what the
    /// image says, and has at most 1023 bytes.
    ///
    /// Default: none
    /// Example: `cmdline = "root=/dev/vda1 console=ttyS0"`
    /// Becomes: `--cmdline`
    #[schemars(regex(pattern = r"^[ -~]+$"), length(max = 2047))]
    pub cmdline: Option<String>,
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", inline)]
pub enum ImageFormat {
    Raw,
    Qcow2,
    Vmdk,
    Vhdx,
    Vhd,
    Vdi,
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", inline)]
pub enum Compression {
    None,
    Gz,
    Xz,
    Zstd,
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", inline)]
pub enum Convert {
    Raw,
}

#[derive(Debug, JsonSchema)]
#[schemars(untagged, inline)]
pub enum ImageKernel {
    Inside(Inside),
    Path(PathOrUrl),
    Table(BootFileTable),
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", inline)]
pub enum Inside {
    Inside,
}

#[derive(Debug, JsonSchema)]
#[schemars(untagged, inline)]
pub enum BootFile {
    Path(PathOrUrl),
    Table(BootFileTable),
}

/// A kernel or an initial RAM disk, and its checksum.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BootFileTable {
    /// Where it is: an absolute path, or a URL.
    ///
    /// Example: `source = "https://images.example/vmlinuz"`
    /// Becomes: what is fetched
    pub source: PathOrUrl,

    /// Its checksum. Required for a URL.
    ///
    /// Default: none
    /// Example: `sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"`
    /// Becomes: the name in `<state-dir>/images/`
    pub sha256: Option<Sha256>,
}
