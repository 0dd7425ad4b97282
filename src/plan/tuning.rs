//! What becomes of the kernel's settings that are declared, and of those that were.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::text::HostStep;
use super::{Plan, Request};
use crate::host::{Setting, Tuning};
use crate::observe::{Noted, TuningFacts};
use crate::tuning::{self, SYSCTL_FILE, TMPFILES_FILE};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TuningPlan {
    pub set: Vec<TuningStep>,
    /// What is noted as nkudo's afterwards, by path; nothing where that stays as it is.
    pub note: Option<BTreeMap<String, Noted>>,
    /// Files to write, by path, and those to remove.
    pub files: BTreeMap<&'static str, Option<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TuningStep {
    pub setting: Setting,
    /// The files that are written, with what they hold now; nothing where they cannot be read. A governor has one for
    /// each group of CPUs; there is none at all where the host has no such setting.
    pub files: BTreeMap<String, Option<String>>,
    pub new: String,
    pub why: TuningWhy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TuningWhy {
    Declared,
    /// It is in no file any more: it becomes what it was before nkudo set it.
    GivenBack,
}

impl TuningPlan {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn host_steps(&self) -> Vec<HostStep> {
        let files = self.files.iter().map(|(path, text)| {
            let name = path.rsplit('/').next().unwrap_or(path);
            let action = if text.is_some() { "write" } else { "remove" };
            let kind = if *path == SYSCTL_FILE {
                "sysctl.d-file"
            } else {
                "tmpfiles.d-file"
            };
            HostStep {
                kind,
                name: name.to_owned(),
                action,
                text: format!("{} {name}: {action}", kind.replace('-', " ")),
            }
        });
        let set = self.set.iter().map(|step| HostStep {
            kind: "tuning",
            name: step.setting.to_string(),
            action: "change",
            text: step.to_string(),
        });
        files.chain(set).collect()
    }
}

impl fmt::Display for TuningStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.setting)?;
        let old: BTreeSet<&str> = self.files.values().flatten().map(String::as_str).collect();
        if !old.is_empty() {
            let old: Vec<&str> = old.into_iter().collect();
            write!(f, "{} → ", old.join(", "))?;
        }
        f.write_str(&self.new)?;
        if self.why == TuningWhy::GivenBack {
            f.write_str(": given back, as it is not declared any more")?;
        }
        Ok(())
    }
}

pub(super) fn steps(plan: &mut Plan, declared: &Tuning, facts: &TuningFacts, request: &Request) {
    // One VM alone is no matter of the whole host's.
    if !matches!(request, Request::Switch(_)) {
        return;
    }
    let tuning = &mut plan.tuning;
    let files = [
        (SYSCTL_FILE, tuning::sysctl(declared), &facts.sysctl_file),
        (
            TMPFILES_FILE,
            tuning::tmpfiles(declared),
            &facts.tmpfiles_file,
        ),
    ];
    for (path, text, seen) in files {
        // What is declared for all of the host goes with all of it alone.
        if text != *seen && (text.is_some() || request.is_whole()) {
            tuning.files.insert(path, text);
        }
    }
    let mut note: BTreeMap<String, Noted> = BTreeMap::new();
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    for (setting, value) in declared.settings() {
        let paths = tuning::paths(&setting, facts);
        let nowhere = paths.is_empty();
        let mut differing = BTreeMap::new();
        for path in paths {
            let seen = facts.seen.get(&path);
            let noted = facts.noted.get(&path);
            if seen != Some(&value) {
                differing.insert(path.clone(), seen.cloned());
            }
            // What was so before is not nkudo's to give back.
            let before = noted.map(|noted| &noted.before);
            if let Some(before) = before.or(seen.filter(|seen| **seen != value)) {
                let noted = Noted {
                    before: before.clone(),
                    set: value.clone(),
                };
                note.insert(path.clone(), noted);
            }
            wanted.insert(path);
        }
        if nowhere || !differing.is_empty() {
            tuning.set.push(TuningStep {
                setting,
                files: differing,
                new: value,
                why: TuningWhy::Declared,
            });
        }
    }
    let left = facts
        .noted
        .iter()
        .filter(|(path, _)| !wanted.contains(*path));
    if request.is_whole() {
        for (path, noted) in left {
            give_back(&mut tuning.set, path, noted, facts);
        }
    } else {
        note.extend(left.map(|(path, noted)| (path.clone(), noted.clone())));
    }
    // What the kernel made of a value is noted when it is set.
    let keeps = tuning.set.is_empty()
        && note.keys().eq(facts.noted.keys())
        && note.iter().all(|(path, noted)| {
            facts
                .noted
                .get(path)
                .is_some_and(|was| was.before == noted.before)
        });
    tuning.note = (!keeps).then_some(note);
}

/// Where somebody has changed it since, it is theirs.
fn give_back(steps: &mut Vec<TuningStep>, path: &str, noted: &Noted, facts: &TuningFacts) {
    let (Some(seen), Some(setting)) = (facts.seen.get(path), Setting::of_path(path)) else {
        return;
    };
    if *seen != noted.set || *seen == noted.before {
        return;
    }
    let of_the_same = |step: &&mut TuningStep| {
        step.setting == setting && step.new == noted.before && step.why == TuningWhy::GivenBack
    };
    let file = (path.to_owned(), Some(seen.clone()));
    if let Some(step) = steps.iter_mut().find(of_the_same) {
        step.files.extend([file]);
        return;
    }
    steps.push(TuningStep {
        setting,
        files: BTreeMap::from([file]),
        new: noted.before.clone(),
        why: TuningWhy::GivenBack,
    });
}
