//! nkudo's command line: parses it, runs the command, and says how that ended.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    nkudo::talk::init();
    match nkudo::commands::run(nkudo::cli::Cli::parse()) {
        Ok(exit) => exit.into(),
        Err(err) => {
            // Nobody is left to tell when standard error is gone.
            let _ = writeln!(anstream::stderr(), "error: {err:#}");
            ExitCode::FAILURE
        }
    }
}
