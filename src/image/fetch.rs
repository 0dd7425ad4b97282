//! Fetches a file over HTTP, and goes on where an earlier fetch stopped.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use sha2::Digest as _;
use ureq::http::{Response, StatusCode};
use ureq::tls::{RootCerts, TlsConfig};

use super::proxy::{self, BadProxy, Through};
use super::sparse::SparseWriter;
use super::verify::{VerifyError, matches};
use super::{Progress, certificate};
use crate::host::{BadUrl, Sha256, Url};

/// How long a server may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// To be found, to be connected to, and to begin its answer; each.
    pub answer: Duration,
    /// From one piece of the body to the next.
    pub stall: Duration,
    /// Tries in a row that get nothing.
    pub tries: u32,
    /// Before the second try; twice as long before each further one.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            tries: 3,
            pause: Duration::from_secs(1),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("the server of {url} answers {status}")]
    Status { url: Url, status: StatusCode },
    #[error("cannot fetch {url}{}", through(proxy.as_deref()))]
    Http {
        url: Url,
        proxy: Option<String>,
        source: Box<ureq::Error>,
    },
    #[error("cannot fetch {url}: the certificate of {host} is not taken: {why}")]
    Certificate { url: Url, host: String, why: String },
    #[error("cannot fetch {url}")]
    Proxy {
        url: Url,
        #[source]
        source: BadProxy,
    },
    #[error(
        "cannot fetch {url}: {proxy}, the proxy of `{variable}`, refuses to connect to {host}: {why}"
    )]
    RefusedByProxy {
        url: Url,
        host: String,
        proxy: String,
        variable: &'static str,
        why: String,
    },
    #[error("cannot fetch {url}: {from} redirects to what cannot be followed")]
    Redirect {
        url: Url,
        from: String,
        #[source]
        source: BadUrl,
    },
    #[error("cannot fetch {url}: it redirects more than {REDIRECTS} times")]
    Redirects { url: Url },
    #[error("{url}: the server has sent nothing for {} s; what there is so far is kept, and the next try goes on there", stall.as_secs())]
    Stalled { url: Url, stall: Duration },
    #[error(
        "{url}: the connection ended after {at} bytes, too early; what there is so far is kept, and the next try goes on there"
    )]
    Truncated { url: Url, at: u64 },
    #[error("{url}: the server answers a part of another file than was asked for")]
    OtherPart { url: Url },
    #[error("{url} is {length} bytes, and {free} are free where it is to be kept")]
    NoRoom { url: Url, length: u64, free: u64 },
    #[error("{url} is not the file that was meant")]
    Wrong {
        url: Url,
        #[source]
        source: VerifyError,
    },
    #[error("cannot keep what is fetched")]
    Write(#[source] io::Error),
}

impl FetchError {
    /// Whether another try may end better.
    fn is_passing(&self) -> bool {
        match self {
            Self::Stalled { .. } | Self::Truncated { .. } => true,
            Self::Http { source, .. } => !matches!(
                **source,
                ureq::Error::BadUri(_) | ureq::Error::Tls(_) | ureq::Error::Rustls(_)
            ),
            Self::Status { status, .. } => {
                status.is_server_error()
                    || matches!(
                        *status,
                        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
                    )
            }
            _ => false,
        }
    }

    /// Whether what is there so far is of no use.
    pub fn spoils(&self) -> bool {
        // What could not be written would keep the filesystem full.
        matches!(self, Self::Wrong { .. } | Self::Write(_))
    }
}

/// Fetches the file into `partial`, which may hold the beginning of it already. In the end it is whole, and
/// has the checksum.
pub fn fetch(
    url: &Url,
    sha256: &Sha256,
    partial: &File,
    patience: Patience,
    progress: &Progress,
) -> Result<(), FetchError> {
    let agent = agent(patience);
    let mut fetching = Fetching {
        url,
        partial,
        patience,
        progress,
        hash: sha2::Sha256::new(),
        at: 0,
    };
    fetching.take_up().map_err(FetchError::Write)?;
    let resumed = fetching.at > 0;
    let fetched = fetching.persist(&agent);
    let matched = fetched.and_then(|()| fetching.verify(sha256));
    match matched {
        // It may have been the beginning of something else.
        Err(FetchError::Wrong { .. }) if resumed => {
            fetching.begin_anew().map_err(FetchError::Write)?;
            fetching.persist(&agent)?;
            fetching.verify(sha256)
        }
        other => other,
    }
}

/// How many redirects are followed.
const REDIRECTS: usize = 10;

fn through(proxy: Option<&str>) -> String {
    proxy.map_or_else(String::new, |proxy| format!(" through the proxy {proxy}"))
}

fn agent(patience: Patience) -> ureq::Agent {
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
    ureq::Agent::config_builder()
        .tls_config(tls.build())
        .user_agent(concat!("nkudo/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        // Another server may need another proxy, or none.
        .max_redirects(0)
        .proxy(None)
        .timeout_resolve(Some(patience.answer))
        .timeout_connect(Some(patience.answer))
        .timeout_recv_response(Some(patience.answer))
        .build()
        .new_agent()
}

struct Fetching<'a> {
    url: &'a Url,
    partial: &'a File,
    patience: Patience,
    progress: &'a Progress,
    /// Of what is there.
    hash: sha2::Sha256,
    at: u64,
}

impl Fetching<'_> {
    /// Reads what an earlier fetch has left.
    fn take_up(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 20];
        loop {
            let length = self.partial.read_at(&mut buffer, self.at)?;
            if length == 0 {
                return Ok(());
            }
            self.hash.update(&buffer[..length]);
            self.at += length as u64;
        }
    }

    fn begin_anew(&mut self) -> io::Result<()> {
        self.partial.set_len(0)?;
        self.hash = sha2::Sha256::new();
        self.at = 0;
        Ok(())
    }

    fn verify(&self, sha256: &Sha256) -> Result<(), FetchError> {
        matches(self.hash.clone(), sha256).map_err(|source| FetchError::Wrong {
            url: self.url.clone(),
            source,
        })
    }

    /// Tries until it is whole, as long as there is some progress.
    fn persist(&mut self, agent: &ureq::Agent) -> Result<(), FetchError> {
        let mut in_vain = 0;
        loop {
            let before = self.at;
            match self.attempt(agent) {
                Err(err) if err.is_passing() => {
                    in_vain = if self.at > before { 0 } else { in_vain + 1 };
                    if in_vain >= self.patience.tries {
                        return Err(err);
                    }
                    std::thread::sleep(self.patience.pause * (1 << in_vain.min(5)));
                }
                other => return other,
            }
        }
    }

    fn attempt(&mut self, agent: &ureq::Agent) -> Result<(), FetchError> {
        let (head, body) = self.ask(agent)?.into_parts();
        match head.status {
            StatusCode::OK if self.at > 0 => self.begin_anew().map_err(FetchError::Write)?,
            StatusCode::OK => {}
            StatusCode::PARTIAL_CONTENT => {
                let part = head.headers.get("content-range");
                let start = part.and_then(|part| start_of(part.to_str().ok()?));
                if start != Some(self.at) {
                    return Err(FetchError::OtherPart {
                        url: self.url.clone(),
                    });
                }
            }
            // There is no more than is here already; the checksum says whether that is all.
            StatusCode::RANGE_NOT_SATISFIABLE if self.at > 0 => return Ok(()),
            status => {
                return Err(FetchError::Status {
                    url: self.url.clone(),
                    status,
                });
            }
        }
        if let Some(length) = body.content_length() {
            self.progress.of(self.at + length);
            self.room_for(length)?;
        }
        self.receive(body)
    }

    /// The answer, after all redirects. One from https to http is followed too: the checksum decides.
    fn ask(&self, agent: &ureq::Agent) -> Result<Response<ureq::Body>, FetchError> {
        let mut at = self.url.clone();
        for _ in 0..=REDIRECTS {
            let through = proxy::proxy_for(&at, |name| std::env::var(name).ok());
            let through = through.map_err(|source| FetchError::Proxy {
                url: self.url.clone(),
                source,
            })?;
            let proxy = through.as_ref().map(|through| through.proxy.clone());
            let request = agent.get(at.as_str()).config().proxy(proxy).build();
            let mut request = request.header("accept-encoding", "identity");
            if self.at > 0 {
                request = request.header("range", format!("bytes={}-", self.at));
            }
            let response = request
                .call()
                .map_err(|err| self.no_answer(&at, through, err))?;
            let location = response.headers().get("location");
            let location = location.filter(|_| response.status().is_redirection());
            let Some(location) = location.and_then(|location| location.to_str().ok()) else {
                return Ok(response);
            };
            at = at.join(location).map_err(|source| FetchError::Redirect {
                url: self.url.clone(),
                from: at.host().to_owned(),
                source,
            })?;
        }
        Err(FetchError::Redirects {
            url: self.url.clone(),
        })
    }

    fn no_answer(&self, at: &Url, through: Option<Through>, err: ureq::Error) -> FetchError {
        let (url, host) = (self.url.clone(), at.host().to_owned());
        if let Some(why) = certificate::refused(&err) {
            return FetchError::Certificate { url, host, why };
        }
        match (err, through) {
            (ureq::Error::ConnectProxyFailed(mut why), Some(Through { proxy, variable })) => {
                if why.contains("407") {
                    why.push_str(" (it wants a user and a password)");
                }
                FetchError::RefusedByProxy {
                    url,
                    host,
                    proxy: proxy::shown(&proxy),
                    variable,
                    why,
                }
            }
            (err, through) => FetchError::Http {
                url,
                proxy: through.map(|through| proxy::shown(&through.proxy)),
                source: Box::new(err),
            },
        }
    }

    /// Says early what would fail late, and would meanwhile take all room from the disks of VMs.
    fn room_for(&self, length: u64) -> Result<(), FetchError> {
        let Ok(filesystem) = rustix::fs::fstatvfs(self.partial) else {
            return Ok(());
        };
        let free = filesystem.f_bavail.saturating_mul(filesystem.f_frsize);
        if length > free {
            return Err(FetchError::NoRoom {
                url: self.url.clone(),
                length,
                free,
            });
        }
        Ok(())
    }

    fn receive(&mut self, body: ureq::Body) -> Result<(), FetchError> {
        // A thread reads, so that a server that sends nothing is noticed: a read has no limit of its own.
        // One that hangs goes with the process, or when the server closes.
        let (send, pieces) = mpsc::sync_channel::<io::Result<Vec<u8>>>(8);
        let mut reader = body.into_reader();
        std::thread::spawn(move || {
            loop {
                let mut piece = vec![0; 256 << 10];
                let read = match reader.read(&mut piece) {
                    Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                    read => read,
                };
                let is_last = !matches!(read, Ok(length) if length > 0);
                let piece = read.map(|length| {
                    piece.truncate(length);
                    piece
                });
                if send.send(piece).is_err() || is_last {
                    return;
                }
            }
        });
        let mut writer = SparseWriter::at(self.partial, self.at);
        let received = loop {
            match pieces.recv_timeout(self.patience.stall) {
                Ok(Ok(piece)) if piece.is_empty() => break Ok(()),
                Ok(Ok(piece)) => {
                    if let Err(err) = writer.write_all(&piece) {
                        break Err(FetchError::Write(err));
                    }
                    self.hash.update(&piece);
                    self.progress.at(writer.position());
                }
                Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => {
                    break Err(FetchError::Truncated {
                        url: self.url.clone(),
                        at: writer.position(),
                    });
                }
                Err(RecvTimeoutError::Timeout) => {
                    break Err(FetchError::Stalled {
                        url: self.url.clone(),
                        stall: self.patience.stall,
                    });
                }
            }
        };
        // Also after an error: a hole at the end is a part of what was received.
        self.at = writer.finish().map_err(FetchError::Write)?;
        received
    }
}

/// Where a part begins: `bytes 100-199/200` (RFC 9110, 14.4).
fn start_of(range: &str) -> Option<u64> {
    range
        .strip_prefix("bytes ")?
        .split('-')
        .next()?
        .parse()
        .ok()
}
