//! `[host.tuning]` and the tables below it.

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::value::TimeSpan;

/// Settings of the host's kernel that VMs gain from. A switch sets them before VMs start; what is not here is left as it is.
///
/// They are files in /run/sysctl.d and /run/tmpfiles.d too, so that whatever reads these sets the same. What leaves the file is
/// given back: a switch sets what there was before, unless somebody has changed it since.
/// The limit of open files is no setting of the host: each VM's unit has its own.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TuningTable {
    /// How many huge pages the kernel keeps, by their size, for VMs with `memory.hugepages`.
    ///
    /// Default: `{}`
    /// Example: `hugepages = { "2M" = 512 }`
    /// Becomes: a line of a file in /run/tmpfiles.d
    pub hugepages: Option<HugePagesTable>,

    /// The kernel's merging of equal pages, for VMs with `memory.mergeable`.
    ///
    /// Default: `{}`
    /// Example: `ksm = { run = true }`
    /// Becomes: lines of a file in /run/tmpfiles.d
    pub ksm: Option<KsmTable>,

    /// Who chooses the CPUs' frequency.
    ///
    /// Default: as the host has it
    /// Example: `cpu-governor = "performance"`
    /// Becomes: a line of a file in /run/tmpfiles.d
    pub cpu_governor: Option<Governor>,

    /// Kernel settings by name (sysctl.d(5)): an integer, or a string.
    ///
    /// A name has its dots in quotes: `"vm.swappiness"`. Where a link's name has a dot, parts are separated by `/`:
    /// `"net/ipv4/conf/eth0.5/rp_filter"`. What nkudo sets itself (forwarding, and `accept_ra` with it) and what is no setting
    /// (`vm.drop_caches`) is refused.
    ///
    /// Default: `{}`
    /// Example: `sysctl = { "vm.swappiness" = 10 }`
    /// Becomes: lines of a file in /run/sysctl.d
    #[schemars(extend("propertyNames" = serde_json::json!({
        "pattern": "^[A-Za-z0-9_@:-]+([./][A-Za-z0-9_@:-]+)+$", "maxLength": 255
    })))]
    pub sysctl: Option<BTreeMap<String, SysctlValue>>,
}

/// How many huge pages there are, by their size. What VMs use stays theirs until they end, whatever the number.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HugePagesTable {
    /// Huge pages of 2 MiB.
    ///
    /// The kernel can only make them of memory that is free in one piece: what it could not make is said by the switch.
    ///
    /// Default: as the host has it
    /// Example: `2M = 512`
    /// Becomes: /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
    #[schemars(rename = "2M", range(min = 0, max = 1_073_741_824))]
    pub of_2m: Option<u32>,

    /// Huge pages of 1 GiB.
    ///
    /// Some time after the boot there is hardly any memory for them: `hugepagesz=1G hugepages=4` on the kernel's command line
    /// sets them aside in time.
    ///
    /// Default: as the host has it
    /// Example: `1G = 4`
    /// Becomes: /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages
    #[schemars(rename = "1G", range(min = 0, max = 1_073_741_824))]
    pub of_1g: Option<u32>,
}

/// The kernel's merging of equal pages (KSM).
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KsmTable {
    /// Whether it runs. What is merged stays merged when it does not any more.
    ///
    /// Default: as the host has it
    /// Example: `run = true`
    /// Becomes: /sys/kernel/mm/ksm/run
    pub run: Option<bool>,

    /// How many pages it looks at before it sleeps.
    ///
    /// Default: as the host has it
    /// Example: `pages-to-scan = 1000`
    /// Becomes: /sys/kernel/mm/ksm/pages_to_scan
    #[schemars(range(min = 1))]
    pub pages_to_scan: Option<u32>,

    /// How long it sleeps, in whole milliseconds.
    ///
    /// Default: as the host has it
    /// Example: `sleep = "20ms"`
    /// Becomes: /sys/kernel/mm/ksm/sleep_millisecs
    pub sleep: Option<TimeSpan>,
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", inline)]
pub enum Governor {
    /// The highest frequency there is.
    Performance,
    /// The lowest; with intel_pstate and amd_pstate as the CPU sees fit.
    Powersave,
    /// By the load, at once.
    Ondemand,
    /// By the load, step by step.
    Conservative,
    /// By the scheduler's own figures.
    Schedutil,
}

/// An integer, or a string of one line that is not empty.
#[derive(Debug, JsonSchema)]
#[schemars(untagged, inline)]
pub enum SysctlValue {
    Number(i64),
    Text(#[schemars(length(min = 1, max = 1023))] String),
}
