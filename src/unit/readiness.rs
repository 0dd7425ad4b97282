//! The unit that waits until a VM's guest is ready, where the VMM's word is not enough.
//!
//! Not a step of the VM's own unit: systemd kills what is still starting when it is to stop, and a
//! guest that boots would lose its power at once. And what waits for a TCP port needs the host's network,
//! which the VM's unit does not have. It starts once the VM's unit has (`Before=` there), stays
//! active when it is done, also while systemd starts a VM again that crashed, and ends with the VM
//! (`StopWhenUnneeded=`). systemd does that to what is active, so that until then it has to see for itself
//! that its VM has gone.

use std::net::IpAddr;
use std::time::Duration;

use camino::Utf8PathBuf;

use crate::host::{OnTimeout, Ready, Vm, VmId};
use crate::hypervisor;

use super::Unit;
use super::builder::{Builder, text, words};
use super::companion::companions_directory;
use super::sandbox::HARDENED;
use super::setting::{Bind, Exec, Privilege, Setting};
use super::vm::{Programs, runtime_directory, slice_name};

/// How the unit's command ends where the guest was not ready in time and goes on nevertheless. It is no failure, and whoever
/// starts the VM asks for it (`ExecMainStatus`).
pub const NOT_READY: u8 = 75;

pub fn readiness_unit_name(id: &VmId) -> String {
    format!("nkudo-ready@{id}.service")
}

/// The socket at which the guest of a VM is heard. It is there before the VMM is, and bound into its sandbox.
pub fn readiness_socket(id: &VmId) -> Utf8PathBuf {
    companions_directory().join(id.as_str()).join("ready.sock")
}

/// The bind mount of that socket to where the VMM looks for it.
pub(super) fn socket_bind(id: &VmId, vm: &Vm) -> Option<Bind> {
    matches!(vm.ready, Ready::Guest { .. }).then(|| Bind {
        source: readiness_socket(id).to_string(),
        destination: hypervisor::notify_socket(&runtime_directory(id)).into_string(),
    })
}

/// The unit; nothing where the VM is ready when its VMM says so.
pub fn readiness(id: &VmId, vm: &Vm, programs: &Programs) -> Option<Unit> {
    let step = |verb: &str, privilege| {
        let argv = [programs.nkudo.as_str(), "unit", verb, id.as_str()];
        let argv = argv.map(str::to_owned).to_vec();
        Setting::Exec(Exec { argv, privilege })
    };
    let (families, addresses): (_, Vec<IpAddr>) = match vm.ready {
        Ready::Vmm { .. } => return None,
        Ready::Guest { .. } => (vec!["AF_UNIX"], Vec::new()),
        Ready::Tcp { .. } => (
            vec!["AF_UNIX", "AF_INET", "AF_INET6"],
            vm.addresses().collect(),
        ),
    };
    let mut unit = Builder::default();
    unit.unit(
        "Description",
        text(format!("Readiness of virtual machine {id}")),
    );
    unit.unit("StopWhenUnneeded", Setting::Flag(true));
    unit.unit("CollectMode", text("inactive-or-failed"));
    unit.service("Type", text("oneshot"));
    unit.service("RemainAfterExit", Setting::Flag(true));
    unit.service("ExecStart", step("await", Privilege::Sandboxed));
    match vm.ready.on_timeout() {
        OnTimeout::Fail => unit.service("ExecStopPost", step("give-up", Privilege::Full)),
        OnTimeout::Continue => unit.service("SuccessExitStatus", Setting::ExitStatus(NOT_READY)),
    }
    // It ends by itself before: then it is it that says what happened.
    let slack = Duration::from_secs(15);
    unit.service(
        "TimeoutStartSec",
        Setting::Span(vm.start_timeout.duration() + slack),
    );
    unit.service("TimeoutStopSec", Setting::Span(Duration::from_secs(10)));
    unit.service("Slice", text(slice_name()));
    unit.journal_vm(id);
    unit.service("DynamicUser", Setting::Flag(true));
    unit.service("UMask", Setting::Mode(0o077));
    unit.service("CapabilityBoundingSet", Setting::NoCapabilities);
    let no_network = addresses.is_empty().then_some("PrivateNetwork");
    for key in HARDENED.into_iter().chain(no_network).chain([
        "PrivateDevices",
        "PrivateUsers",
        "ProtectKernelTunables",
        "RestrictSUIDSGID",
    ]) {
        unit.service(key, Setting::Flag(true));
    }
    unit.service("ProtectSystem", text("strict"));
    unit.service("ProtectHome", text("yes"));
    unit.service("ProtectProc", text("invisible"));
    unit.service("ProcSubset", text("pid"));
    unit.service(
        "InaccessiblePaths",
        words(["-/etc/nkudo", "-/var/lib/nkudo"]),
    );
    unit.service("DevicePolicy", text("closed"));
    unit.service("KeyringMode", text("private"));
    unit.service("NotifyAccess", text("none"));
    unit.service("RestrictNamespaces", Setting::IpcNamespacesOnly);
    unit.service("RestrictAddressFamilies", Setting::Allow(families));
    unit.service("IPAddressDeny", Setting::DenyAnyAddress);
    if !addresses.is_empty() {
        unit.service("IPAddressAllow", Setting::Addresses(addresses));
    }
    unit.service("SystemCallArchitectures", words(["native"]));
    unit.service("SystemCallFilter", Setting::Allow(vec!["@system-service"]));
    unit.service(
        "SystemCallFilter",
        Setting::Deny(vec!["@privileged", "@resources"]),
    );
    Some(unit.build(readiness_unit_name(id)))
}
