//! The serial port: standard output, or a socket with one client at a time.

use std::io::{self, Read as _, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::Chain;

#[derive(Debug)]
pub(super) enum Serial {
    Stdout(io::Stdout),
    Socket(Arc<Mutex<Client>>),
}

/// The client, and what waits for one.
#[derive(Debug, Default)]
pub(super) struct Client {
    stream: Option<UnixStream>,
    waiting: Vec<u8>,
}

impl Serial {
    /// The port, and what is typed on it.
    pub(super) fn to(
        socket: Option<&Path>,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Vec<u8>>), Chain> {
        let (keys, typed) = mpsc::unbounded_channel();
        let Some(socket) = socket else {
            return Ok((Self::Stdout(io::stdout()), typed));
        };
        let listener = UnixListener::bind(socket).map_err(|err| {
            Chain::boot(["Error creating console devices".to_owned(), err.to_string()])
        })?;
        let client = Arc::new(Mutex::new(Client::default()));
        let serial = Self::Socket(Arc::clone(&client));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut reader = stream.try_clone().unwrap();
                let mut now = client.lock().unwrap_or_else(PoisonError::into_inner);
                // As the real one: who comes takes the place of who was there.
                if let Some(before) = now.stream.take() {
                    let _ = before.shutdown(Shutdown::Both);
                }
                let mut stream = stream;
                let waiting = std::mem::take(&mut now.waiting);
                let _ = stream.write_all(&waiting);
                now.stream = Some(stream);
                drop(now);
                let (keys, client) = (keys.clone(), Arc::clone(&client));
                std::thread::spawn(move || {
                    let mut read = [0; 64];
                    while let Ok(length @ 1..) = reader.read(&mut read) {
                        let _ = keys.send(read[..length].to_vec());
                    }
                    let _ = reader.shutdown(Shutdown::Both);
                    drop(client);
                });
            }
        });
        Ok((serial, typed))
    }
}

impl Write for Serial {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::Socket(client) => {
                let mut client = client.lock().unwrap_or_else(PoisonError::into_inner);
                let written = match &mut client.stream {
                    Some(stream) => stream.write_all(bytes).is_ok(),
                    None => false,
                };
                if !written {
                    client.stream = None;
                    client.waiting.extend(bytes);
                }
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::Socket(_) => Ok(()),
        }
    }
}
