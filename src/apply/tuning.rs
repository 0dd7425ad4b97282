//! The kernel's settings that are declared.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};

use anyhow::Context as _;
use camino::Utf8Path;

use crate::document::to_json;
use crate::files;
use crate::host::one_spaced;
use crate::interruption::effect;
use crate::observe::{Noted, tuning_note};
use crate::plan::{TuningPlan, TuningStep, TuningWhy};
use crate::tuning::Refusal;

/// Sets what differs, and returns what could not be set, by path. What was there is noted before it is changed; what is
/// given back stays noted until it is.
///
/// The kernel is written to here, and not by systemd-sysctl with the file: so each value that it refuses has its reason.
pub(super) fn tune(plan: &TuningPlan) -> anyhow::Result<BTreeMap<String, Refusal>> {
    let mut refused = BTreeMap::new();
    if plan.is_empty() {
        return Ok(refused);
    }
    write_files(plan)?;
    let mut note = plan.note.clone();
    let of = |why| plan.set.iter().filter(move |step| step.why == why);
    for step in of(TuningWhy::GivenBack) {
        for (path, old) in &step.files {
            if let Err(err) = set(step, path) {
                let (note, Some(old)) = (note.get_or_insert_default(), old) else {
                    continue;
                };
                let noted = Noted {
                    before: step.new.clone(),
                    set: old.clone(),
                };
                note.insert(path.clone(), noted);
                tracing::warn!("cannot give back {} ({path}): {err}", step.setting);
            }
        }
    }
    if let Some(note) = &note {
        write_note(note)?;
    }
    let mut became = false;
    for step in of(TuningWhy::Declared) {
        for path in step.files.keys() {
            match set(step, path) {
                Ok(is) if is == step.new => {}
                // It may round, or have memory for fewer pages.
                Ok(is) => {
                    let noted = note.as_mut().and_then(|note| note.get_mut(path));
                    if let Some(noted) = noted {
                        noted.set = is;
                        became = true;
                    }
                }
                Err(err) => {
                    refused.insert(path.clone(), err.into());
                }
            }
        }
    }
    if let Some(note) = note.filter(|_| became) {
        write_note(&note)?;
    }
    Ok(refused)
}

fn write_files(plan: &TuningPlan) -> anyhow::Result<()> {
    for (path, text) in &plan.files {
        let path = Utf8Path::new(path);
        let Some(text) = text else {
            files::remove(path).with_context(|| format!("cannot remove {path}"))?;
            continue;
        };
        let directory = path.parent().unwrap_or(path);
        files::ensure_directory(directory, 0o755)
            .and_then(|()| files::replace(path, text.as_bytes(), 0o644))
            .with_context(|| format!("cannot write {path}"))?;
    }
    Ok(())
}

/// Writes a setting, and returns what the kernel made of it.
fn set(step: &TuningStep, path: &str) -> io::Result<String> {
    // Without making the file: one that is not there is a setting that the kernel has not.
    let mut file = File::options().write(true).truncate(true).open(path)?;
    file.write_all(step.new.as_bytes())?;
    drop(file);
    effect();
    let is = one_spaced(&String::from_utf8_lossy(&std::fs::read(path)?));
    tracing::info!("set {} to {is} ({path})", step.setting);
    Ok(is)
}

fn write_note(note: &BTreeMap<String, Noted>) -> anyhow::Result<()> {
    let path = tuning_note();
    if note.is_empty() {
        return files::remove(&path).with_context(|| format!("cannot remove {path}"));
    }
    files::replace(&path, &to_json(note)?, 0o644).with_context(|| format!("cannot write {path}"))
}
