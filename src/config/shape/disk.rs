//! `[[vm.<id>.disk]]`.

use schemars::JsonSchema;

use super::value::{DiskName, Name, Path, Size};

/// A disk. It has one of three keys: `path` for a file or block device that is there already, `image` for a disk
/// made from an image, or `size` alone for an empty one.
///
/// What nkudo makes is `<state-dir>/vms/<id>/<name>.raw` (or `.qcow2`), made when it is not there before the VM
/// starts, and never removed or replaced by a switch: see docs/disks.md. The VM's user is given access to its disks
/// while the VM runs, and to nothing else. Two VMs can have the same one only if both have it read-only.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DiskTable {
    /// Where it is, if it is there already: a file, or a block device.
    ///
    /// Default: none
    /// Example: `path = "/srv/disks/web.raw"`
    /// Becomes: `--disk path=`
    pub path: Option<Path>,

    /// The image that it is made from, by its name in this configuration.
    ///
    /// It is a copy, by reflink where the filesystem can. With `overlay` it holds only what differs from the image;
    /// with `read-only` it is the image itself, which VMs share.
    ///
    /// Default: none
    /// Example: `image = "debian"`
    /// Becomes: the content of the disk when it is made
    pub image: Option<Name>,

    /// Its name, unique in the VM. The guest finds it as `/dev/disk/by-id/virtio-<name>`.
    ///
    /// The file of a disk that nkudo makes is named by it, so every such disk but the first must have one.
    ///
    /// Default: `disk0` for the first, `disk1` for the second …
    /// Example: `name = "data"`
    /// Becomes: `--disk serial=`, and the file's name
    pub name: Option<DiskName>,

    /// What is at `path`. It is never guessed from the content, which the guest can write.
    ///
    /// Default: as the path ends: `.raw` and `.img` are raw, `.qcow2` is qcow2; another must say
    /// Example: `format = "raw"`
    /// Becomes: `--disk image_type=`
    pub format: Option<DiskFormat>,

    /// Whether the guest can only read it.
    ///
    /// Default: `false`
    /// Example: `read-only = true`
    /// Becomes: `--disk readonly=on`
    pub read_only: Option<bool>,

    /// How large it is: at least 1M, at most 1024T, a multiple of 4K. An image's disk cannot be smaller than the image.
    ///
    /// A larger size than the disk has grows it, while the VM runs where the hypervisor can do that, else before
    /// its next start. Shrinking is refused.
    ///
    /// Default: as large as the image
    /// Example: `size = "20G"`
    /// Becomes: the size of the file, sparse
    pub size: Option<Size>,

    /// Whether it holds only what differs from its image, which it needs from then on. Needs cloud-hypervisor 51.
    ///
    /// Default: `false`
    /// Example: `overlay = true`
    /// Becomes: a qcow2 file, and `--disk backing_files=on`
    pub overlay: Option<bool>,

    /// What an empty disk is formatted with when it is made. The whole disk is the filesystem, without partitions.
    ///
    /// Default: none: the guest formats it
    /// Example: `filesystem = "ext4"`
    /// Becomes: `mkfs.ext4`, `mkfs.xfs`, `mkfs.btrfs` or `mkfs.vfat`
    pub filesystem: Option<Filesystem>,

    /// The label of that filesystem: letters, digits, `-`, `_`, `.` and spaces within. At most 16 characters on ext4,
    /// 12 on xfs, 255 on btrfs, 11 on vfat.
    ///
    /// Default: none
    /// Example: `label = "data"`
    /// Becomes: `mkfs -L`; the guest finds it as `/dev/disk/by-label/<label>`
    #[schemars(
        regex(pattern = r"^[A-Za-z0-9_.]([A-Za-z0-9_. -]*[A-Za-z0-9_.-])?$"),
        length(max = 255)
    )]
    pub label: Option<String>,

    /// How much of the host's disks the guest may use.
    ///
    /// Default: no limits
    /// Example: `rate-limit = { bandwidth = "100M", iops = 1000 }`
    /// Becomes: `--disk bw_size=,ops_size=`
    pub rate_limit: Option<RateLimitTable>,
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", inline)]
pub enum DiskFormat {
    Raw,
    Qcow2,
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", inline)]
pub enum Filesystem {
    Ext4,
    Xfs,
    Btrfs,
    Vfat,
}

/// Limits of a disk, of reading and writing together.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RateLimitTable {
    /// So many bytes a second.
    ///
    /// Default: no limit
    /// Example: `bandwidth = "100M"`
    /// Becomes: `--disk bw_size=,bw_refill_time=1000`
    pub bandwidth: Option<Size>,

    /// So many bytes more, once.
    ///
    /// Default: none
    /// Example: `bandwidth-burst = "1G"`
    /// Becomes: `--disk bw_one_time_burst=`
    pub bandwidth_burst: Option<Size>,

    /// So many requests a second.
    ///
    /// Default: no limit
    /// Example: `iops = 1000`
    /// Becomes: `--disk ops_size=,ops_refill_time=1000`
    #[schemars(range(min = 1))]
    pub iops: Option<u32>,

    /// So many requests more, once.
    ///
    /// Default: none
    /// Example: `iops-burst = 5000`
    /// Becomes: `--disk ops_one_time_burst=`
    #[schemars(range(min = 1))]
    pub iops_burst: Option<u32>,
}
