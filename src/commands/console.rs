//! `nkudo console`: a terminal on a guest's serial port.

use std::io::{self, IsTerminal as _, Read as _, Write as _};

use anyhow::Context as _;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::console::{Ended, Person, attach};
use crate::host::VmId;

use super::{Exit, block_on};

/// Ctrl-], as of telnet(1) and virsh(1).
const ESCAPE: u8 = 0x1d;
/// Pieces of output that may wait for the terminal.
const WAITING: usize = 1024;

pub fn run(id: &VmId) -> anyhow::Result<Exit> {
    let (keys, typed) = mpsc::channel(16);
    let (shown, printed) = mpsc::channel(WAITING);
    let ended = block_on(async {
        // In raw mode Ctrl-C is the guest's; these come from elsewhere, and the terminal is to be put right.
        let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
        let mut hang_up = signal(SignalKind::hangup()).context("cannot watch for SIGHUP")?;
        let person = Person { typed, shown };
        let console = attach(id, person);
        tokio::pin!(console);
        // A mistake is said before anything is done to the terminal.
        if let Some(ended) = soon(&mut console).await {
            return ended;
        }
        let raw = Raw::of_terminal().context("cannot set the terminal up")?;
        if raw.is_some() {
            tracing::info!("attached to {id}; Ctrl-] leaves\r");
        }
        read_keys(keys);
        show(printed);
        let ended = tokio::select! {
            ended = &mut console => ended,
            _ = terminate.recv() => Ok(Ended::Left),
            _ = hang_up.recv() => Ok(Ended::Left),
        };
        drop(raw);
        ended
    })?;
    match ended {
        Ended::Left => tracing::info!("left the console of {id}; its guest goes on"),
        Ended::Vm => tracing::info!("VM {id} ended; `nkudo status {id}` says why"),
        Ended::Displaced => {
            tracing::warn!("somebody else has connected to the serial port of {id}, past nkudo");
            return Ok(Exit::Failed);
        }
    }
    Ok(Exit::Done)
}

/// What the console comes to at once, if it does.
async fn soon<F>(console: &mut std::pin::Pin<&mut F>) -> Option<F::Output>
where
    F: Future,
{
    let moment = std::time::Duration::from_millis(20);
    tokio::time::timeout(moment, console.as_mut()).await.ok()
}

/// Keys, until the escape key or the end of what is typed. A thread of its own: nothing else can wait for a
/// terminal, a pipe and a file alike, and the process does not wait for it at its end.
fn read_keys(keys: mpsc::Sender<Vec<u8>>) {
    std::thread::spawn(move || {
        let is_terminal = io::stdin().is_terminal();
        let mut typed = vec![0; 1024];
        while let Ok(length) = io::stdin().lock().read(&mut typed) {
            let typed = &typed[..length];
            let (before, escape) = match typed.iter().position(|key| *key == ESCAPE) {
                Some(at) if is_terminal => (&typed[..at], true),
                _ => (typed, false),
            };
            if !before.is_empty() && keys.blocking_send(before.to_vec()).is_err() || escape {
                return;
            }
            if length == 0 {
                // The end of a file or a pipe is not the end of interest in what the guest answers.
                loop {
                    std::thread::park();
                }
            }
        }
    });
}

fn show(mut printed: mpsc::Receiver<Vec<u8>>) {
    std::thread::spawn(move || {
        let mut out = io::stdout();
        while let Some(printed) = printed.blocking_recv() {
            if out.write_all(&printed).and_then(|()| out.flush()).is_err() {
                return;
            }
        }
    });
}

/// A terminal that hands over every key as it is typed, until this is dropped.
struct Raw(Termios);

impl Raw {
    /// `None` where standard input is no terminal.
    fn of_terminal() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Flush, &raw)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
        let mut out = io::stdout();
        let _ = out.write_all(b"\r\n").and_then(|()| out.flush());
    }
}
