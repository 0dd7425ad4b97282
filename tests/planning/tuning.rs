//! The kernel's settings.

use nkudo::host::{Setting, Tuning};
use nkudo::observe::{Noted, TuningFacts};

use super::differs::TuningDiffers;

pub(super) fn tuning_facts(
    before: &Tuning,
    after: &Tuning,
    differs: &TuningDiffers,
) -> TuningFacts {
    let mut facts = TuningFacts {
        sysctl_file: nkudo::tuning::sysctl(before),
        tmpfiles_file: nkudo::tuning::tmpfiles(before),
        governors: ["performance", "powersave"].map(str::to_owned).into(),
        ..TuningFacts::default()
    };
    let paths = |setting: &Setting| match setting {
        Setting::CpuGovernor => ["policy0", "policy1"]
            .map(|policy| setting.path().replace("policy*", policy))
            .to_vec(),
        _ => vec![setting.path()],
    };
    for setting in after.settings().keys() {
        let value = match setting {
            Setting::CpuGovernor => "powersave",
            _ => "0",
        };
        for path in paths(setting) {
            facts.seen.insert(path, value.to_owned());
        }
    }
    for (setting, value) in before.settings() {
        for path in paths(&setting) {
            let noted = Noted {
                before: match setting {
                    Setting::CpuGovernor => "powersave".to_owned(),
                    _ => "0".to_owned(),
                },
                set: differs.became.get(&path).unwrap_or(&value).clone(),
            };
            facts.seen.insert(path.clone(), noted.set.clone());
            if !differs.note_lost {
                facts.noted.insert(path, noted);
            }
        }
    }
    facts.seen.extend(differs.has.clone());
    facts.seen.retain(|path, _| !differs.missing.contains(path));
    facts
}
