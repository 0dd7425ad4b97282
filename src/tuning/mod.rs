//! What is tuned of the host, as files of sysctl.d(5) and tmpfiles.d(5).
//!
//! They are in /run: a boot starts with the host's own settings, and nkudo-boot.service makes the current
//! generation's anew. /etc would outlive a nkudo that is gone, and NixOS has it read-only.

#![deny(clippy::disallowed_methods)]

mod amiss;

use std::fmt::Write as _;

use crate::host::{Setting, Tuning};
use crate::observe::TuningFacts;

pub use amiss::{Amiss, Refusal, Why, amiss};

/// It goes after the distributions' files, and before what an administrator calls 90- or 99-.
pub const SYSCTL_FILE: &str = "/run/sysctl.d/61-nkudo-tuning.conf";
pub const TMPFILES_FILE: &str = "/run/tmpfiles.d/nkudo-tuning.conf";

const HEADER: &str =
    "# Written by `nkudo switch` for [host.tuning]; what is changed here is lost.\n";

/// Kernel settings, where there are any.
pub fn sysctl(tuning: &Tuning) -> Option<String> {
    let mut text = HEADER.to_owned();
    for (name, value) in &tuning.sysctl {
        let _ = writeln!(text, "{name} = {}", value.as_str());
    }
    (!tuning.sysctl.is_empty()).then_some(text)
}

/// What is below /sys, where there is any.
pub fn tmpfiles(tuning: &Tuning) -> Option<String> {
    let mut text = HEADER.to_owned();
    let mut any = false;
    for (setting, value) in tuning.settings() {
        if !matches!(setting, Setting::Sysctl(_)) {
            let _ = writeln!(text, "w {} - - - - {value}", setting.path());
            any = true;
        }
    }
    any.then_some(text)
}

/// The files that a setting is on this host: of a governor those of all CPUs that have a frequency, of all else the one.
pub fn paths(setting: &Setting, facts: &TuningFacts) -> Vec<String> {
    if *setting == Setting::CpuGovernor {
        let governor = |path: &&String| Setting::of_path(path) == Some(Setting::CpuGovernor);
        return facts.seen.keys().filter(governor).cloned().collect();
    }
    vec![setting.path()]
}
