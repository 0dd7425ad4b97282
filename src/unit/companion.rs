//! Units beside a VM's own: a virtiofsd for each share, and a swtpm.
//!
//! They are started with the VM's unit in one transaction, which wants them, and end when it does
//! (`StopWhenUnneeded=`). The dependency points from the VM to them: one that pointed the other way
//! would keep the VM's transient unit loaded, and its name taken.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use crate::host::{AbsolutePath, DiskAccess, Share, Vm, VmId};

use super::Unit;
use super::builder::{Builder, text};
use super::sandbox::{HARDENED, SYSTEM_FILES, is_of_the_system};
use super::setting::{Bind, Exec, Privilege, Setting};
use super::vm::{Programs, RUNTIME_ROOT, slice_name};

/// Where everything of VMs' companions is while they run; root's alone.
pub fn companions_directory() -> Utf8PathBuf {
    Utf8Path::new(RUNTIME_ROOT).join("companions")
}

/// The directory of a VM's sockets that companions serve. Its VM's sandbox has it.
pub fn sockets_directory(id: &VmId) -> Utf8PathBuf {
    companions_directory().join(id.as_str()).join("sockets")
}

/// The socket that a share's virtiofsd serves.
pub fn share_socket(id: &VmId, share: &Share) -> Utf8PathBuf {
    sockets_directory(id).join(format!("{}.sock", share.tag))
}

/// The socket that the VM's swtpm serves. No tag of a share has a dot.
pub fn tpm_socket(id: &VmId) -> Utf8PathBuf {
    sockets_directory(id).join("swtpm.ctrl.sock")
}

/// The VM's companions. None of a kind whose program is not known: `render` refuses that.
pub fn companions(id: &VmId, vm: &Vm, programs: &Programs) -> Vec<Unit> {
    let mut units = Vec::new();
    if let Some(virtiofsd) = &programs.virtiofsd {
        units.extend(vm.shares.iter().map(|one| share(id, one, virtiofsd)));
    }
    if let (Some(swtpm), Some(state)) = (&programs.swtpm, &vm.tpm) {
        units.push(tpm(id, state, swtpm));
    }
    units
}

/// What is a companion's root directory.
pub fn companion_root(unit: &str, id: &VmId) -> Utf8PathBuf {
    companions_directory().join(id.as_str()).join(unit)
}

/// virtiofsd is root, and has what it takes to act as each of the guest's users, in a root directory with
/// nothing of the host but the source. It reads /proc/sys/fs/nr_open, or ends. A guest makes no device nodes there: it has no CAP_MKNOD.
const FILES: &[(&str, u32)] = &[
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_FOWNER", 3),
    ("CAP_FSETID", 4),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    // It takes this and whatever else it does not need from itself as it begins.
    ("CAP_SETPCAP", 8),
];

fn share(id: &VmId, share: &Share, virtiofsd: &Utf8Path) -> Unit {
    let name = format!("nkudo-virtiofsd@{id}.{}.service", share.tag);
    let mut argv = vec![
        virtiofsd.to_string(),
        format!("--socket-path={}", share_socket(id, share)),
        // Whose group the VM's user is in; nobody else of it gets to where the socket is.
        "--socket-group=kvm".to_owned(),
        format!("--shared-dir={}", share.source),
        // systemd has made the sandbox already.
        "--sandbox=none".to_owned(),
        "--modcaps=-mknod:-setfcap".to_owned(),
        "--inode-file-handles=never".to_owned(),
        "--rlimit-nofile=0".to_owned(),
    ];
    if share.access == DiskAccess::ReadOnly {
        argv.push("--readonly".to_owned());
    }
    let mut unit = Builder::default();
    let description = format!("Share {} of virtual machine {id}", share.tag);
    unit.companion(id, &name, description, argv);
    unit.service("LimitNOFILE", Setting::Number(1 << 19));
    unit.service("CapabilityBoundingSet", Setting::Capabilities(FILES));
    let users = ["/etc/group", "/etc/passwd", "/etc/nsswitch.conf"];
    let (write, read) = match share.access {
        DiskAccess::ReadWrite => (Some(&share.source), None),
        DiskAccess::ReadOnly => (None, Some(&share.source)),
    };
    let read = users.into_iter().chain(read.map(AbsolutePath::as_str));
    let write = write.map(AbsolutePath::as_str);
    unit.companion_binds(id, virtiofsd, read, write);
    unit.build(name)
}

fn tpm(id: &VmId, state: &AbsolutePath, swtpm: &Utf8Path) -> Unit {
    let name = format!("nkudo-swtpm@{id}.service");
    let argv = vec![
        swtpm.to_string(),
        "socket".to_owned(),
        "--tpm2".to_owned(),
        format!("--tpmstate=dir={state},mode=0600"),
        // Everybody may who gets there, which is the VM's user alone.
        format!("--ctrl=type=unixio,path={},mode=0666", tpm_socket(id)),
        "--flags=startup-clear".to_owned(),
    ];
    let mut unit = Builder::default();
    unit.companion(id, &name, format!("TPM of virtual machine {id}"), argv);
    unit.service("CapabilityBoundingSet", Setting::NoCapabilities);
    unit.service("RestrictSUIDSGID", Setting::Flag(true));
    unit.service("ProcSubset", text("pid"));
    unit.companion_binds(id, swtpm, std::iter::empty(), Some(state.as_str()));
    unit.build(name)
}

impl Builder {
    fn companion(&mut self, id: &VmId, name: &str, description: String, argv: Vec<String>) {
        self.unit("Description", text(description));
        self.unit("StopWhenUnneeded", Setting::Flag(true));
        self.unit("CollectMode", text("inactive-or-failed"));
        // It ends with each connection: a guest that reboots in a loop must find it again.
        self.unit("StartLimitIntervalSec", Setting::Span(Duration::ZERO));
        self.service("Type", text("exec"));
        let privilege = Privilege::Sandboxed;
        self.service("ExecStart", Setting::Exec(Exec { argv, privilege }));
        self.service("Restart", text("always"));
        self.service("RestartSec", Setting::Span(Duration::from_millis(100)));
        self.service("RestartSteps", Setting::Count(10));
        self.service("RestartMaxDelaySec", Setting::Span(Duration::from_secs(1)));
        self.service("TimeoutStopSec", Setting::Span(Duration::from_secs(10)));
        self.service("Slice", text(slice_name()));
        self.journal_vm(id);
        self.service("RootDirectory", text(companion_root(name, id).to_string()));
        self.service("MountAPIVFS", Setting::Flag(true));
        self.service("BindLogSockets", Setting::Flag(true));
        self.service("UMask", Setting::Mode(0o077));
        for key in HARDENED.into_iter().chain([
            "PrivateDevices",
            "PrivateNetwork",
            "ProtectKernelTunables",
        ]) {
            self.service(key, Setting::Flag(true));
        }
        self.service("ProtectProc", text("invisible"));
        self.unix_sockets_only();
    }

    fn companion_binds<'a>(
        &mut self,
        id: &VmId,
        program: &'a Utf8Path,
        read: impl Iterator<Item = &'a str>,
        write: Option<&'a str>,
    ) {
        let program = Some(program.as_str()).filter(|path| !is_of_the_system(path));
        let read: Vec<Bind> = SYSTEM_FILES
            .into_iter()
            .chain(program)
            .chain(read)
            .map(Bind::same)
            .collect();
        self.service("BindReadOnlyPaths", Setting::Binds(read));
        let sockets = sockets_directory(id).to_string();
        let write = std::iter::once(sockets).chain(write.map(str::to_owned));
        self.service("BindPaths", Setting::Binds(write.map(Bind::same).collect()));
    }
}
