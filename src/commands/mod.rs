//! The verbs of the command line, a file each. They join the pure half to the world and hold no
//! rules of their own.

pub mod check;
mod sources;

use crate::cli::{Cli, Command};

/// How a run of nkudo ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done,
    BadConfiguration,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::BadConfiguration => 3,
        })
    }
}

/// Runs the command. An error is one that the user can only read; main prints it.
pub fn run(cli: Cli) -> anyhow::Result<Exit> {
    match cli.command {
        Command::Check(configuration) => check::run(&configuration),
    }
}
