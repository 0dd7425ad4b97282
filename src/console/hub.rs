//! The console that is the VMM's client, and serves the others.

use std::fs::File;
use std::io;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::history::History;
use super::{Ended, Person, Places, Seen, show};
use crate::files;
use crate::host::VmId;
use crate::vmm::Vmm;

/// Pieces of output that may wait for a console at the hub; one that is slower is cut off, and comes back.
const WAITING: usize = 256;

pub(super) async fn hub(
    id: &VmId,
    places: &Places,
    _lock: File,
    mut person: Person,
    seen: Seen,
) -> anyhow::Result<Ended> {
    let mut serial = places.connect(id).await?;
    let kept =
        files::read(&places.history).with_context(|| format!("cannot read {}", places.history))?;
    let mut history = History::of(kept.unwrap_or_default());
    if seen == Seen::Nothing {
        show(&person.shown, &history.bytes());
    }
    // Of a hub that was killed.
    files::remove(&places.hub).with_context(|| format!("cannot remove {}", places.hub))?;
    let listener = UnixListener::bind(&places.hub)
        .with_context(|| format!("cannot listen on {}", places.hub))?;
    let (from_others, mut typed_by_others) = mpsc::channel::<Vec<u8>>(16);
    let mut others: Vec<mpsc::Sender<Vec<u8>>> = Vec::new();
    let mut printed = vec![0; 4096];
    let ended = loop {
        tokio::select! {
            typed = person.typed.recv() => match typed {
                None => break Ok(Ended::Left),
                Some(typed) => if let Err(err) = serial.write_all(&typed).await {
                    break gone(id, &err).await;
                },
            },
            Some(typed) = typed_by_others.recv() => {
                if let Err(err) = serial.write_all(&typed).await {
                    break gone(id, &err).await;
                }
            }
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                let (sender, receiver) = mpsc::channel(WAITING);
                let _ = sender.try_send(history.bytes());
                others.push(sender);
                tokio::spawn(serve(stream, receiver, from_others.clone()));
            },
            read = serial.read(&mut printed) => match read {
                Ok(0) => break gone(id, &io::ErrorKind::UnexpectedEof.into()).await,
                Err(err) => break gone(id, &err).await,
                Ok(length) => {
                    let printed = &printed[..length];
                    history.add(printed);
                    show(&person.shown, printed);
                    others.retain(|other| other.try_send(printed.to_vec()).is_ok());
                }
            },
        }
    };
    // Before the lock is let go of: the next hub begins where this one ends.
    drop(serial);
    let _ = files::remove(&places.hub);
    files::replace(&places.history, &history.bytes(), 0o600)
        .with_context(|| format!("cannot write {}", places.history))?;
    ended
}

/// The VMM has let go of its client: it ended, or serves another.
async fn gone(id: &VmId, err: &io::Error) -> anyhow::Result<Ended> {
    tracing::debug!("the serial port's socket: {err}");
    Ok(match Vmm::of(id).state().await {
        Ok(_) => Ended::Displaced,
        Err(_) => Ended::Vm,
    })
}

/// One of the others.
async fn serve(
    stream: UnixStream,
    mut printed: mpsc::Receiver<Vec<u8>>,
    typed: mpsc::Sender<Vec<u8>>,
) {
    let (mut from, mut to) = stream.into_split();
    let mut read = vec![0; 1024];
    loop {
        tokio::select! {
            printed = printed.recv() => match printed {
                None => return,
                Some(printed) => if to.write_all(&printed).await.is_err() {
                    return;
                },
            },
            length = from.read(&mut read) => match length {
                Ok(0) | Err(_) => return,
                Ok(length) => if typed.send(read[..length].to_vec()).await.is_err() {
                    return;
                },
            },
        }
    }
}
