//! `[host]`.

use schemars::JsonSchema;

use super::tuning::TuningTable;
use super::value::Path;

/// The host itself. The whole table may be left out, and stands in one file only.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HostTable {
    /// The cloud-hypervisor that VMs run: an absolute path, or the name of a program on PATH.
    ///
    /// PATH is looked at when a generation is rendered; the generation has the path that was found.
    /// Version 46 or newer.
    ///
    /// Default: `"cloud-hypervisor"`
    /// Example: `hypervisor = "/usr/local/bin/cloud-hypervisor"`
    /// Becomes: `ExecStart=` of each VM's unit
    #[schemars(length(min = 1))]
    pub hypervisor: Option<String>,

    /// The virtiofsd that runs for each `[[vm.<id>.share]]`: an absolute path, or the name of a program on
    /// PATH or in /usr/libexec, /usr/lib or /usr/lib/qemu.
    ///
    /// Default: `"virtiofsd"`
    /// Example: `virtiofsd = "/usr/libexec/virtiofsd"`
    /// Becomes: `ExecStart=` of a share's unit
    #[schemars(length(min = 1))]
    pub virtiofsd: Option<String>,

    /// The swtpm that runs for each VM with `tpm = true`: an absolute path, or the name of a program on PATH.
    ///
    /// Default: `"swtpm"`
    /// Example: `swtpm = "/usr/bin/swtpm"`
    /// Becomes: `ExecStart=` of a TPM's unit
    #[schemars(length(min = 1))]
    pub swtpm: Option<String>,

    /// Where generations and the disks that nkudo makes are kept.
    ///
    /// `--state-dir` and `NKUDO_STATE_DIR` go before it.
    ///
    /// Default: `"/var/lib/nkudo"`
    /// Example: `state-dir = "/srv/nkudo"`
    /// Becomes: the directory of `generations/`, `current` and `vms/`
    pub state_dir: Option<Path>,

    /// Who makes the bridges and their addresses.
    ///
    /// Default: `"auto"`
    /// Example: `network-backend = "netlink"`
    /// Becomes: files in /run/systemd/network, or rtnetlink messages
    pub network_backend: Option<NetworkBackend>,

    /// Registers each VM with systemd-machined at each start of its VMM, so that `machinectl` lists it.
    ///
    /// systemd-machined is in a package of its own on some distributions (`systemd-container`). Where it is not there, a VM starts
    /// without, and the journal says so. Changing this restarts no VM. `machinectl terminate` stops a VM by its power button;
    /// `machinectl poweroff` pulls the plug (docs/runbook.md).
    ///
    /// Default: `false`
    /// Example: `machined = true`
    /// Becomes: a step of each VM's unit, after its start
    pub machined: Option<bool>,

    /// Settings of the host's kernel that VMs gain from: huge pages, KSM, the CPU's governor, sysctls.
    ///
    /// Default: `{}`
    /// Example: `tuning = { cpu-governor = "performance" }`
    /// Becomes: files in /run/sysctl.d and /run/tmpfiles.d, and what the kernel has
    pub tuning: Option<TuningTable>,
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", inline)]
pub enum NetworkBackend {
    /// systemd-networkd where it runs, nkudo itself elsewhere.
    Auto,
    /// systemd-networkd, which must run.
    Networkd,
    /// nkudo itself; networkd is told to leave the links alone.
    Netlink,
}
