//! Programs of the host: where they are, and what they print.

use std::io;
use std::process::{Output, Stdio};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::process::Command;

/// Where administrators' programs are, which a user's PATH may lack.
const SYSTEM: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// A program of PATH, or of where system programs are.
pub fn find(name: &str) -> Option<Utf8PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(SYSTEM)
        .map(|directory| Utf8Path::new(directory).join(name))
        .find(|file| file.is_absolute() && is_executable(file))
}

/// Why there is no output of a program.
#[derive(Debug, thiserror::Error)]
pub enum NoOutput {
    #[error(transparent)]
    NotRun(#[from] io::Error),
    #[error("it took more than {} s", .0.as_secs())]
    TooLong(Duration),
}

/// Runs a program, which reads nothing. One that takes longer than `limit` is killed.
pub async fn output(command: &mut Command, limit: Duration) -> Result<Output, NoOutput> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    match tokio::time::timeout(limit, output).await {
        Ok(output) => Ok(output?),
        Err(_) => Err(NoOutput::TooLong(limit)),
    }
}

fn is_executable(file: &Utf8Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata()
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}
