//! The API: HTTP on a unix socket.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::cpu::Cpu;
use super::options::{Disk, Options, Sizes};
use super::{Chain, devices, snapshot};

/// What somebody asked for over the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    PowerButton,
    Pause,
    Resume,
    VmShutdown,
    VmmShutdown,
}

#[derive(Debug)]
pub(super) struct Api {
    asked: mpsc::UnboundedReceiver<Asked>,
    state: State,
    /// Removed with the VMM; nothing without `--api-socket`.
    socket: Option<PathBuf>,
}

type State = Arc<Mutex<Machine>>;

/// What vm.info tells.
#[derive(Debug, Default)]
pub(super) struct Machine {
    /// Nothing before there is a VM.
    state: Option<&'static str>,
    sizes: Sizes,
    /// By id; held open while they are there.
    disks: BTreeMap<String, (Disk, File)>,
    /// The VM's options, and its vCPU where it was paused.
    arguments: Vec<String>,
    taps: Vec<Vec<i32>>,
    still: Option<Cpu>,
}

impl Api {
    pub(super) fn serve(socket: Option<&Path>, sizes: Sizes) -> Result<Self, Chain> {
        let (ask, asked) = mpsc::unbounded_channel();
        let state = State::default();
        locked(&state).sizes = sizes;
        let mut api = Self {
            asked,
            state: Arc::clone(&state),
            socket: None,
        };
        let Some(socket) = socket else {
            return Ok(api);
        };
        let failed = |why: [String; 2]| {
            let first = "Failed to start the VMM thread".to_owned();
            Chain::of(std::iter::once(first).chain(why))
        };
        let cannot = |err: std::io::Error| {
            failed([
                "Error creation API server's socket".to_owned(),
                err.to_string(),
            ])
        };
        let lock = File::create(socket.with_extension("sock.lock")).map_err(cannot)?;
        if lock.try_lock().is_err() {
            let why = format!(
                "API socket \"{}\" is already in use by another running instance",
                socket.display()
            );
            return Err(failed([why, String::new()]));
        }
        // What a killed VMM left behind.
        let _ = fs::remove_file(socket);
        let listener = UnixListener::bind(socket).map_err(cannot)?;
        api.socket = Some(socket.to_owned());
        tokio::spawn(async move {
            // Locked while it serves.
            let _lock = lock;
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(exchange(stream, ask.clone(), Arc::clone(&state)));
            }
        });
        Ok(api)
    }

    pub(super) fn state(&self, state: &'static str) {
        locked(&self.state).state = Some(state);
    }

    /// What the VM was made of.
    pub(super) fn configured(&self, options: &Options) {
        let mut machine = locked(&self.state);
        machine.arguments.clone_from(&options.arguments);
        machine.taps.clone_from(&options.taps);
    }

    /// What a snapshot is of.
    pub(super) fn still(&self, cpu: &Cpu) {
        locked(&self.state).still = Some(cpu.clone());
    }

    /// A disk that the VM has from its start.
    pub(super) fn disk(&self, disk: Disk, file: File) {
        locked(&self.state)
            .disks
            .insert(disk.id.clone(), (disk, file));
    }

    /// Waits until somebody asks for something.
    pub(super) async fn asked(&mut self) -> Asked {
        match self.asked.recv().await {
            Some(asked) => asked,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            let _ = fs::remove_file(socket);
        }
    }
}

fn locked(state: &State) -> MutexGuard<'_, Machine> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The length of a request's body.
fn length(head: &str) -> usize {
    let mut lines = head.lines().map(str::to_ascii_lowercase);
    lines
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
        .unwrap_or(0)
}

/// Answers the requests of one connection.
async fn exchange(mut stream: UnixStream, ask: mpsc::UnboundedSender<Asked>, state: State) {
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        while let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&request[..end + 4]).into_owned();
            let whole = end + 4 + length(&head);
            if request.len() < whole {
                break;
            }
            let body: Vec<u8> = request.drain(..whole).skip(end + 4).collect();
            let line = head.lines().next().unwrap_or("");
            if line.starts_with("PUT /api/v1/vm.snapshot ") {
                snapshot::wait(&destination(&body)).await;
            }
            let (answer, asked) = answer(line, &body, &state);
            if let Some(asked) = asked {
                let _ = ask.send(asked);
            }
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
        match stream.read(&mut chunk).await {
            Ok(length) if length > 0 => request.extend_from_slice(&chunk[..length]),
            _ => return,
        }
    }
}

/// Where a snapshot is written to.
fn destination(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let url = body["destination_url"].as_str();
    url.unwrap_or_default().to_owned()
}

fn answer(line: &str, body: &[u8], machine: &State) -> (String, Option<Asked>) {
    let state = locked(machine).state;
    let none = ("204", String::new());
    let running = |asked: Asked, what: &str| {
        let paused = state == Some("Paused");
        if state == Some("Running") || paused && asked != Asked::Pause {
            return (none.clone(), Some(asked));
        }
        let body = format!(r#"["Error from API","{what}","VM is not running"]"#);
        (("500", body), None)
    };
    let ((status, body), asked) = match line.trim_end_matches(" HTTP/1.1") {
        "GET /api/v1/vmm.ping" => {
            let body = format!(
                r#"{{"build_version":"v53.0","version":"53.0.0","pid":{},"features":[]}}"#,
                std::process::id()
            );
            (("200", body), None)
        }
        "GET /api/v1/vm.info" => match state {
            Some(_) => (("200", locked(machine).info()), None),
            None => (("404", r#"["VM is not created"]"#.to_owned()), None),
        },
        "GET /api/v1/vm.counters" => (("200", "{}".to_owned()), None),
        "PUT /api/v1/vm.power-button" => {
            running(Asked::PowerButton, "Error triggering power button")
        }
        "PUT /api/v1/vm.resize" => (locked(machine).resize(body), None),
        "PUT /api/v1/vm.resize-disk" => (locked(machine).resize_disk(body), None),
        "PUT /api/v1/vm.add-disk" => (locked(machine).add_disk(body), None),
        "PUT /api/v1/vm.remove-device" => (locked(machine).remove_device(body), None),
        "PUT /api/v1/vm.snapshot" => {
            let goes_on = snapshot::goes_on().then_some(Asked::Resume);
            (locked(machine).snapshot(body), goes_on)
        }
        "PUT /api/v1/vm.pause" => running(Asked::Pause, "The VM could not be paused"),
        "PUT /api/v1/vm.resume" => match state {
            Some("Paused") => (none.clone(), Some(Asked::Resume)),
            _ => (refusal("The VM could not resume", "VM is not paused"), None),
        },
        "PUT /api/v1/vm.shutdown" => running(Asked::VmShutdown, "The VM could not shutdown"),
        "PUT /api/v1/vmm.shutdown" => (("200", String::new()), Some(Asked::VmmShutdown)),
        _ => (("404", r#"["Not Found"]"#.to_owned()), None),
    };
    // It answers when it is done.
    match asked {
        Some(Asked::Pause) => locked(machine).state = Some("Paused"),
        Some(Asked::Resume) => locked(machine).state = Some("Running"),
        _ => {}
    }
    let length = match status {
        "204" => String::new(),
        _ => format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        ),
    };
    let answer = format!(
        "HTTP/1.1 {status} \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n{length}\r\n{body}"
    );
    (answer, asked)
}

type Answer = (&'static str, String);

/// A refusal, as the chain of errors that cloud-hypervisor answers with.
fn refusal(what: &str, why: &str) -> Answer {
    ("500", json!(["Error from API", what, why]).to_string())
}

impl Machine {
    fn info(&self) -> String {
        let Sizes {
            vcpus,
            memory,
            hotplug,
            hotplugged,
            max_vcpus,
            balloon,
        } = self.sizes;
        let disks: Vec<Value> = self
            .disks
            .values()
            .map(|(disk, _)| json!({ "id": disk.id, "path": disk.path, "serial": disk.serial }))
            .collect();
        let tree: BTreeMap<&String, Value> = self
            .disks
            .keys()
            .map(|id| (id, json!({ "id": id })))
            .collect();
        json!({
            "config": {
                "cpus": { "boot_vcpus": vcpus, "max_vcpus": max_vcpus },
                "memory": { "size": memory, "hotplug_size": hotplug, "hotplugged_size": hotplugged },
                "balloon": balloon.map(|size| json!({ "size": size })),
                "disks": disks,
            },
            "state": self.state,
            "memory_actual_size": memory + hotplugged,
            "device_tree": tree,
        })
        .to_string()
    }

    fn snapshot(&self, body: &[u8]) -> Answer {
        let what = "The VM could not be snapshotted";
        let (Some("Paused"), Some(cpu)) = (self.state, &self.still) else {
            return refusal(what, "Trying to snapshot while VM is running");
        };
        let disks: Vec<&Disk> = self.disks.values().map(|(disk, _)| disk).collect();
        let url = destination(body);
        match snapshot::write(&url, &self.arguments, &self.taps, self.sizes, &disks, cpu) {
            Ok(()) => ("204", String::new()),
            Err(why) => refusal(what, &why),
        }
    }

    fn resize(&mut self, body: &[u8]) -> Answer {
        let what = "The VM could not be resized";
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let sizes = &mut self.sizes;
        if let Some(vcpus) = body["desired_vcpus"].as_u64() {
            if vcpus == 0 || vcpus > sizes.max_vcpus.into() {
                return refusal(what, "Desired vCPU count exceeds maximum");
            }
            sizes.vcpus = u8::try_from(vcpus).unwrap_or(u8::MAX);
        }
        if let Some(memory) = body["desired_ram"].as_u64() {
            let more = memory.checked_sub(sizes.memory);
            match more {
                Some(more) if more == sizes.hotplugged => {
                    return refusal(what, "new size and requested_size are identical");
                }
                Some(more) if more > sizes.hotplug || !more.is_multiple_of(2 << 20) => {
                    return refusal(what, &format!("new size {more:#x} does not fit"));
                }
                Some(more) => sizes.hotplugged = more,
                None => return refusal(what, "Invalid resize below boot size"),
            }
        }
        // As the real one, which only warns where there is none.
        if let (Some(balloon), Some(wanted)) =
            (&mut sizes.balloon, body["desired_balloon"].as_u64())
        {
            *balloon = wanted;
        }
        ("204", String::new())
    }

    fn resize_disk(&mut self, body: &[u8]) -> Answer {
        let what = "The disk could not be resized";
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let id = body["id"].as_str().unwrap_or_default();
        let size = body["desired_size"].as_u64();
        match (self.disks.get(id), size) {
            (Some((disk, file)), Some(size)) if !disk.qcow2 && disk.write => {
                match file.set_len(size) {
                    Ok(()) => ("204", String::new()),
                    Err(err) => refusal(what, &err.to_string()),
                }
            }
            (Some(_), _) => refusal(what, "Error resizing disk"),
            (None, _) => refusal(
                what,
                &format!("Failed to find device corresponding to the given identifier: {id}"),
            ),
        }
    }

    fn add_disk(&mut self, body: &[u8]) -> Answer {
        let what = "The disk could not be added to the VM";
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let disk = Disk {
            id: text("id"),
            serial: text("serial"),
            path: text("path").into(),
            write: body["readonly"] != true,
            qcow2: body["image_type"] == "Qcow2",
        };
        if self.disks.contains_key(&disk.id) {
            let why = format!("Invalid identifier as it is not unique: {}", disk.id);
            return refusal(what, &why);
        }
        match devices::disk(&disk) {
            Ok(file) => {
                let answer = json!({ "id": disk.id, "bdf": "0000:00:04.0" }).to_string();
                self.disks.insert(disk.id.clone(), (disk, file));
                ("200", answer)
            }
            Err(chain) => refusal(what, &format!("{chain:?}")),
        }
    }

    /// Its guest lets go of everything at once.
    fn remove_device(&mut self, body: &[u8]) -> Answer {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let id = body["id"].as_str().unwrap_or_default();
        match self.disks.remove(id) {
            Some(_) => ("204", String::new()),
            None => refusal(
                "The device could not be removed from the VM",
                &format!("Failed to find device corresponding to the given identifier: {id}"),
            ),
        }
    }
}
