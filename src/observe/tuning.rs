//! What the kernel has of the settings that nkudo sets, or once set.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::ObserveError;
use super::look::failed;
use crate::files;
use crate::host::{Setting, Tuning, one_spaced};
use crate::tuning::{SYSCTL_FILE, TMPFILES_FILE};
use crate::unit::RUNTIME_ROOT;

/// Where there is a directory for each group of CPUs that have one frequency.
const CPUFREQ: &str = "/sys/devices/system/cpu/cpufreq";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TuningFacts {
    /// By the file's path; a setting that is not there, or that nobody may read, is not in it.
    pub seen: BTreeMap<String, String>,
    /// What nkudo set, likewise.
    pub noted: BTreeMap<String, Noted>,
    pub sysctl_file: Option<String>,
    pub tmpfiles_file: Option<String>,
    /// The governors that the CPUs' driver has.
    pub governors: BTreeSet<String>,
}

/// A setting that nkudo changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Noted {
    /// What it was before.
    pub before: String,
    /// What nkudo made it.
    pub set: String,
}

/// Where it is noted what nkudo set, and what was there before; a boot forgets both.
pub fn tuning_note() -> Utf8PathBuf {
    Utf8Path::new(RUNTIME_ROOT).join("tuning.json")
}

/// Looks at what is declared, and at what once was.
pub fn tuning(declared: &Tuning) -> Result<TuningFacts, ObserveError> {
    let path = tuning_note();
    let note = files::read(&path).map_err(failed(&path))?;
    // One that cannot be read says nothing of what to give back.
    let noted: BTreeMap<String, Noted> = note
        .and_then(|json| serde_json::from_slice(&json).ok())
        .unwrap_or_default();
    let mut facts = TuningFacts {
        sysctl_file: text(SYSCTL_FILE)?,
        tmpfiles_file: text(TMPFILES_FILE)?,
        ..TuningFacts::default()
    };
    let mut paths: BTreeSet<String> = noted.keys().cloned().collect();
    for setting in declared.settings().into_keys() {
        if setting == Setting::CpuGovernor {
            let directory = Utf8Path::new(CPUFREQ);
            for policy in files::names(directory).map_err(failed(directory))? {
                if policy.starts_with("policy") {
                    paths.insert(format!("{CPUFREQ}/{policy}/scaling_governor"));
                    let offered = format!("{CPUFREQ}/{policy}/scaling_available_governors");
                    let offered = fs::read_to_string(offered).unwrap_or_default();
                    let offered = offered.split_whitespace().map(str::to_owned);
                    facts.governors.extend(offered);
                }
            }
        } else {
            paths.insert(setting.path());
        }
    }
    for path in paths {
        if let Ok(value) = fs::read(&path) {
            let value = one_spaced(&String::from_utf8_lossy(&value));
            facts.seen.insert(path, value);
        }
    }
    facts.noted = noted;
    Ok(facts)
}

fn text(path: &str) -> Result<Option<String>, ObserveError> {
    let path = Utf8Path::new(path);
    let bytes = files::read(path).map_err(failed(path))?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}
