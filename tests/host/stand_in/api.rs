//! The API: HTTP on a unix socket.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::Chain;

/// What somebody asked for over the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    PowerButton,
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

/// The `state` of vm.info; nothing before there is a VM.
type State = Arc<Mutex<Option<&'static str>>>;

impl Api {
    pub(super) fn serve(socket: Option<&Path>) -> Result<Self, Chain> {
        let (ask, asked) = mpsc::unbounded_channel();
        let state = State::default();
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
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
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

/// Answers the requests of one connection. None of them that matters here has a body.
async fn exchange(mut stream: UnixStream, ask: mpsc::UnboundedSender<Asked>, state: State) {
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        while let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            let head: Vec<u8> = request.drain(..end + 4).collect();
            let head = String::from_utf8_lossy(&head).into_owned();
            let line = head.lines().next().unwrap_or("");
            let (answer, asked) = answer(line, &state);
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

fn answer(line: &str, state: &State) -> (String, Option<Asked>) {
    let state = *state.lock().unwrap_or_else(PoisonError::into_inner);
    let none = ("204", String::new());
    let running = |asked: Asked, what: &str| {
        if state == Some("Running") {
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
            Some(state) => {
                let body = format!(r#"{{"config":{{}},"state":"{state}","memory_actual_size":0}}"#);
                (("200", body), None)
            }
            None => (("404", r#"["VM is not created"]"#.to_owned()), None),
        },
        "GET /api/v1/vm.counters" => (("200", "{}".to_owned()), None),
        "PUT /api/v1/vm.power-button" => {
            running(Asked::PowerButton, "Error triggering power button")
        }
        "PUT /api/v1/vm.shutdown" => running(Asked::VmShutdown, "The VM could not shutdown"),
        "PUT /api/v1/vmm.shutdown" => (("200", String::new()), Some(Asked::VmmShutdown)),
        _ => (("404", r#"["Not Found"]"#.to_owned()), None),
    };
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
