//! What there is to see of VMs and of the host.

use camino::Utf8PathBuf;
use clap::Args;

use crate::host::VmId;

#[derive(Debug, Args)]
pub struct Status {
    /// Only this VM, and all that is known of it
    pub id: Option<VmId>,

    /// Look again every so many seconds, until Ctrl-C; with --json, a line each time
    #[arg(long, short, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
          value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub watch: Option<u32>,

    /// Networks instead of VMs: their links, ports, leases, forwards
    #[arg(long, conflicts_with = "id")]
    pub network: bool,

    /// Print JSON, in the shape that docs/status.md describes, for networks docs/networking.md
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Doctor {
    /// Only what concerns this VM
    pub id: Option<VmId>,

    /// Print JSON, in the shape that docs/status.md describes
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Logs {
    /// The VM's id
    pub id: VmId,

    /// Print what is new, too, until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,

    /// Only the guest's console, as it was printed
    #[arg(long, conflicts_with = "no_console")]
    pub console: bool,

    /// All but the guest's console
    #[arg(long)]
    pub no_console: bool,

    /// Only what is not older than this: `10min`, `yesterday`, `2026-01-31 12:00` (systemd.time(7))
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,

    /// Only the last so many lines
    #[arg(long, short = 'n', value_name = "N")]
    pub lines: Option<u32>,
}

#[derive(Debug, Args)]
pub struct Collect {
    /// Only this VM, and the host
    pub id: Option<VmId>,

    /// The archive to write. [default: nkudo-HOST-TIME.tar.zst in the working directory]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<Utf8PathBuf>,

    /// Leave out what guests printed on their consoles
    #[arg(long)]
    pub no_console: bool,
}
