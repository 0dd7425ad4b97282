//! Consoles on a guest's serial port, as many as people like, without anything resident.
//!
//! A VMM serves one client, and keeps the last mebibyte for the next while there is none; the guest is never
//! held up (cloud-hypervisor's serial_manager). The first console to come is the hub: it is that client, and
//! serves the others. When it leaves, one of the others takes its place. What it has seen last it leaves
//! behind, for whoever comes after everybody has gone.

mod history;
mod hub;

use std::fs::File;
use std::io;
use std::time::Duration;

use anyhow::{Context as _, bail};
use camino::Utf8PathBuf;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::files;
use crate::host::VmId;
use crate::hypervisor::{api_socket, serial_socket};
use crate::unit::{RUNTIME_ROOT, runtime_directory};

/// Between two tries to become the hub or to reach it.
const INTERVAL: Duration = Duration::from_millis(50);

/// The person at a console.
#[derive(Debug)]
pub struct Person {
    /// What is typed; closed by whoever wants to leave.
    pub typed: mpsc::Receiver<Vec<u8>>,
    /// Where what the guest prints goes. What does not fit is lost for this console alone.
    pub shown: mpsc::Sender<Vec<u8>>,
}

/// How a console ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The person left.
    Left,
    /// The VM ended.
    Vm,
    /// Somebody connected to the VMM's socket past nkudo, which serves one client.
    Displaced,
}

/// What somebody has been shown already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    History,
}

/// Attaches somebody to a VM's serial port, until they leave or the VM ends.
pub async fn attach(id: &VmId, mut person: Person) -> anyhow::Result<Ended> {
    let places = Places::of(id)?;
    let mut seen = Seen::Nothing;
    loop {
        if let Some(lock) = places.lock()? {
            return hub::hub(id, &places, lock, person, seen).await;
        }
        match UnixStream::connect(&places.hub).await {
            Ok(stream) => {
                if let Some(ended) = guest_of(stream, &mut person).await? {
                    return Ok(ended);
                }
                // The hub has left: one of those who are here is the next.
                seen = Seen::History;
                tokio::time::sleep(INTERVAL).await;
            }
            // It has the lock and does not listen yet.
            Err(_) => tokio::time::sleep(INTERVAL).await,
        }
    }
}

/// A console at somebody else's hub; `None` when the hub is gone.
async fn guest_of(mut stream: UnixStream, person: &mut Person) -> anyhow::Result<Option<Ended>> {
    let mut printed = vec![0; 4096];
    loop {
        tokio::select! {
            typed = person.typed.recv() => match typed {
                None => return Ok(Some(Ended::Left)),
                Some(typed) => if stream.write_all(&typed).await.is_err() {
                    return Ok(None);
                },
            },
            read = stream.read(&mut printed) => match read {
                Ok(0) | Err(_) => return Ok(None),
                Ok(length) => show(&person.shown, &printed[..length]),
            },
        }
    }
}

fn show(shown: &mpsc::Sender<Vec<u8>>, printed: &[u8]) {
    // A terminal that stands still (Ctrl-S) holds up nobody.
    let _ = shown.try_send(printed.to_vec());
}

/// Where things are.
#[derive(Debug)]
struct Places {
    /// The VMM's.
    serial: Utf8PathBuf,
    /// The hub's, for the others.
    hub: Utf8PathBuf,
    lock: Utf8PathBuf,
    history: Utf8PathBuf,
}

impl Places {
    fn of(id: &VmId) -> anyhow::Result<Self> {
        let directory = Utf8PathBuf::from(format!("{RUNTIME_ROOT}/console"));
        files::ensure_directory(&directory, 0o700)
            .with_context(|| format!("cannot make {directory}"))?;
        Ok(Self {
            serial: serial_socket(&runtime_directory(id)),
            hub: directory.join(format!("{id}.sock")),
            lock: directory.join(format!("{id}.lock")),
            history: directory.join(format!("{id}.history")),
        })
    }

    /// The lock of the hub, if nobody has it. The kernel lets go of it however its process ends.
    fn lock(&self) -> anyhow::Result<Option<File>> {
        let open = || {
            File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&self.lock)
        };
        let file = open().with_context(|| format!("cannot open {}", self.lock))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(err)) => {
                Err(err).with_context(|| format!("cannot lock {}", self.lock))
            }
        }
    }

    async fn connect(&self, id: &VmId) -> anyhow::Result<UnixStream> {
        match UnixStream::connect(&self.serial).await {
            Ok(stream) => Ok(stream),
            Err(err)
                if matches!(
                    err.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                if api_socket(&runtime_directory(id)).exists() {
                    bail!(
                        "the serial port of {id} goes to the journal: `nkudo logs {id} --console -f` shows it\n\
                         hint: with `serial = \"socket\"` in `[vm.{id}]` consoles attach to it, from the VM's next start on"
                    );
                }
                bail!("VM {id} does not run\nhint: `nkudo status {id}` says why");
            }
            Err(err) => Err(err).with_context(|| format!("cannot connect to {}", self.serial)),
        }
    }
}
