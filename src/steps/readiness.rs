//! The readiness unit's command: waits until the guest says that it is ready, or takes connections.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use camino::Utf8Path;
use futures_util::{StreamExt as _, stream};
use listenfd::ListenFd;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use super::notification::{LONGEST, Notification};
use super::watch::Watch;
use super::{Context, StepExit};
use crate::host::{OnTimeout, Ready, VmId};
use crate::unit::{TRANSIENT, vm_unit_name};

/// What is left of a message comes at once. The guest's PID 1 waits until the host closes the connection
/// (systemd 256 and newer), and older VMMs do not pass on that the guest has closed its half.
const IDLE: Duration = Duration::from_millis(30);
/// How long one connection may take, whatever the guest writes.
const MESSAGE: Duration = Duration::from_secs(2);
/// How long one attempt to connect may take, and the time between two: a guest that boots refuses or is silent.
const ATTEMPT: Duration = Duration::from_secs(3);
const BETWEEN: Duration = Duration::from_millis(250);

pub(super) async fn wait(context: &Context) -> anyhow::Result<StepExit> {
    let vm = &context.booted.vm;
    let limit = vm.start_timeout;
    let mut heard = Heard::default();
    let gone = has_gone(context.id());
    let done = match vm.ready {
        Ready::Vmm { .. } => return Ok(StepExit::Done),
        Ready::Guest { .. } => {
            let listener = listener()?;
            let done = tokio::select! {
                done = timeout(limit.duration(), says_so(&listener, &mut heard)) => Some(done),
                gone = gone => gone.map(|()| None)?,
            };
            // systemd has the socket for as long as this unit is there. A guest that boots again is refused,
            // rather than left to wait for an answer.
            close(&listener);
            done
        }
        Ready::Tcp { port, .. } => {
            let addresses = vm.addresses().map(|ip| SocketAddr::new(ip, port.get()));
            let addresses: Vec<SocketAddr> = addresses.collect();
            tokio::select! {
                done = timeout(limit.duration(), accepts(&addresses)) => Some(done),
                gone = gone => gone.map(|()| None)?,
            }
        }
    };
    let Some(done) = done else {
        tracing::warn!("the VM ended before it was ready");
        return Ok(StepExit::Done);
    };
    let id = context.id();
    let last = heard
        .status
        .map_or_else(String::new, |status| format!("; it said last: {status}"));
    let waited = format!(
        "after {limit} the guest of VM {id} {}{last}",
        vm.ready.not_ready()
    );
    // With the VM's name: see `post`.
    Ok(match (done, vm.ready.on_timeout()) {
        (Ok(()), _) => {
            tracing::info!(nkudo_vm = %id, "VM {id} is ready");
            StepExit::Done
        }
        (Err(_), OnTimeout::Continue) => {
            tracing::warn!(nkudo_vm = %id, "{waited}; it goes on nevertheless");
            StepExit::NotReady
        }
        (Err(_), OnTimeout::Fail) => {
            tracing::error!(nkudo_vm = %id, "{waited}, and `ready` says to fail then");
            StepExit::Failed
        }
    })
}

/// Returns when the VM's unit is not there any more: systemd removes its text with it. A VM that has failed, or
/// waits for its restart, has its unit.
async fn has_gone(id: &VmId) -> anyhow::Result<()> {
    let directory = Utf8Path::new(TRANSIENT);
    let text = directory.join(vm_unit_name(id));
    let cannot = || format!("cannot watch {directory}");
    let watch = Watch::new(directory).with_context(cannot)?;
    while text.exists() {
        watch.changed().await.with_context(cannot)?;
    }
    Ok(())
}

/// What the guest said besides.
#[derive(Debug, Default)]
struct Heard {
    status: Option<String>,
}

/// The socket that systemd has for this unit, from before the VMM was there (sd_listen_fds(3)).
fn listener() -> anyhow::Result<UnixListener> {
    let listener = ListenFd::from_env()
        .take_unix_listener(0)
        .and_then(|listener| listener.ok_or_else(|| io::ErrorKind::NotFound.into()))
        .context("systemd passed no socket on which the guest could be heard")?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener).context("cannot listen for the guest")
}

/// Returns when the guest has said that it is ready. One connection after the other: systemd makes one for each
/// message.
async fn says_so(listener: &UnixListener, heard: &mut Heard) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let notification = Notification::read(&message(stream).await);
                if notification.status.is_some() {
                    heard.status = notification.status;
                }
                if notification.ready {
                    return;
                }
            }
            // Out of descriptors or memory for a moment.
            Err(_) => sleep(BETWEEN).await,
        }
    }
}

/// What the guest writes on one connection, as far as it is not too long and does not take too long.
async fn message(mut stream: UnixStream) -> Vec<u8> {
    let mut message = Vec::new();
    let read = async {
        let mut bytes = [0; 1024];
        while message.len() < LONGEST {
            let limit = if message.is_empty() { MESSAGE } else { IDLE };
            match timeout(limit, stream.read(&mut bytes)).await {
                Ok(Ok(count)) if count > 0 => message.extend_from_slice(&bytes[..count]),
                _ => break,
            }
        }
    };
    let _ = timeout(MESSAGE, read).await;
    message.truncate(LONGEST);
    message
}

/// Lets nobody connect any more, and hangs up on those that wait.
fn close(listener: &UnixListener) {
    if let Err(err) = rustix::net::shutdown(listener, rustix::net::Shutdown::Both) {
        tracing::warn!("cannot close the socket at which the guest is heard: {err}");
    }
    while rustix::net::accept(listener).is_ok() {}
}

/// Returns when one of the addresses takes a connection.
async fn accepts(addresses: &[SocketAddr]) {
    loop {
        let attempts = addresses
            .iter()
            .map(|address| timeout(ATTEMPT, TcpStream::connect(address)));
        let mut attempts = stream::iter(attempts).buffer_unordered(addresses.len().max(1));
        while let Some(attempt) = attempts.next().await {
            if let Ok(Ok(_)) = attempt {
                return;
            }
        }
        sleep(BETWEEN).await;
    }
}
