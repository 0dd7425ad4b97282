//! cloud-hypervisor's API: HTTP over the unix socket of one VMM.

use std::io;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;

/// How long one call may take. The VMM answers in milliseconds, or hangs.
const LIMIT: Duration = Duration::from_secs(5);
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
    #[error("the VMM did not answer {request} within {} s", LIMIT.as_secs())]
    Hangs { request: &'static str },
    #[error("the VMM did not answer {request} in HTTP")]
    Http {
        request: &'static str,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the VMM refused {request} with {status}")]
    Refused {
        request: &'static str,
        status: StatusCode,
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

/// One VMM, by its API socket.
#[derive(Debug, Clone)]
pub struct Vmm {
    socket: Utf8PathBuf,
}

impl Vmm {
    pub fn new(socket: &Utf8Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// Whether the guest's vCPUs run.
    pub async fn state(&self) -> Result<VmState, VmmError> {
        #[derive(Deserialize)]
        struct Info {
            state: VmState,
        }
        let request = "vm.info";
        let body = self.call(Method::GET, request).await?;
        let info: Info =
            serde_json::from_slice(&body).map_err(|source| VmmError::Answer { request, source })?;
        Ok(info.state)
    }

    /// Presses the ACPI power button. Whether the guest reacts is another matter.
    pub async fn power_button(&self) -> Result<(), VmmError> {
        self.call(Method::PUT, "vm.power-button").await.map(|_| ())
    }

    async fn call(&self, method: Method, request: &'static str) -> Result<Bytes, VmmError> {
        tokio::time::timeout(LIMIT, self.exchange(method, request))
            .await
            .map_err(|_| VmmError::Hangs { request })?
    }

    async fn exchange(&self, method: Method, request: &'static str) -> Result<Bytes, VmmError> {
        let http = |source: hyper::Error| VmmError::Http {
            request,
            source: source.into(),
        };
        let stream =
            UnixStream::connect(&self.socket)
                .await
                .map_err(|source| VmmError::Absent {
                    socket: self.socket.clone(),
                    source,
                })?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
        let call = Request::builder()
            .method(method)
            .uri(format!("/api/v1/{request}"))
            .header(hyper::header::HOST, "localhost")
            .body(Empty::<Bytes>::new())
            .map_err(|source| VmmError::Http {
                request,
                source: source.into(),
            })?;
        let answer = async {
            let response = sender.send_request(call).await.map_err(http)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LARGEST).collect().await;
            let body = body.map_err(|source| VmmError::Http { request, source })?;
            if status.is_success() {
                Ok(body.to_bytes())
            } else {
                Err(VmmError::Refused { request, status })
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
