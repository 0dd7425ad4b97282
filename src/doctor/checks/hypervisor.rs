//! cloud-hypervisor and KVM.

#![deny(clippy::disallowed_methods)]

use crate::doctor::Check;
use crate::doctor::facts::{DeviceNode, Distribution, Facts, Kvm, KvmCpu};
use crate::hypervisor::Version;
use crate::observe::Hypervisor;

pub(super) fn hypervisor(facts: &Facts) -> Check {
    let name = "hypervisor";
    let get = match facts.distribution {
        Distribution::Nixos => {
            "`virtualisation.nkudo.enable = true` brings it; else environment.systemPackages = [ pkgs.cloud-hypervisor ];"
                .to_owned()
        }
        Distribution::Arch => "pacman -S cloud-hypervisor".to_owned(),
        _ => "put a release's `cloud-hypervisor-static` to /usr/local/bin/cloud-hypervisor with mode 0755, or name \
              another place under `[host] hypervisor`"
            .to_owned(),
    };
    let (path, found) = &facts.hypervisor;
    let Some(path) = path else {
        return Check::fail(
            name,
            "cloud-hypervisor is not there: command not found",
            get,
        );
    };
    match found {
        Hypervisor::Found(version) if *version < Version::MINIMUM => Check::fail(
            name,
            format!(
                "{path} is version {version}, and nkudo needs {} or newer",
                Version::MINIMUM
            ),
            get,
        ),
        Hypervisor::Found(version) => Check::ok(name, format!("{path}, version {version}")),
        Hypervisor::Unusable(why) => Check::fail(name, format!("{path} cannot be run: {why}"), get),
    }
}

/// Why there is no /dev/kvm, and what to do.
fn no_kvm(distribution: Distribution, kvm: &Kvm) -> (String, String) {
    let module = match kvm.cpu {
        KvmCpu::Vmx => "kvm_intel",
        KvmCpu::Svm => "kvm_amd",
        KvmCpu::Off => {
            let remedy = if kvm.nested {
                "switch nested virtualisation on in the host of this machine, and give this machine the host's CPU"
            } else {
                "switch virtualisation (VT-x, AMD-V) on in the host's firmware"
            };
            let why = ", and the CPU does not offer virtualisation";
            return (why.to_owned(), remedy.to_owned());
        }
        // What the kernel says there: `HYP mode not available`.
        KvmCpu::Aarch64 => {
            let remedy = "`journalctl -k -g kvm` says why: the firmware has to start the kernel at EL2, and in a machine that \
                          is virtual itself, its host has to offer nested virtualisation";
            return (String::new(), remedy.to_owned());
        }
    };
    if kvm.module.is_some() {
        let remedy =
            "`journalctl -k -g kvm` says why; firmware may have switched virtualisation off";
        return (format!(", though {module} is loaded"), remedy.to_owned());
    }
    let remedy = if distribution == Distribution::Nixos {
        format!("boot.kernelModules = [ \"{}\" ];", module.replace('_', "-"))
    } else {
        format!("`modprobe {module}`, and `{module}` in a file of /etc/modules-load.d")
    };
    (format!(", and {module} is not loaded"), remedy)
}

pub(super) fn kvm_device(distribution: Distribution, kvm: &Kvm) -> Check {
    let name = "kvm";
    match &kvm.device {
        DeviceNode::Missing => {
            let (why, remedy) = no_kvm(distribution, kvm);
            let what = format!("KVM is not available: there is no /dev/kvm{why}");
            Check::fail(name, what, remedy)
        }
        DeviceNode::There {
            mode,
            gid,
            open_error,
        } => {
            let by_group = kvm.group == Some(*gid) && mode & 0o060 == 0o060;
            let by_all = mode & 0o006 == 0o006;
            let rule = if distribution == Distribution::Nixos {
                "NixOS gives it to the group `kvm` with mode 0666 by itself: look at services.udev.extraRules, then \
                 `udevadm trigger /dev/kvm`"
            } else {
                "`chgrp kvm /dev/kvm && chmod 0660 /dev/kvm`; for good, `KERNEL==\"kvm\", GROUP=\"kvm\", MODE=\"0660\"` in a \
                 file of /etc/udev/rules.d"
            };
            if kvm.group.is_none() {
                return Check::fail(
                    name,
                    "there is no group `kvm`, which VMs' users are to be in",
                    "`systemd-sysusers` makes it, or `groupadd --system kvm`",
                );
            }
            if !by_group && !by_all {
                return Check::fail(
                    name,
                    format!("/dev/kvm has mode {mode:04o} and group {gid}: VMs may not open it"),
                    rule,
                );
            }
            match open_error {
                Some(why) => Check::fail(
                    name,
                    format!("/dev/kvm cannot be opened: {why}"),
                    "a container needs the device passed to it; else look at the kernel's log (`journalctl -k -g kvm`)",
                ),
                None => Check::ok(
                    name,
                    format!(
                        "/dev/kvm can be opened by VMs{}{}",
                        kvm.module
                            .as_ref()
                            .map_or(String::new(), |module| format!(", {module}")),
                        if kvm.nested { ", nested" } else { "" }
                    ),
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_missing_kvm_fits_the_cpu() {
        let said = |cpu, module: Option<&str>, nested| {
            let kvm = Kvm {
                device: DeviceNode::Missing,
                module: module.map(str::to_owned),
                cpu,
                nested,
                group: None,
            };
            let (why, remedy) = no_kvm(Distribution::Debian, &kvm);
            format!("{why}: {remedy}")
        };
        assert!(
            said(KvmCpu::Vmx, None, false)
                .contains("kvm_intel is not loaded: `modprobe kvm_intel`")
        );
        assert!(said(KvmCpu::Svm, Some("kvm_amd"), true).contains("though kvm_amd is loaded"));
        assert!(said(KvmCpu::Off, None, false).contains("VT-x"));
        assert!(said(KvmCpu::Off, None, true).contains("nested"));
        let arm = said(KvmCpu::Aarch64, None, false);
        assert!(arm.contains("EL2") && !arm.contains("VT-x"), "{arm}");
    }
}
