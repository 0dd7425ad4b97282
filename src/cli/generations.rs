//! From the configuration to a generation, and to a host that is one.

use std::num::NonZeroUsize;

use camino::Utf8PathBuf;
use clap::Args;

use crate::config::Subject;
use crate::host::{TimeSpan, VmId};

/// Where the configuration is.
#[derive(Debug, Args)]
pub struct Configuration {
    /// Files to read as one configuration; `-` is standard input. [default:
    /// /etc/nkudo/nkudo.toml, then /etc/nkudo/nkudo.d/*.toml in name order]
    pub files: Vec<Utf8PathBuf>,
}

#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    pub configuration: Configuration,

    /// Take warnings for mistakes
    #[arg(long)]
    pub strict: bool,

    /// The configuration is for another host: say nothing of this one, and take a file that it
    /// names and that is not here (`user-data-file`) for one that is there
    #[arg(long)]
    pub elsewhere: bool,
}

#[derive(Debug, Args)]
pub struct Render {
    #[command(flatten)]
    pub configuration: Configuration,

    /// Print what a VM (`vm.web`), a network (`network.lan`) or the host (`host`) comes to, each
    /// value with the line or the default that it is from; make no generation
    #[arg(long, value_name = "PART", conflicts_with = "message")]
    pub explain: Option<Subject>,

    /// Why; `nkudo generations` shows it
    #[arg(long, short)]
    pub message: Option<String>,
}

#[derive(Debug, Args)]
pub struct Diff {
    #[command(flatten)]
    pub configuration: Configuration,

    /// Print JSON, in the shape that docs/switching.md describes
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Switch {
    /// The generation to switch to, whatever the configuration says now. [default: the newest]
    pub generation: Option<u64>,

    /// Switch to the generation that was current before the boot, whatever the configuration says
    /// now; without one, there is nothing to do. What stands in the way of one VM alone leaves that one out
    #[arg(long, conflicts_with = "generation")]
    pub boot: bool,

    #[command(flatten)]
    pub how: How,
}

#[derive(Debug, Args)]
pub struct Rollback {
    /// The generation to switch to. [default: the newest one before the current one]
    pub generation: Option<u64>,

    #[command(flatten)]
    pub how: How,
}

/// How a switch is done.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct How {
    /// Print what would be done, and why; change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Print that as JSON, in the shape that docs/switching.md describes
    #[arg(long, requires = "dry_run")]
    pub json: bool,

    /// Only these VMs, and the networks that there are to be: `web,db`
    ///
    /// All else stays as it is, and so does the current generation, unless there was nothing else to
    /// do.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub only: Option<Vec<VmId>>,

    /// Restart the VMs for which changes are pending, too
    #[arg(long)]
    pub restart: bool,

    /// Restart at most so many VMs at the same time, one group after the other
    ///
    /// Otherwise all that have to restart stop first, and start then.
    #[arg(long, value_name = "N")]
    pub restart_limit: Option<NonZeroUsize>,

    /// Begin nothing more once a VM has failed
    ///
    /// The current generation stays the one before; the next switch does the rest.
    #[arg(long)]
    pub fail_fast: bool,

    /// Start, and stop, at most so many VMs at the same time. [default: 16]
    #[arg(long, value_name = "N", env = "NKUDO_START_LIMIT")]
    pub start_limit: Option<NonZeroUsize>,
}

#[derive(Debug, Args)]
pub struct Generations {
    /// Print JSON, in the shape that docs/generations.md describes
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Gc {
    /// How many of the newest generations to keep
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub keep: usize,

    /// Remove only what was rendered longer ago than this: `30d`, `12h`
    #[arg(long, value_name = "SPAN")]
    pub older_than: Option<TimeSpan>,

    /// Print what would be removed; remove nothing
    #[arg(long)]
    pub dry_run: bool,
}
