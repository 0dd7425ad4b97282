//! Where programs read images and disks.
//!
//! An image may be made to attack who reads it, and a disk was in the hands of a guest: what reads one is
//! a transient unit, run by `systemd-run`, of a user of its own who sees this file and nothing else of the host.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use anyhow::Context as _;
use camino::Utf8Path;

use super::qemu;
use crate::unit::{RUNTIME_ROOT, SYSTEM_FILES};
use crate::{files, programs};

/// Where the unit finds what it is to read and to write.
pub(super) const SOURCE: &str = "/work/source";
pub(super) const TARGET: &str = "/work/target";

/// A file of the host in the sandbox.
pub(super) struct Bind<'a> {
    pub(super) path: &'a Utf8Path,
    pub(super) at: &'a str,
}

impl<'a> Bind<'a> {
    pub(super) fn as_it_is(path: &'a Utf8Path) -> Self {
        Self {
            path,
            at: path.as_str(),
        }
    }
}

/// A program that reads what may be made to attack it.
pub(super) struct Sandboxed<'a> {
    /// What it is to people.
    pub(super) what: &'a str,
    pub(super) program: &'a Utf8Path,
    pub(super) arguments: &'a [&'a str],
    pub(super) read: &'a [Bind<'a>],
    /// The one file that it may write.
    pub(super) target: &'a Utf8Path,
    /// Settings of the unit.
    pub(super) limits: &'a [&'a str],
}

/// Runs a program as a user of its own, in a root directory in which there is nothing but itself, what it
/// reads, and its target.
pub(super) fn in_sandbox(sandboxed: &Sandboxed<'_>) -> anyhow::Result<()> {
    let root = Utf8Path::new(RUNTIME_ROOT).join("qemu");
    files::ensure_directory(&root, 0o755).with_context(|| format!("cannot make {root}"))?;
    let target = sandboxed.target;
    // The user is known only to systemd; its directory is root's alone, so nobody else gets to the file.
    let mode = std::fs::metadata(target)
        .with_context(|| format!("cannot find {target}"))?
        .permissions();
    let open = |mode| {
        std::fs::set_permissions(target, mode)
            .with_context(|| format!("cannot change the mode of {target}"))
    };
    open(Permissions::from_mode(0o666))?;
    let done = qemu::run(command(&root, sandboxed)?, sandboxed.what);
    open(mode)?;
    done
}

fn command(root: &Utf8Path, sandboxed: &Sandboxed<'_>) -> anyhow::Result<Command> {
    let Sandboxed {
        what,
        program,
        arguments,
        read,
        target,
        limits,
    } = sandboxed;
    let mut command = Command::new(
        programs::find("systemd-run").context("there is no systemd-run, which systemd brings")?,
    );
    command.args([
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        "--service-type=exec",
    ]);
    let mut property = |text: &str| {
        command.arg(format!("--property={text}"));
    };
    property(&format!("Description={what} for nkudo"));
    property(&format!("RootDirectory={root}"));
    for path in SYSTEM_FILES {
        property(&format!("BindReadOnlyPaths=-{path}"));
    }
    if !program.starts_with("/usr") && !program.starts_with("/nix/store") {
        property(&format!("BindReadOnlyPaths={program}"));
    }
    for bind in *read {
        property(&format!("BindReadOnlyPaths={}:{}", bind.path, bind.at));
    }
    property(&format!("BindPaths={target}:{TARGET}"));
    for setting in [
        "DynamicUser=yes",
        "MountAPIVFS=yes",
        "PrivateDevices=yes",
        "PrivateNetwork=yes",
        "PrivateUsers=yes",
        "PrivateTmp=yes",
        "PrivateIPC=yes",
        "ProtectSystem=strict",
        "ProtectHome=no",
        "ProtectProc=invisible",
        "ProcSubset=pid",
        "ProtectClock=yes",
        "ProtectHostname=yes",
        "ProtectControlGroups=yes",
        "ProtectKernelLogs=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelTunables=yes",
        "CapabilityBoundingSet=",
        "NoNewPrivileges=yes",
        "MemoryDenyWriteExecute=yes",
        "LockPersonality=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "RestrictNamespaces=yes",
        "RestrictAddressFamilies=AF_UNIX",
        "SystemCallArchitectures=native",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources",
        "TasksMax=64",
        "LimitCORE=0",
    ] {
        property(setting);
    }
    for limit in *limits {
        property(limit);
    }
    command.arg("--").arg(program).args(*arguments);
    Ok(command)
}
