//! The command line; the doc comments are its help.

use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand};

/// Virtual machines on a systemd host, declared in one TOML file
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say all mistakes of the configuration, and change nothing
    ///
    /// Exit codes: 0, no mistakes; 1, a file could not be read; 2, wrong usage; 3, mistakes.
    Check(Configuration),
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub struct Configuration {
    /// Files to read as one configuration; `-` is standard input. [default:
    /// /etc/nkudo/nkudo.toml, then /etc/nkudo/nkudo.d/*.toml in name order]
    pub files: Vec<Utf8PathBuf>,
}
