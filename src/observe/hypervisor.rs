//! The hypervisor's version.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::Hypervisor;
use crate::files;
use crate::hypervisor::Version;
use crate::programs;
use crate::unit::RUNTIME_ROOT;

/// Asks the hypervisor for its version.
pub async fn hypervisor(path: &Utf8Path) -> Hypervisor {
    const LIMIT: Duration = Duration::from_secs(10);
    match programs::output(Command::new(path).arg("--version"), LIMIT).await {
        Err(err) => Hypervisor::Unusable(err.to_string()),
        Ok(output) => match String::from_utf8_lossy(&output.stdout).parse() {
            Ok(version) => Hypervisor::Found(version),
            Err(err) => Hypervisor::Unusable(err.to_string()),
        },
    }
}

/// The same, of this very file when a switch asked it last; a status need not run it each time.
pub(super) async fn as_known(path: &Utf8Path) -> Hypervisor {
    match (Known::read(), File::of(path)) {
        (Some(known), Some(file)) if known.path == path && known.file == file => {
            Hypervisor::Found(known.version)
        }
        _ => hypervisor(path).await,
    }
}

/// Notes what the hypervisor said, for whoever asks after this.
pub fn note_hypervisor(path: &Utf8Path, version: Version) -> anyhow::Result<()> {
    let Some(file) = File::of(path) else {
        return Ok(());
    };
    let known = Known {
        path: path.to_owned(),
        file,
        version,
    };
    if Known::read().as_ref() == Some(&known) {
        return Ok(());
    }
    let place = place();
    files::replace(&place, &serde_json::to_vec(&known)?, 0o644)
        .with_context(|| format!("cannot write {place}"))
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    path: Utf8PathBuf,
    file: File,
    version: Version,
}

impl Known {
    /// Anything else there is as good as nothing.
    fn read() -> Option<Self> {
        let json = files::read(&place()).ok().flatten()?;
        serde_json::from_slice(&json).ok()
    }
}

/// What changes when a file does. Nobody can set the time of an inode's change.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct File {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl File {
    fn of(path: &Utf8Path) -> Option<Self> {
        let file = path.metadata().ok()?;
        Some(Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}

fn place() -> Utf8PathBuf {
    Utf8Path::new(RUNTIME_ROOT).join("hypervisor.json")
}
