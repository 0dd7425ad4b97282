//! `[[vm.<id>.share]]`.

use schemars::JsonSchema;

use super::value::Path;

/// A directory of the host that the guest has: `mount -t virtiofs <tag> /mnt`.
///
/// Each is a unit of its own, `nkudo-virtiofsd@<id>.<tag>.service`, that runs virtiofsd while the VM runs,
/// with nothing of the host but the directory. The guest's users are the directory's users: its root is root
/// in there, but makes no device nodes. The VM's memory is `shared`.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ShareTable {
    /// What the guest mounts it by, unique in the VM: 1 to 35 letters, digits, `-` and `_`.
    ///
    /// Example: `tag = "srv"`
    /// Becomes: `--fs tag=`
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]+$"), length(max = 35))]
    pub tag: String,

    /// The directory, which has to be there when the VM starts.
    ///
    /// Example: `source = "/srv/web"`
    /// Becomes: `--shared-dir=` of virtiofsd
    pub source: Path,

    /// Whether the guest can only read.
    ///
    /// Default: `false`
    /// Example: `read-only = true`
    /// Becomes: `--readonly` of virtiofsd, and a mount that is read-only
    pub read_only: Option<bool>,
}
