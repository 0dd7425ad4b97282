//! qemu-img, and other programs that make disks.
//!
//! An image may be made to attack who reads it, and a disk was in the hands of a guest: what reads one is
//! a transient unit, run by `systemd-run`, of a user of its own who sees this file and nothing else of the host.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};

use crate::host::{DiskFormat, ForeignFormat, Size};
use crate::unit::RUNTIME_ROOT;
use crate::{files, programs};

pub const PROGRAM: &str = "qemu-img";

/// Where the unit finds what it is to read and to write.
const SOURCE: &str = "/work/source";
const TARGET: &str = "/work/target";

/// Makes a qcow2 file that holds what differs from `backing`, in the place of an empty one.
///
/// With `-u` qemu-img does not open the image, which is why this needs no sandbox.
pub fn create_overlay(
    path: &Utf8Path,
    backing: &Utf8Path,
    format: DiskFormat,
    size: Size,
) -> anyhow::Result<()> {
    let mut command = Command::new(program()?);
    command
        .args([
            "create",
            "-q",
            "-u",
            "-f",
            "qcow2",
            "-F",
            format.as_str(),
            "-b",
        ])
        .arg(backing)
        .arg(path)
        .arg(size.bytes().to_string());
    run(command, PROGRAM)
}

/// Makes a disk larger that may lie over an image.
pub fn resize(
    path: &Utf8Path,
    format: DiskFormat,
    backing: Option<&Utf8Path>,
    size: Size,
) -> anyhow::Result<()> {
    // By its own path, which a qcow2 file above it has in its header.
    let seen: Vec<Bind<'_>> = backing.map(Bind::as_it_is).into_iter().collect();
    let arguments = [
        "resize",
        "-q",
        "-f",
        format.as_str(),
        TARGET,
        &size.bytes().to_string(),
    ];
    in_sandbox(&seen, path, &arguments)
}

/// Converts an image to raw, into an empty file.
pub fn convert(source: &Utf8Path, format: ForeignFormat, target: &Utf8Path) -> anyhow::Result<()> {
    let source = Bind {
        path: source,
        at: SOURCE,
    };
    let arguments = [
        "convert",
        "-q",
        "-f",
        format.qemu(),
        "-O",
        "raw",
        SOURCE,
        TARGET,
    ];
    in_sandbox(&[source], target, &arguments)
}

/// A file of the host in the sandbox.
struct Bind<'a> {
    path: &'a Utf8Path,
    at: &'a str,
}

impl<'a> Bind<'a> {
    fn as_it_is(path: &'a Utf8Path) -> Self {
        Self {
            path,
            at: path.as_str(),
        }
    }
}

/// Runs qemu-img as a user of its own, in a root directory in which there is nothing but itself, what it
/// reads, and `target`, which it may write.
fn in_sandbox(read: &[Bind<'_>], target: &Utf8Path, arguments: &[&str]) -> anyhow::Result<()> {
    let root = Utf8Path::new(RUNTIME_ROOT).join("qemu");
    files::ensure_directory(&root, 0o755).with_context(|| format!("cannot make {root}"))?;
    // The user is known only to systemd; its directory is root's alone, so nobody else gets to the file.
    let mode = std::fs::metadata(target)
        .with_context(|| format!("cannot find {target}"))?
        .permissions();
    let open = |mode| {
        std::fs::set_permissions(target, mode)
            .with_context(|| format!("cannot change the mode of {target}"))
    };
    open(Permissions::from_mode(0o666))?;
    let done = run(sandboxed(&root, read, target, arguments)?, PROGRAM);
    open(mode)?;
    done
}

fn sandboxed(
    root: &Utf8Path,
    read: &[Bind<'_>],
    target: &Utf8Path,
    arguments: &[&str],
) -> anyhow::Result<Command> {
    let program = program()?;
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
    property("Description=qemu-img for nkudo");
    property(&format!("RootDirectory={root}"));
    let system = ["/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/nix/store"];
    for path in system {
        property(&format!("BindReadOnlyPaths=-{path}"));
    }
    if !program.starts_with("/usr") && !program.starts_with("/nix/store") {
        property(&format!("BindReadOnlyPaths={program}"));
    }
    for bind in read {
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
        // Far more than a conversion needs; an image can be made to need without end.
        "MemoryMax=1G",
        "TasksMax=64",
        "LimitCORE=0",
        "RuntimeMaxSec=6h",
    ] {
        property(setting);
    }
    command.arg("--").arg(program).args(arguments);
    Ok(command)
}

fn program() -> anyhow::Result<Utf8PathBuf> {
    let found = programs::find(PROGRAM).with_context(|| {
        format!("there is no {PROGRAM}; install qemu-utils, or what has it here")
    })?;
    found
        .canonicalize_utf8()
        .with_context(|| format!("cannot find {found}"))
}

/// Runs a program to its end; an error has the end of what it said.
pub fn run(mut command: Command, name: &str) -> anyhow::Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<String> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.chars().filter(|c| !c.is_control()).take(300).collect())
        .collect();
    let last = said[said.len().saturating_sub(3)..].join("; ");
    bail!("{name} failed ({}): {last}", output.status)
}
