//! Snapshots: the files that the real one writes, by their names, and what is in them as far as the stand-in
//! needs it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::cpu::Cpu;
use super::options::{Disk, Options, Restore, Sizes};
use super::{Chain, NAME};

/// What a case has it do instead.
pub(crate) const BEHAVIOUR: &str = "NKUDO_STAND_IN_SNAPSHOT";
const CONFIG: &str = "config.json";
const STATE: &str = "state.json";
const MEMORY: &str = "memory-ranges";

/// In the directory that the snapshot is written to: a pipe that whoever waits waits for.
pub(crate) const PIPE: &str = "waits";

/// Returns when the snapshot is to be written: a case may have it wait until somebody writes to the pipe. The real one
/// answers nothing meanwhile, but ends when it is told to, and so does this.
pub(super) async fn wait(url: &str) {
    let directory = url.strip_prefix("file://");
    let (Ok("waits"), Some(directory)) = (std::env::var(BEHAVIOUR).as_deref(), directory) else {
        return;
    };
    let pipe = Path::new(directory).join(PIPE);
    let mode = Mode::RUSR | Mode::WUSR;
    if mknodat(CWD, &pipe, FileType::Fifo, mode, 0).is_err() {
        return;
    }
    let (tell, told) = oneshot::channel();
    // None of the runtime's, which would be waited for at its end.
    std::thread::spawn(move || {
        let _ = fs::read(pipe);
        let _ = tell.send(());
    });
    let _ = told.await;
}

/// Whether the guest goes on when the snapshot is written, as if somebody had let it.
pub(super) fn goes_on() -> bool {
    std::env::var(BEHAVIOUR).as_deref() == Ok("goes on")
}

/// Writes a snapshot; a file that is there is not written over.
pub(super) fn write(
    url: &str,
    arguments: &[String],
    taps: &[Vec<i32>],
    sizes: Sizes,
    disks: &[&Disk],
    cpu: &Cpu,
) -> Result<(), String> {
    let directory = url
        .strip_prefix("file://")
        .ok_or_else(|| format!("Could not extract path from URL: {url}"))?;
    let directory = Path::new(directory);
    match std::env::var(BEHAVIOUR).as_deref() {
        Ok("refuses") => {
            return Err(
                "Could not get vCPU state GetNestedState(Invalid argument (os error 22))"
                    .to_owned(),
            );
        }
        Ok("crashes") => std::process::abort(),
        _ => {}
    }
    if !directory.is_dir() {
        return Err(format!(
            "Destination is not a directory: {}",
            directory.display()
        ));
    }
    let create = |name: &str| {
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true);
        file.open(directory.join(name))
            .map_err(|err| format!("Error creating {name}: {err}"))
    };
    let nics: Vec<Value> = taps
        .iter()
        .enumerate()
        .map(|(index, fds)| json!({ "id": format!("_net{index}"), "fds": fds }))
        .collect();
    let config = json!({ "net": nics, "arguments": arguments, "sizes": sizes, "disks": disks });
    let lost = |err: std::io::Error| err.to_string();
    let file = create(CONFIG)?;
    file.write_all_at(config.to_string().as_bytes(), 0)
        .map_err(lost)?;
    let segments: Vec<(u32, usize)> = cpu
        .memory()
        .map(|(address, bytes)| (address, bytes.len()))
        .collect();
    let state = json!({ "vcpu": cpu.registers(), "segments": segments });
    let file = create(STATE)?;
    file.write_all_at(state.to_string().as_bytes(), 0)
        .map_err(lost)?;
    let file = create(MEMORY)?;
    file.set_len(sizes.memory + sizes.hotplugged)
        .map_err(lost)?;
    for (address, bytes) in cpu.memory() {
        file.write_all_at(bytes, address.into()).map_err(lost)?;
    }
    Ok(())
}

fn refused(why: impl Into<String>) -> Chain {
    Chain::of([
        "Error restoring VM".to_owned(),
        "The VM could not be restored".to_owned(),
        why.into(),
    ])
}

fn read(directory: &Path, name: &str) -> Result<Value, Chain> {
    let text = fs::read(directory.join(name));
    let text = text.map_err(|err| refused(format!("Error opening {name}: {err}")))?;
    serde_json::from_slice(&text).map_err(|err| refused(err.to_string()))
}

/// What the VM was, with the NICs that it gets now.
pub(super) fn options(restore: &Restore, given: &Options) -> Result<Options, Chain> {
    let config = read(&restore.directory, CONFIG)?;
    let arguments = config["arguments"].as_array().cloned().unwrap_or_default();
    let arguments = arguments
        .iter()
        .filter_map(Value::as_str)
        .map(OsString::from);
    let arguments = std::iter::once(OsString::from(NAME)).chain(arguments);
    let Ok(was) = Options::parse(arguments) else {
        return Err(refused("its configuration cannot be made out"));
    };
    let mut taps = Vec::new();
    for (index, fds) in was.taps.iter().enumerate() {
        let id = format!("_net{index}");
        let now = restore.nics.get(&id);
        let now = now.ok_or_else(|| refused(format!("Missing required net device {id}")))?;
        if now.len() != fds.len() {
            return Err(refused(format!(
                "Number of Net FDs passed for {id} is {}, expected {}",
                now.len(),
                fds.len()
            )));
        }
        taps.push(now.clone());
    }
    let wrong = |err: serde_json::Error| refused(err.to_string());
    Ok(Options {
        api_socket: given.api_socket.clone(),
        log_file: given.log_file.clone(),
        events: given.events.clone(),
        restore: Some(restore.clone()),
        sizes: serde_json::from_value(config["sizes"].clone()).map_err(wrong)?,
        disks: serde_json::from_value(config["disks"].clone()).map_err(wrong)?,
        taps,
        ..was
    })
}

/// The vCPU and the memory as they were.
pub(super) fn cpu(restore: &Restore) -> Result<Cpu, Chain> {
    let state = read(&restore.directory, STATE)?;
    let lost = |err: std::io::Error| refused(err.to_string());
    let memory = File::open(restore.directory.join(MEMORY)).map_err(lost)?;
    let segments: Vec<(u32, usize)> = serde_json::from_value(state["segments"].clone())
        .map_err(|err| refused(err.to_string()))?;
    let mut there = Vec::new();
    for (address, length) in segments {
        let mut bytes = vec![0; length];
        memory
            .read_exact_at(&mut bytes, address.into())
            .map_err(lost)?;
        there.push((address, bytes));
    }
    Ok(Cpu::restored(there, &state["vcpu"]))
}
