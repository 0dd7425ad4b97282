//! The command line is not there yet: see docs/design.md, "What is built".

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(2)
}
