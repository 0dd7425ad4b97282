//! Whether somebody other than nkudo stopped the VM: then switches leave it stopped.

use anyhow::Context as _;

use super::{Context, stop_marker, was_not_ready};
use crate::files;
use crate::observe::{HeldBy, held_directory, stopping_directory};

/// Notes it where it is so, as the unit ends.
///
/// A person's `systemctl stop` and nkudo's own stop are the same job to systemd. nkudo says before its
/// own which run of the unit it is about to stop.
pub(super) fn note(context: &Context) -> anyhow::Result<()> {
    let id = context.id().as_str();
    let note = held_directory().join(id);
    let stopping = stopping_directory().join(id);
    let asked = stop_marker(&context.runtime_directory)
        .symlink_metadata()
        .is_ok();
    let invocation = std::env::var("INVOCATION_ID").unwrap_or_default();
    let by_nkudo = files::read(&stopping)
        .with_context(|| format!("cannot read {stopping}"))?
        .is_some_and(|bytes| bytes == invocation.as_bytes());
    let by_nkudo = by_nkudo || was_not_ready(context.id())?;
    let held = files::read(&note).with_context(|| format!("cannot read {note}"))?;
    match held {
        // Said by `nkudo stop`, which lasts.
        Some(by) if by == HeldBy::Nkudo.as_str().as_bytes() => Ok(()),
        _ if asked && !by_nkudo => {
            let directory = held_directory();
            files::ensure_directory(&directory, 0o755)
                .and_then(|()| files::replace(&note, HeldBy::Systemd.as_str().as_bytes(), 0o644))
                .with_context(|| format!("cannot write {note}"))
        }
        // Of a run before this one, which was started again since.
        Some(_) => files::remove(&note).with_context(|| format!("cannot remove {note}")),
        None => Ok(()),
    }
}
