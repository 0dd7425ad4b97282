//! cloud-hypervisor's API: HTTP over the unix socket of one VMM.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::host::VmId;
use crate::hypervisor::api_socket;
use crate::unit::runtime_directory;

/// How long one call may take. The VMM answers in milliseconds, or hangs.
const LIMIT: Duration = Duration::from_secs(5);
/// Of the records of calls, which are for the journal alone.
pub const CALLS: &str = "nkudo::calls";
/// The largest answer that is read, in bytes: `vm.info` has some 10 KB.
const LARGEST: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum VmmError {
    /// Nobody serves the socket: the VMM is not up yet, or not any more.
    #[error("nobody answers on {socket}")]
    Absent {
        socket: Utf8PathBuf,
        source: io::Error,
    },
    #[error("cannot connect to {socket}")]
    Denied {
        socket: Utf8PathBuf,
        source: io::Error,
    },
    #[error("the VMM did not answer {request} within {} s", LIMIT.as_secs())]
    Hangs { request: &'static str },
    #[error("the VMM did not answer {request} in HTTP")]
    Http {
        request: &'static str,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the VMM refused {request}: {why}")]
    Refused {
        request: &'static str,
        status: StatusCode,
        /// The VMM's own words.
        why: String,
    },
    #[error("the VMM's answer to {request} is not as its API says")]
    Answer {
        request: &'static str,
        source: serde_json::Error,
    },
}

/// `state` of vm.info.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum VmState {
    Created,
    Running,
    Shutdown,
    Paused,
    BreakPoint,
}

/// What vm.info says, as far as nkudo asks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct VmInfo {
    pub state: VmState,
    pub config: VmConfig,
    /// The devices that the guest has not let go of, by their ids.
    #[serde(default)]
    pub device_tree: Option<BTreeMap<String, Value>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct VmConfig {
    pub cpus: CpusConfig,
    pub memory: MemoryConfig,
    #[serde(default)]
    pub balloon: Option<BalloonConfig>,
    #[serde(default)]
    pub disks: Option<Vec<DiskConfig>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct BalloonConfig {
    /// In bytes, what the guest was asked to do without.
    pub size: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct CpusConfig {
    /// The vCPUs that there are, or that the guest was told of.
    pub boot_vcpus: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct MemoryConfig {
    /// In bytes, at boot.
    pub size: u64,
    /// In bytes, what was plugged in since.
    #[serde(default)]
    pub hotplugged_size: Option<u64>,
}

impl MemoryConfig {
    pub fn total(self) -> u64 {
        self.size.saturating_add(self.hotplugged_size.unwrap_or(0))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DiskConfig {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub serial: Option<String>,
}

impl VmState {
    /// The word of `nkudo status`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Shutdown => "shut-down",
            Self::Paused => "paused",
            Self::BreakPoint => "break-point",
        }
    }
}

/// One VMM, by its API socket.
#[derive(Debug, Clone)]
pub struct Vmm {
    socket: Utf8PathBuf,
    /// For the journal; the steps of a VM's unit have it there anyway.
    id: Option<VmId>,
}

impl Vmm {
    pub fn new(socket: &Utf8Path) -> Self {
        Self {
            socket: socket.to_owned(),
            id: None,
        }
    }

    /// A VM's VMM, as its unit has it.
    pub fn of(id: &VmId) -> Self {
        Self {
            socket: api_socket(&runtime_directory(id)),
            id: Some(id.clone()),
        }
    }

    /// Whether the guest's vCPUs run.
    pub async fn state(&self) -> Result<VmState, VmmError> {
        #[derive(Deserialize)]
        struct Info {
            state: VmState,
        }
        let request = "vm.info";
        let body = self.call(Method::GET, request, None).await?;
        let info: Info =
            serde_json::from_slice(&body).map_err(|source| VmmError::Answer { request, source })?;
        Ok(info.state)
    }

    pub async fn info(&self) -> Result<VmInfo, VmmError> {
        let request = "vm.info";
        let body = self.call(Method::GET, request, None).await?;
        serde_json::from_slice(&body).map_err(|source| VmmError::Answer { request, source })
    }

    /// Gives the VM so many vCPUs and so much memory, in bytes, where it has not. What the guest does
    /// with it, and whether it lets go of what is taken, is another matter.
    pub async fn resize(&self, vcpus: u32, memory: u64) -> Result<(), VmmError> {
        let VmConfig {
            cpus, memory: has, ..
        } = self.info().await?.config;
        let mut body = serde_json::Map::new();
        // The VMM refuses a size that is the one it has.
        if cpus.boot_vcpus != vcpus {
            body.insert("desired_vcpus".to_owned(), vcpus.into());
        }
        if has.total() != memory {
            body.insert("desired_ram".to_owned(), memory.into());
        }
        if body.is_empty() {
            return Ok(());
        }
        self.put("vm.resize", &Value::Object(body)).await
    }

    /// Asks the guest to do without so many bytes, where it was not asked.
    pub async fn resize_balloon(&self, size: u64) -> Result<(), VmmError> {
        let has = self.info().await?.config.balloon;
        if has.is_some_and(|has| has.size == size) {
            return Ok(());
        }
        self.put("vm.resize", &json!({ "desired_balloon": size }))
            .await
    }

    /// Plugs in a disk; `config` is a DiskConfig of the API.
    pub async fn add_disk(&self, config: &Value) -> Result<(), VmmError> {
        self.put("vm.add-disk", config).await
    }

    /// Asks the guest to let go of a device; it is closed once the guest has.
    pub async fn remove_device(&self, id: &str) -> Result<(), VmmError> {
        self.put("vm.remove-device", &json!({ "id": id })).await
    }

    /// Makes a disk so many bytes large, its file as well, and tells the guest.
    pub async fn resize_disk(&self, id: &str, size: u64) -> Result<(), VmmError> {
        self.put("vm.resize-disk", &json!({ "id": id, "desired_size": size }))
            .await
    }

    async fn put(&self, request: &'static str, body: &Value) -> Result<(), VmmError> {
        let body = body.to_string().into_bytes();
        self.call(Method::PUT, request, Some(body))
            .await
            .map(|_| ())
    }

    /// Presses the ACPI power button. Whether the guest reacts is another matter.
    pub async fn power_button(&self) -> Result<(), VmmError> {
        self.call(Method::PUT, "vm.power-button", None)
            .await
            .map(|_| ())
    }

    /// Stops the vCPUs where they are.
    pub async fn pause(&self) -> Result<(), VmmError> {
        self.call(Method::PUT, "vm.pause", None).await.map(|_| ())
    }

    /// Lets the vCPUs of a paused VM go on.
    pub async fn resume(&self) -> Result<(), VmmError> {
        self.call(Method::PUT, "vm.resume", None).await.map(|_| ())
    }

    /// Writes a paused VM into a directory; `limit` because that takes as long as its memory is large.
    pub async fn snapshot(&self, url: &str, limit: Duration) -> Result<(), VmmError> {
        let body = json!({ "destination_url": url }).to_string().into_bytes();
        self.call_within(limit, Method::PUT, "vm.snapshot", Some(body))
            .await
            .map(|_| ())
    }

    /// Any call, by whatever name it has; `limit` is the caller's, since some take long.
    pub async fn any(
        &self,
        method: Method,
        endpoint: &str,
        body: Option<Vec<u8>>,
        limit: Duration,
    ) -> Result<Bytes, VmmError> {
        // Errors name the calls that nkudo knows; this is one more for the rest of the run.
        let request: &'static str = endpoint.to_owned().leak();
        self.call_within(limit, method, request, body).await
    }

    async fn call(
        &self,
        method: Method,
        request: &'static str,
        body: Option<Vec<u8>>,
    ) -> Result<Bytes, VmmError> {
        self.call_within(LIMIT, method, request, body).await
    }

    async fn call_within(
        &self,
        limit: Duration,
        method: Method,
        request: &'static str,
        body: Option<Vec<u8>>,
    ) -> Result<Bytes, VmmError> {
        tokio::time::timeout(limit, self.exchange(method, request, body))
            .await
            .map_err(|_| VmmError::Hangs { request })?
    }

    async fn exchange(
        &self,
        method: Method,
        request: &'static str,
        body: Option<Vec<u8>>,
    ) -> Result<Bytes, VmmError> {
        if method != Method::GET {
            self.note(request, body.as_deref());
        }
        let http = |source: hyper::Error| VmmError::Http {
            request,
            source: source.into(),
        };
        let stream = UnixStream::connect(&self.socket).await.map_err(|source| {
            let socket = self.socket.clone();
            match source.kind() {
                io::ErrorKind::PermissionDenied => VmmError::Denied { socket, source },
                _ => VmmError::Absent { socket, source },
            }
        })?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
        let mut call = Request::builder();
        if body.is_some() {
            call = call.header(hyper::header::CONTENT_TYPE, "application/json");
        }
        let call = call
            .method(method)
            .uri(format!("/api/v1/{request}"))
            .header(hyper::header::HOST, "localhost")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|source| VmmError::Http {
                request,
                source: source.into(),
            })?;
        let answer = async {
            let response = sender.send_request(call).await.map_err(http)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LARGEST).collect().await;
            let body = body.map_err(|source| VmmError::Http { request, source })?;
            let body = body.to_bytes();
            if status.is_success() {
                Ok(body)
            } else {
                let why = refusal(status, &body);
                Err(VmmError::Refused {
                    request,
                    status,
                    why,
                })
            }
        };
        // The connection is driven until the answer is there; then both are dropped.
        tokio::select! {
            biased;
            answer = answer => answer,
            ended = connection => match ended {
                Err(source) => Err(http(source)),
                Ok(()) => Err(VmmError::Http {
                    request,
                    source: "the connection was closed".into(),
                }),
            },
        }
    }
}

impl Vmm {
    /// Every call that changes something is in the journal (see `talk`).
    fn note(&self, request: &str, body: Option<&[u8]>) {
        let body = body.map(|body| format!(" {}", String::from_utf8_lossy(body)));
        let body = body.unwrap_or_default();
        if let Some(id) = &self.id {
            tracing::debug!(target: CALLS, nkudo_vm = %id, "PUT {request}{body}");
        } else {
            tracing::debug!(target: CALLS, "PUT {request}{body}");
        }
    }
}

/// Why the VMM refused: its chain of errors, made harmless for a terminal.
fn refusal(status: StatusCode, body: &[u8]) -> String {
    let chain: Vec<String> = serde_json::from_slice(body).unwrap_or_default();
    if chain.is_empty() {
        return status.to_string();
    }
    let text: String = chain.join(": ");
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .take(600)
        .collect()
}
