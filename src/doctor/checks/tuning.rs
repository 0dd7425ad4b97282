//! `[host.tuning]` against what the kernel has, and against what else sets the same.

#![deny(clippy::disallowed_methods)]

use crate::doctor::Check;
use crate::doctor::facts::{Facts, SysctlFile};
use crate::generation::Manifest;
use crate::host::{Setting, one_spaced, sysctl_path};
use crate::observe::Observed;
use crate::tuning::{SYSCTL_FILE, amiss};

pub(super) fn tuning(facts: &Facts, manifest: &Manifest, observed: &Observed) -> Vec<Check> {
    let name = "tuning";
    let declared = &manifest.host.tuning;
    if declared.is_empty() {
        return Vec::new();
    }
    let amiss = amiss(declared, &observed.tuning, None);
    let mut checks: Vec<Check> = amiss
        .iter()
        .map(|one| Check::fail(name, one.to_string(), one.remedy()))
        .collect();
    if checks.is_empty() {
        let count = declared.settings().len();
        let are = if count == 1 {
            "setting is"
        } else {
            "settings are"
        };
        checks.push(Check::ok(name, format!("{count} {are} as declared")));
    }
    let conflicts = facts
        .sysctl_files
        .iter()
        .flat_map(|file| conflicts(facts, manifest, file));
    checks.extend(conflicts);
    checks
}

/// What a file of sysctl.d(5) sets to something else than is declared.
fn conflicts(facts: &Facts, manifest: &Manifest, file: &SysctlFile) -> Vec<Check> {
    let declared = manifest.host.tuning.settings();
    let own = SYSCTL_FILE.rsplit('/').next().unwrap_or_default();
    let name = file.path.file_name().unwrap_or_default();
    let mut found = Vec::new();
    for (number, (key, value)) in assignments(&file.text) {
        let conflict = declared.iter().find(|(setting, declared)| {
            let same = match setting {
                Setting::Sysctl(name) => fits(&key, name.path()),
                Setting::HugePages(size) => {
                    key == "vm/nr_hugepages" && facts.hugepage_default == Some(*size)
                }
                _ => false,
            };
            same && **declared != value
        });
        let Some((setting, declared)) = conflict else {
            continue;
        };
        let place = format!("{}:{number}", file.path);
        // Files go by their names, whatever directory they are in.
        let (when, what) = if name > own {
            (
                "goes after nkudo's file",
                "whatever reads these files anew, as a boot or the upgrade of a package does, sets that",
            )
        } else {
            (
                "goes before nkudo's file",
                "it holds until nkudo has switched, and when the setting leaves `[host.tuning]`",
            )
        };
        found.push(Check::warn(
            "tuning",
            format!(
                "{setting}: {declared} is declared, and {place}, which {when}, has {value}: {what}"
            ),
            format!(
                "take the line out of {}, or the setting out of `[host.tuning]`",
                file.path
            ),
        ));
    }
    found
}

/// The lines of a file that set something: their number, the path below /proc/sys, and the value.
fn assignments(text: &str) -> impl Iterator<Item = (usize, (String, String))> {
    let line = |(index, line): (usize, &str)| {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            return None;
        }
        let (key, value) = line.split_once('=')?;
        // A leading `-`: it may fail.
        let key = sysctl_path(key.trim().trim_start_matches('-'));
        Some((index + 1, (key, one_spaced(value))))
    };
    text.lines().enumerate().filter_map(line)
}

/// Whether a name of a file is, or may be by its `*`, this one.
fn fits(pattern: &str, path: &str) -> bool {
    let (patterns, parts) = (pattern.split('/'), path.split('/'));
    pattern.split('/').count() == path.split('/').count()
        && patterns
            .zip(parts)
            .all(|(pattern, part)| match pattern.split_once('*') {
                Some((before, after)) => {
                    part.len() >= before.len() + after.len()
                        && part.starts_with(before)
                        && part.ends_with(after)
                }
                None => pattern == part,
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_sysctl_d_has_them() {
        let text =
            "# a comment\n-vm.swappiness = 10\n; another\nnet/ipv4/tcp_rmem=1 2\t3\nnonsense\n";
        let read: Vec<_> = assignments(text).collect();
        let line = |number, key: &str, value: &str| (number, (key.to_owned(), value.to_owned()));
        assert_eq!(
            read,
            [
                line(2, "vm/swappiness", "10"),
                line(4, "net/ipv4/tcp_rmem", "1 2 3")
            ]
        );
        assert!(fits(
            "net/ipv4/conf/*/rp_filter",
            "net/ipv4/conf/eth0/rp_filter"
        ));
        assert!(fits(
            "net/ipv4/conf/eth*/rp_filter",
            "net/ipv4/conf/eth0/rp_filter"
        ));
        assert!(!fits(
            "net/ipv4/conf/*/rp_filter",
            "net/ipv4/conf/rp_filter"
        ));
        assert!(!fits("vm/swappiness", "vm/dirty_ratio"));
    }
}
