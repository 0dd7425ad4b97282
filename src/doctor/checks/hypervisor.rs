//! cloud-hypervisor and KVM.

#![deny(clippy::disallowed_methods)]

use crate::doctor::Check;
use crate::doctor::facts::{DeviceNode, Distribution, Facts, Kvm};
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

pub(super) fn kvm_device(distribution: Distribution, kvm: &Kvm) -> Check {
    let name = "kvm";
    match &kvm.device {
        DeviceNode::Missing => {
            let module = match kvm.cpu_flag.as_deref() {
                Some("svm") => "kvm_amd",
                _ => "kvm_intel",
            };
            if kvm.module.is_none() && kvm.cpu_flag.is_some() {
                let remedy = if distribution == Distribution::Nixos {
                    format!("boot.kernelModules = [ \"{}\" ];", module.replace('_', "-"))
                } else {
                    format!("`modprobe {module}`, and `{module}` in a file of /etc/modules-load.d")
                };
                return Check::fail(
                    name,
                    format!(
                        "KVM is not available: there is no /dev/kvm, and {module} is not loaded"
                    ),
                    remedy,
                );
            }
            let remedy = if kvm.nested {
                "switch nested virtualisation on in the host of this machine, and give this machine the host's CPU"
            } else {
                "switch virtualisation (VT-x, AMD-V) on in the host's firmware"
            };
            Check::fail(
                name,
                "KVM is not available: there is no /dev/kvm, and the CPU does not offer virtualisation",
                remedy,
            )
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
