//! `[vm.<id>.limits]`.

use schemars::JsonSchema;

use super::value::Size;

/// Limits and weights of the VM's control group. What is left out is as systemd has it.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LimitsTable {
    /// The share of CPU time when CPUs are contended for: 1 to 10000.
    ///
    /// Default: none (the kernel's is 100)
    /// Example: `cpu-weight = 200`
    /// Becomes: `CPUWeight=`
    #[schemars(range(min = 1, max = 10000))]
    pub cpu_weight: Option<u16>,

    /// The most CPU time, in percent of one CPU: `"150%"` is one and a half.
    ///
    /// Default: none
    /// Example: `cpu-quota = "150%"`
    /// Becomes: `CPUQuota=`
    #[schemars(regex(pattern = r"^[0-9]*[1-9][0-9]*%$"))]
    pub cpu_quota: Option<String>,

    /// The memory above which the VM is slowed down and made to give back.
    ///
    /// The VMM needs some memory of its own beside the guest's: allow 64M and a tenth more.
    ///
    /// Default: none
    /// Example: `memory-high = "2560M"`
    /// Becomes: `MemoryHigh=`
    pub memory_high: Option<Size>,

    /// The memory above which the VM is killed.
    ///
    /// Default: none
    /// Example: `memory-max = "3G"`
    /// Becomes: `MemoryMax=`
    pub memory_max: Option<Size>,

    /// The share of disk time when disks are contended for: 1 to 10000.
    ///
    /// Default: none (the kernel's is 100)
    /// Example: `io-weight = 50`
    /// Becomes: `IOWeight=`
    #[schemars(range(min = 1, max = 10000))]
    pub io_weight: Option<u16>,

    /// The most threads that the VMM may have.
    ///
    /// It has one per vCPU, one per queue of a disk or NIC, and a handful more.
    ///
    /// Default: none (systemd's is 15 % of the host's)
    /// Example: `tasks-max = 512`
    /// Becomes: `TasksMax=`
    #[schemars(range(min = 1))]
    pub tasks_max: Option<u32>,
}
