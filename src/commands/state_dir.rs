//! Finds the state directory, also while the configuration is broken.

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};

use crate::cli::Configuration;
use crate::files;
use crate::unit::RUNTIME_ROOT;

use super::{configured, sources};

const DEFAULT: &str = "/var/lib/nkudo";

/// The state directory: of the command line, else of the configuration, else the one that was
/// switched to last, since `nkudo stop` has to work while somebody edits the file.
pub(super) fn state_dir(given: Option<&Utf8Path>) -> Utf8PathBuf {
    if let Some(given) = given {
        return given.to_owned();
    }
    let configured = sources::read(&Configuration { files: Vec::new() })
        .ok()
        .and_then(|sources| configured::load(&sources).0.host)
        .map(|host| host.state_dir.as_path().to_owned());
    configured
        .or_else(remembered)
        .unwrap_or_else(|| DEFAULT.into())
}

fn remembered() -> Option<Utf8PathBuf> {
    let bytes = files::read(&pointer()).ok()??;
    let text = String::from_utf8(bytes).ok()?;
    let path = Utf8PathBuf::from(text.trim_end());
    path.is_absolute().then_some(path)
}

/// Remembers the state directory until the next boot.
pub(super) fn remember(state_dir: &Utf8Path) -> anyhow::Result<()> {
    let path = pointer();
    files::replace(&path, format!("{state_dir}\n").as_bytes(), 0o644)
        .with_context(|| format!("cannot write {path}"))
}

fn pointer() -> Utf8PathBuf {
    Utf8Path::new(RUNTIME_ROOT).join("state-dir")
}
