//! The sandbox of a VM's unit: a root directory of its own, into which only the hypervisor, its
//! libraries and this VM's files are bound.

use std::collections::BTreeSet;

use crate::host::{
    AbsolutePath, Disk, DiskAccess, IommuGroup, RngSource, VFIO_CONTAINER, Vm, VmId,
};

use super::builder::{Builder, text, words};
use super::companion::sockets_directory;
use super::readiness::socket_bind;
use super::setting::{Bind, Setting};
use super::vm::{Programs, root_directory, user_name};

/// What of the host's a program needs to run: itself and its libraries, where there are such.
pub const SYSTEM_FILES: [&str; 5] = ["/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/nix/store"];

/// Whether a file is there with those.
pub(super) fn is_of_the_system(path: &str) -> bool {
    ["/usr/", "/nix/store/"]
        .iter()
        .any(|system| path.starts_with(system))
}

/// What none of nkudo's units needs, by the directives that take it away (systemd.exec(5)).
pub(super) const HARDENED: [&str; 12] = [
    "NoNewPrivileges",
    "PrivateTmp",
    "PrivateIPC",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "MemoryDenyWriteExecute",
    "LockPersonality",
    "RestrictRealtime",
    "RemoveIPC",
];

impl Builder {
    pub(super) fn sandbox(
        &mut self,
        id: &VmId,
        vm: &Vm,
        seed: Option<&Disk>,
        groups: &BTreeSet<IommuGroup>,
        programs: &Programs,
    ) {
        self.service("DynamicUser", Setting::Flag(true));
        self.service("User", text(user_name(id)));
        self.service("SupplementaryGroups", words(["kvm"]));
        self.service("UMask", Setting::Mode(0o077));
        self.service("RootDirectory", text(root_directory(id).into_string()));
        // The steps keep the host's root directory, with all else of the sandbox: those that root runs
        // have to see a disk's own path, not what systemd bound to it.
        self.service("RootDirectoryStartOnly", Setting::Flag(true));
        self.service("MountAPIVFS", Setting::Flag(true));
        self.service("BindLogSockets", Setting::Flag(true));
        self.binds(id, vm, seed, groups, programs);
        self.service("PrivateDevices", Setting::Flag(true));
        self.service("DevicePolicy", text("closed"));
        self.allow_device("/dev/kvm", "rw");
        for disk in vm
            .disks
            .iter()
            .filter(|disk| disk.path.starts_with("/dev/"))
        {
            let access = match disk.access {
                DiskAccess::ReadWrite => "rw",
                DiskAccess::ReadOnly => "r",
            };
            self.allow_device(disk.path.as_str(), access);
        }
        for path in vfio_files(vm, groups) {
            self.allow_device(path, "rw");
        }
        if vm.rng == RngSource::Hardware {
            self.allow_device(vm.rng.to_string(), "r");
        }
        self.service("CapabilityBoundingSet", Setting::NoCapabilities);
        for key in HARDENED.into_iter().chain([
            "PrivateNetwork",
            "PrivateUsers",
            "ProtectKernelTunables",
            "RestrictSUIDSGID",
        ]) {
            self.service(key, Setting::Flag(true));
        }
        self.service("ProtectSystem", text("strict"));
        // In the root directory there is no home but for a disk that somebody keeps there, which
        // ProtectHome= would hide.
        let at_home = vm.files().any(|path| {
            ["/home", "/root", "/run/user"]
                .iter()
                .any(|home| path.starts_with(&format!("{home}/")))
        });
        self.service("ProtectHome", text(if at_home { "no" } else { "yes" }));
        self.service("ProtectProc", text("invisible"));
        self.service("ProcSubset", text("pid"));
        self.unix_sockets_only();
        self.service(
            "SystemCallFilter",
            Setting::Deny(vec!["@privileged", "@resources"]),
        );
    }

    /// What VMMs and the programs beside them have in common: they speak over unix sockets, to nobody
    /// else, and begin nothing new.
    pub(super) fn unix_sockets_only(&mut self) {
        self.service("KeyringMode", text("private"));
        self.service("NotifyAccess", text("none"));
        self.service("RestrictNamespaces", Setting::IpcNamespacesOnly);
        self.service("RestrictAddressFamilies", Setting::Allow(vec!["AF_UNIX"]));
        self.service("IPAddressDeny", Setting::DenyAnyAddress);
        self.service("SystemCallArchitectures", words(["native"]));
        // @sandbox: they make filters of their own (seccomp, landlock).
        self.service(
            "SystemCallFilter",
            Setting::Allow(vec!["@system-service", "@sandbox"]),
        );
    }

    fn allow_device(&mut self, path: impl Into<String>, access: &'static str) {
        let path = path.into();
        self.service("DeviceAllow", Setting::Device { path, access });
    }

    fn binds(
        &mut self,
        id: &VmId,
        vm: &Vm,
        seed: Option<&Disk>,
        groups: &BTreeSet<IommuGroup>,
        programs: &Programs,
    ) {
        let mut read_only: Vec<String> = SYSTEM_FILES.map(str::to_owned).to_vec();
        let programs = [programs.hypervisor.as_str(), programs.nkudo.as_str()];
        let writable = |path: &str| {
            vm.disks
                .iter()
                .any(|disk| disk.access == DiskAccess::ReadWrite && disk.path.as_str() == path)
        };
        read_only.extend(
            programs
                .into_iter()
                .chain(vm.files().map(AbsolutePath::as_str))
                .chain(seed.map(|disk| disk.path.as_str()))
                .filter(|p| !is_of_the_system(p) && !writable(p))
                .map(str::to_owned),
        );
        if vm.rng == RngSource::Hardware {
            read_only.push(vm.rng.to_string());
        }
        self.service(
            "BindReadOnlyPaths",
            Setting::Binds(read_only.into_iter().map(Bind::same).collect()),
        );
        // With PrivateDevices= the VM's /dev holds no more than null, zero, random and their like,
        // and this.
        let mut read_write = vec![Bind::same("/dev/kvm")];
        read_write.extend(vfio_files(vm, groups).map(|path| Bind::same(&path)));
        read_write.extend(
            vm.files()
                .map(AbsolutePath::as_str)
                .filter(|p| writable(p))
                .map(Bind::same),
        );
        if !vm.shares.is_empty() || vm.tpm.is_some() {
            // The directory: its sockets are made anew when their server restarts.
            read_write.push(Bind::same(sockets_directory(id)));
        }
        read_write.extend(socket_bind(id, vm));
        self.service("BindPaths", Setting::Binds(read_write));
    }
}

/// By what the VMM has the VM's PCI devices: a group's file, for all devices of the group that are VFIO's.
fn vfio_files(vm: &Vm, groups: &BTreeSet<IommuGroup>) -> impl Iterator<Item = String> {
    let container = (!vm.pci.is_empty()).then(|| VFIO_CONTAINER.to_owned());
    let groups = groups.iter().map(|group| group.device_file().into_string());
    container.into_iter().chain(groups)
}
