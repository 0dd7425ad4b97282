//! What the kernel has that is not as declared, in words, and what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;

use super::paths;
use crate::host::{Setting, Tuning};
use crate::observe::TuningFacts;

/// A setting that is not as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amiss {
    pub setting: Setting,
    pub declared: String,
    /// What the kernel has; several where CPUs differ, none where it has no such setting.
    pub is: BTreeSet<String>,
    pub why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The host has nothing of the kind.
    Missing,
    /// The CPUs' driver has these governors.
    NotOffered(BTreeSet<String>),
    /// What the kernel said when it was set.
    Refused(Refusal),
    /// It was not set, or somebody changed it.
    Differs,
    /// It was set, and is another nevertheless.
    Became,
}

/// Why a setting could not be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub kind: io::ErrorKind,
    pub text: String,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self {
            kind: error.kind(),
            text: error.to_string(),
        }
    }
}

/// What differs. `refused` is what the kernel said to those that were set just now, by path; without it nobody has set them.
pub fn amiss(
    declared: &Tuning,
    facts: &TuningFacts,
    refused: Option<&BTreeMap<String, Refusal>>,
) -> Vec<Amiss> {
    let mut found = Vec::new();
    for (setting, value) in declared.settings() {
        let paths = paths(&setting, facts);
        let differing: Vec<&String> = paths
            .iter()
            .filter(|path| facts.seen.get(*path) != Some(&value))
            .collect();
        if !paths.is_empty() && differing.is_empty() {
            continue;
        }
        let is: BTreeSet<String> = differing
            .iter()
            .filter_map(|path| facts.seen.get(*path).cloned())
            .collect();
        let said = refused.and_then(|refused| differing.iter().find_map(|path| refused.get(*path)));
        let offers = facts.governors.is_empty() || facts.governors.contains(&value);
        let why = if is.is_empty() && said.is_none_or(|said| said.kind == io::ErrorKind::NotFound) {
            Why::Missing
        } else if setting == Setting::CpuGovernor && !offers {
            Why::NotOffered(facts.governors.clone())
        } else if let Some(said) = said {
            Why::Refused(said.clone())
        } else if refused.is_some() {
            Why::Became
        } else {
            Why::Differs
        };
        found.push(Amiss {
            setting,
            declared: value,
            is,
            why,
        });
    }
    found
}

impl Amiss {
    fn is(&self) -> String {
        let is: Vec<&str> = self.is.iter().map(String::as_str).collect();
        is.join(" and ")
    }

    /// How many more are declared than there are, of what is counted.
    fn lacks(&self) -> Option<u64> {
        let Setting::HugePages(_) = self.setting else {
            return None;
        };
        let is: u64 = self.is.first()?.parse().ok()?;
        let declared: u64 = self.declared.parse().ok()?;
        declared.checked_sub(is).filter(|lacks| *lacks > 0)
    }

    /// What mends it.
    pub fn remedy(&self) -> String {
        match (&self.setting, &self.why) {
            (Setting::HugePages(size), Why::Became | Why::Differs) if self.lacks().is_some() => {
                let (size, count) = (size.bytes() >> 10, &self.declared);
                format!(
                    "memory is in too small pieces, or too little: `nkudo switch` tries again, best soon after a boot; \
                     `hugepagesz={size}K hugepages={count}` on the kernel's command line (on NixOS `boot.kernelParams`) \
                     sets them aside before all else"
                )
            }
            (Setting::HugePages(_), Why::Became) => {
                "those that are in use go when the VMs that have them end".to_owned()
            }
            (Setting::HugePages(size), Why::Missing) => {
                format!("take `{size}` out of `hugepages` under `[host.tuning]`")
            }
            (Setting::CpuGovernor, Why::Missing) => {
                "take `cpu-governor` out of `[host.tuning]`; a virtual machine has none".to_owned()
            }
            (Setting::CpuGovernor, Why::NotOffered(offered)) => {
                let offered: Vec<&str> = offered.iter().map(String::as_str).collect();
                format!("the CPUs' driver has {}", offered.join(", "))
            }
            (Setting::Ksm | Setting::KsmPagesToScan | Setting::KsmSleep, Why::Missing) => {
                "run a kernel with CONFIG_KSM, or take `ksm` out of `[host.tuning]`".to_owned()
            }
            (_, Why::Missing) => {
                "load the module that has it (`modprobe`; modules-load.d(5), on NixOS `boot.kernelModules`), or take it out of \
                 `sysctl` under `[host.tuning]`"
                    .to_owned()
            }
            (_, Why::Refused(said)) if said.kind == io::ErrorKind::ReadOnlyFilesystem => {
                "in a container its host sets it; take it out of `[host.tuning]` here".to_owned()
            }
            (_, Why::Refused(_)) => "declare a value that the kernel takes".to_owned(),
            (_, Why::Became) => {
                "declare what the kernel makes of it; or somebody else sets it, and `nkudo doctor` names the file".to_owned()
            }
            (_, Why::Differs | Why::NotOffered(_)) => "`nkudo switch` sets it".to_owned(),
        }
    }
}

impl fmt::Display for Amiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            setting, declared, ..
        } = self;
        write!(f, "{setting}: {declared} is declared, and ")?;
        match &self.why {
            Why::Missing if *setting == Setting::CpuGovernor => {
                f.write_str("no CPU here has a frequency that could be chosen")
            }
            Why::Missing => f.write_str("the kernel has no such setting"),
            Why::Refused(said) if self.is.is_empty() => {
                write!(f, "it cannot be set: {}", said.text)
            }
            Why::Refused(said) => {
                write!(
                    f,
                    "the kernel has {}: it cannot be set: {}",
                    self.is(),
                    said.text
                )
            }
            Why::NotOffered(_) | Why::Differs | Why::Became => {
                write!(f, "the kernel has {}", self.is())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Governor, KsmRun, Size};

    fn said(declared: &Tuning, seen: &[(&str, &str)], refused: Option<(&str, i32)>) -> String {
        let owned = |(path, value): &(&str, &str)| ((*path).to_owned(), (*value).to_owned());
        let facts = TuningFacts {
            seen: seen.iter().map(owned).collect(),
            governors: ["performance".to_owned(), "powersave".to_owned()].into(),
            ..TuningFacts::default()
        };
        let refused = refused.map(|(path, errno)| {
            let refusal = io::Error::from_raw_os_error(errno).into();
            BTreeMap::from([(path.to_owned(), refusal)])
        });
        let found = amiss(declared, &facts, Some(&refused.unwrap_or_default()));
        let lines = found.iter().map(|one| format!("{one} → {}", one.remedy()));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn each_reason_has_its_words_and_its_remedy() {
        let pages = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
        let policy = "/sys/devices/system/cpu/cpufreq/policy0/scaling_governor";
        let hugepages = Tuning {
            hugepages: [(Size::from_mib(2), 512)].into(),
            ..Tuning::default()
        };
        let governor = Tuning {
            cpu_governor: Some(Governor::Ondemand),
            ..Tuning::default()
        };
        let ksm = Tuning {
            ksm: Some(KsmRun::On),
            ..Tuning::default()
        };
        assert_eq!(said(&hugepages, &[(pages, "512")], None), "");
        for (said, cause, remedy) in [
            (
                said(&hugepages, &[(pages, "300")], None),
                "512 is declared, and the kernel has 300 →",
                "`hugepagesz=2048K hugepages=512`",
            ),
            (
                said(&hugepages, &[(pages, "600")], None),
                "512 is declared, and the kernel has 600 →",
                "go when the VMs that have them end",
            ),
            (
                said(&hugepages, &[], None),
                "the kernel has no such setting →",
                "take `2M` out of `hugepages`",
            ),
            (
                said(&governor, &[], None),
                "ondemand is declared, and no CPU here has a frequency",
                "take `cpu-governor` out",
            ),
            (
                said(&governor, &[(policy, "powersave")], Some((policy, 22))),
                "ondemand is declared, and the kernel has powersave →",
                "the CPUs' driver has performance, powersave",
            ),
            (
                said(&ksm, &[], None),
                "KSM run: 1 is declared, and the kernel has no such setting",
                "CONFIG_KSM",
            ),
            (
                said(
                    &ksm,
                    &[("/sys/kernel/mm/ksm/run", "0")],
                    Some(("/sys/kernel/mm/ksm/run", 30)),
                ),
                "the kernel has 0: it cannot be set: Read-only file system",
                "in a container its host sets it",
            ),
            (
                said(&ksm, &[("/sys/kernel/mm/ksm/run", "2")], None),
                "1 is declared, and the kernel has 2 →",
                "or somebody else sets it",
            ),
        ] {
            assert!(
                said.contains(cause) && said.contains(remedy),
                "{cause} … {remedy}: {said}"
            );
        }
    }
}
