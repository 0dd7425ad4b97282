//! `[vm.<id>.memory]`.

use schemars::JsonSchema;

use super::value::Size;

#[derive(Debug, JsonSchema)]
#[schemars(untagged, inline)]
pub enum Memory {
    Size(Size),
    Table(MemoryTable),
}

/// Memory with more than a size.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MemoryTable {
    /// What the guest boots with: at least 16M, in whole mebibytes.
    ///
    /// Default: `"512M"`
    /// Example: `size = "1G"`
    /// Becomes: `--memory size=`
    pub size: Option<Size>,

    /// What it can have at most, not less than `size`; the difference can be plugged in while it runs.
    ///
    /// Default: as much as `size`
    /// Example: `max = "8G"`
    /// Becomes: `--memory hotplug_method=virtio-mem,hotplug_size=`
    pub max: Option<Size>,

    /// Backs the memory with huge pages of the host, which must have enough of them free.
    ///
    /// `true` takes the host's default size, `"2M"` or `"1G"` that one. The sizes above must be
    /// multiples of it.
    ///
    /// Default: `false`
    /// Example: `hugepages = "2M"`
    /// Becomes: `--memory hugepages=on,hugepage_size=`
    pub hugepages: Option<HugePages>,

    /// Offers the memory to the kernel's same-page merging. Not with `shared` or `hugepages`.
    ///
    /// Default: `false`
    /// Example: `mergeable = true`
    /// Becomes: `--memory mergeable=on`
    pub mergeable: Option<bool>,

    /// Maps the memory so that other processes can have it, which vhost-user devices need.
    ///
    /// Default: `false`
    /// Example: `shared = true`
    /// Becomes: `--memory shared=on`
    pub shared: Option<bool>,

    /// Gives the guest a balloon: what it does not use goes back to the host.
    ///
    /// `true` is one of size 0.
    ///
    /// Default: `false`
    /// Example: `balloon = { size = "512M" }`
    /// Becomes: `--balloon size=0,deflate_on_oom=on,free_page_reporting=on`
    pub balloon: Option<Balloon>,
}

#[derive(Debug, JsonSchema)]
#[schemars(untagged, inline)]
pub enum Balloon {
    Whether(bool),
    Table(BalloonTable),
}

/// A balloon that is not just there.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BalloonTable {
    /// What the guest is asked to do without, less than the memory and in whole mebibytes. It changes while the
    /// VM runs.
    ///
    /// Default: `"0"`
    /// Example: `size = "512M"`
    /// Becomes: `--balloon size=`, and `vm.resize` while it runs
    pub size: Option<Size>,

    /// Has the guest report the pages that it has freed, for the host to use.
    ///
    /// Default: `true`
    /// Example: `free-page-reporting = false`
    /// Becomes: `--balloon free_page_reporting=`
    pub free_page_reporting: Option<bool>,

    /// Has the balloon give memory back when the guest would run out of it.
    ///
    /// Default: `true`
    /// Example: `deflate-on-oom = false`
    /// Becomes: `--balloon deflate_on_oom=`
    pub deflate_on_oom: Option<bool>,
}

#[derive(Debug, JsonSchema)]
#[schemars(untagged, inline)]
pub enum HugePages {
    Whether(bool),
    Of(PageSize),
}

#[derive(Debug, JsonSchema)]
#[schemars(inline)]
pub enum PageSize {
    #[schemars(rename = "2M")]
    TwoMebibytes,
    #[schemars(rename = "1G")]
    OneGibibyte,
}
