//! The machine and its systemd.

#![deny(clippy::disallowed_methods)]

use crate::doctor::Check;
use crate::doctor::facts::{Cgroups, Distribution, Facts, SystemdFacts};
use crate::observe::{Observed, SystemdVersion};

pub(super) fn systemd(facts: &Facts) -> Check {
    let minimum = SystemdVersion::MINIMUM.0;
    match &facts.systemd {
        SystemdFacts::Silent(why) => Check::fail(
            "systemd",
            format!("systemd cannot be asked over D-Bus: {why}"),
            "`systemctl status dbus.socket`; VMs that run are not touched by this",
        ),
        SystemdFacts::Runs { version } => match SystemdVersion::parse(version) {
            Some(found) if found >= SystemdVersion::MINIMUM => {
                Check::ok("systemd", format!("version {version}"))
            }
            _ => Check::fail(
                "systemd",
                format!("version {version}, and nkudo needs {minimum} or newer"),
                "upgrade the system: Debian 13, Ubuntu 25.10, Fedora 42, NixOS 25.05 or newer",
            ),
        },
    }
}

pub(super) fn cgroups(cgroups: &Cgroups) -> Check {
    let name = "cgroups";
    let Cgroups::V2(controllers) = cgroups else {
        return Check::fail(
            name,
            "the control groups are not of the unified hierarchy (v2)",
            "remove `systemd.unified_cgroup_hierarchy=0` from the kernel's command line",
        );
    };
    let missing: Vec<&str> = ["cpu", "io", "memory", "pids"]
        .into_iter()
        .filter(|controller| !controllers.contains(*controller))
        .collect();
    if missing.is_empty() {
        return Check::ok(name, "v2, with cpu, io, memory and pids");
    }
    Check::warn(
        name,
        format!(
            "without the controllers {}: limits of these kinds do nothing",
            missing.join(", ")
        ),
        "in a container, its host has to delegate them (`Delegate=yes`); else look for `cgroup_disable=` on the \
         kernel's command line",
    )
}

pub(super) fn landlock(landlock: Option<bool>) -> Check {
    match landlock {
        Some(true) => Check::ok("landlock", "there"),
        // cloud-hypervisor runs without it, and the unit's sandbox does the same by other means.
        Some(false) => Check::ok("landlock", "not there; VMs' sandbox does not need it"),
        None => Check::ok("landlock", "unknown; VMs' sandbox does not need it"),
    }
}

pub(super) fn load(facts: &Facts) -> Check {
    let name = "cpu";
    let (Some(load), Some(cpus)) = (facts.load, facts.capacity.cpus) else {
        return Check::ok(name, "unknown");
    };
    let what = format!("load {load:.1} on {cpus} CPUs");
    if load > f64::from(cpus) * 4.0 {
        Check::warn(
            name,
            what,
            "`systemd-cgtop` shows which VM it is; `cpu-weight` and `cpu-quota` under `limits` share the CPUs out",
        )
    } else {
        Check::ok(name, what)
    }
}

pub(super) fn units(
    facts: &Facts,
    observed: &Observed,
    boot: Option<bool>,
    slice: bool,
) -> Vec<Check> {
    let mut checks = Vec::new();
    let by_module = facts.distribution == Distribution::Nixos;
    match boot {
        Some(true) => checks.push(Check::ok("boot", "nkudo-boot.service starts VMs at boot")),
        Some(false) => checks.push(Check::warn(
            "boot",
            "nkudo-boot.service is not enabled: no VM starts when the host boots",
            if by_module {
                "`virtualisation.nkudo.enable = true` enables it"
            } else {
                "`systemctl enable nkudo-boot.service`"
            },
        )),
        None => checks.push(Check::warn(
            "boot",
            "nkudo-boot.service is not installed: no VM starts when the host boots",
            if by_module {
                "`virtualisation.nkudo.enable = true` installs it"
            } else {
                "`make install`, or units/nkudo-boot.service of nkudo's source to /etc/systemd/system, then \
                 `systemctl daemon-reload` and `systemctl enable nkudo-boot.service`"
            },
        )),
    }
    if !slice {
        checks.push(Check::warn(
            "slice",
            "nkudo.slice is not installed: VMs are accounted for, but not all together",
            "units/nkudo.slice of nkudo's source to /etc/systemd/system, then `systemctl daemon-reload`",
        ));
    }
    for file in &observed.unit_files {
        checks.push(Check::fail(
            "unit-files",
            format!("the unit file {file} takes the name of a VM's transient unit"),
            format!(
                "remove it, or, where it is a link to /dev/null, `systemctl unmask {}`; then `systemctl daemon-reload`",
                file.file_name().unwrap_or_default()
            ),
        ));
    }
    checks
}
