//! Programs of the host.

use camino::{Utf8Path, Utf8PathBuf};

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

fn is_executable(file: &Utf8Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata()
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}
