//! systemd-machined, where VMs are to be registered with it.

#![deny(clippy::disallowed_methods)]

use super::checks::install;
use super::{Check, Distribution, Service};
use crate::generation::Manifest;
use crate::host::OnOff;

pub(super) fn check(
    distribution: Distribution,
    manifest: &Manifest,
    machined: Service,
) -> Option<Check> {
    let name = "machined";
    let mut vms = manifest.host.vms.values();
    if !vms.any(|vm| vm.machined == OnOff::On) {
        return None;
    }
    Some(match machined {
        Service::There => Check::ok(name, "systemd-machined is installed"),
        Service::Masked => Check::warn(
            name,
            "`[host] machined` is set, and systemd-machined is masked: `machinectl` lists no VM",
            "`systemctl unmask systemd-machined.service`, or take `machined` away",
        ),
        Service::Absent => Check::warn(
            name,
            "`[host] machined` is set, and systemd-machined is not installed: `machinectl` lists no VM",
            match distribution {
                Distribution::Debian | Distribution::Fedora | Distribution::Other => {
                    format!(
                        "{}, or take `machined` away",
                        install(distribution, "systemd-container")
                    )
                }
                Distribution::Nixos | Distribution::Arch => {
                    "a systemd that is built with it, or take `machined` away".to_owned()
                }
            },
        ),
    })
}
