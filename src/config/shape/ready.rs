//! `[vm.<id>.ready]`.

use schemars::JsonSchema;

#[derive(Debug, JsonSchema)]
#[schemars(untagged, inline)]
pub enum Ready {
    When(When),
    Table(ReadyTable),
}

/// When a VM's start is done: what `nkudo switch` and VMs with it in their `after` wait for.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ReadyTable {
    /// What must have happened.
    ///
    /// Default: `"vmm"`
    /// Example: `when = "guest"`
    /// Becomes: for `guest`, `--vsock` and `--platform oem_strings=`; what nkudo-ready@`<id>`.service waits for
    pub when: Option<When>,

    /// What becomes of a VM that is not ready within its `start-timeout`.
    ///
    /// Default: `"continue"`
    /// Example: `on-timeout = "fail"`
    /// Becomes: the exit code of `nkudo unit ready` or `nkudo unit await`
    pub on_timeout: Option<OnTimeout>,
}

/// `"vmm"`: the VMM says that the guest's CPUs run. `"guest"`: the guest's systemd says that it has
/// booted. `"tcp:22"`: the guest takes connections on that port, at an `address` of its NICs.
#[derive(Debug, JsonSchema)]
#[schemars(title = "readiness")]
pub struct When(#[schemars(regex(pattern = r"^(vmm|guest|tcp:[1-9][0-9]{0,4})$"))] pub String);

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", inline)]
pub enum OnTimeout {
    /// It runs on, with a warning in the journal.
    Continue,
    /// Its start fails, and systemd stops it.
    Fail,
}
