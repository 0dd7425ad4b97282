//! Who lets a paused VM go on when the nkudo that paused it is killed.
//!
//! A process beside it with a pipe from it: the kernel closes that however the other ends. In a process group of
//! its own, so that what ends the other by its terminal does not end this one.

use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use camino::Utf8Path;
use hyper::Method;
use tokio::signal::unix::{SignalKind, signal};

use crate::files;
use crate::host::VmId;
use crate::observe::paused_directory;
use crate::vmm::{VmState, Vmm};

/// How long the VMM may still be writing the snapshot that nobody waits for any more.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// How often it is looked whether the VM runs, and what passes in between.
const LOOKS: u32 = 3;
const BETWEEN: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Guard(Child);

impl Guard {
    /// Of a VM that is about to be paused.
    pub(super) fn begin(id: &VmId) -> anyhow::Result<Self> {
        let nkudo = std::env::current_exe().context("cannot tell where nkudo itself is")?;
        Command::new(nkudo)
            .args(["unit", "guard", id.as_str()])
            // A test's word to this process.
            .env_remove("NKUDO_KILL_AFTER")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .map(Self)
            .context("cannot begin what would let the VM go on")
    }

    /// The VM goes on.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        if let Some(mut pipe) = self.0.stdin.take() {
            pipe.write_all(b".").context("cannot tell the guard")?;
        }
        self.0.wait().context("cannot wait for the guard")?;
        Ok(())
    }
}

/// The guard itself.
pub async fn wait(id: &VmId) -> anyhow::Result<()> {
    // They do not end it from here on.
    let _kept = [
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    ];
    let told = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0_u8]));
    if told.await.context("cannot wait")?.context("cannot wait")? > 0 {
        return Ok(());
    }
    let vmm = Vmm::of(id);
    // The pause of the other may be on its way still, so that it is looked again.
    for _ in 0..LOOKS {
        // It answers once it has done what it is at; one that runs refuses.
        let resumed = vmm.any(Method::PUT, "vm.resume", None, LIMIT).await;
        match (resumed, vmm.state().await) {
            (_, Ok(VmState::Running)) => tokio::time::sleep(BETWEEN).await,
            (_, Ok(_)) => {}
            (resumed, Err(_)) => {
                resumed.with_context(|| format!("cannot resume {id}"))?;
            }
        }
    }
    tracing::warn!(nkudo_vm = %id, "the nkudo that took a snapshot of {id} was killed; {id} goes on");
    forget(&paused_directory().join(id.as_str()))
}

fn forget(marker: &Utf8Path) -> anyhow::Result<()> {
    files::remove(marker).with_context(|| format!("cannot remove {marker}"))
}
