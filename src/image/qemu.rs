//! qemu-img, and other programs that make disks.

use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};

use super::sandbox::{Bind, SOURCE, Sandboxed, TARGET, in_sandbox};
use crate::host::{DiskFormat, ForeignFormat, Size};
use crate::programs;

pub const PROGRAM: &str = "qemu-img";

/// Far more than a conversion needs; an image can be made to need without end.
const LIMITS: &[&str] = &["MemoryMax=1G", "RuntimeMaxSec=6h"];

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
    in_sandbox(&Sandboxed {
        what: PROGRAM,
        program: &program()?,
        arguments: &arguments,
        read: &seen,
        target: path,
        limits: LIMITS,
    })
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
    in_sandbox(&Sandboxed {
        what: PROGRAM,
        program: &program()?,
        arguments: &arguments,
        read: &[source],
        target,
        limits: LIMITS,
    })
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
