//! `ExecStop=`: the power button, and time for the guest to react.

use std::time::Duration;

use camino::Utf8Path;

use super::process::MainProcess;
use super::{StepExit, runtime_directory, stop_marker};
use crate::files;
use crate::host::{TimeSpan, VmId};
use crate::hypervisor::api_socket;
use crate::vmm::{VmState, Vmm, VmmError};

/// A guest early in its boot misses the button, so it is pressed again. Not too often: some guests
/// take every press for a new wish and ask their user.
const PRESS_AGAIN: Duration = Duration::from_secs(5);

/// What the marker of a stop holds once the guest has had its time.
pub(super) const TIMED_OUT: &[u8] = b"timed out\n";

/// Always ends with 0: systemd then goes on with SIGTERM where the VMM still runs. Any other code
/// would leave the unit failed, and its name taken.
pub(super) async fn stop(id: &VmId, limit: TimeSpan) -> StepExit {
    if let Err(err) = power_off(id, limit).await {
        tracing::warn!("cannot shut the guest down, systemd ends the VMM now: {err:#}");
    }
    StepExit::Done
}

async fn power_off(id: &VmId, limit: TimeSpan) -> anyhow::Result<()> {
    let process = MainProcess::of_unit()?;
    // This step also runs after the VMM has ended by itself.
    if let MainProcess::Gone = process {
        return Ok(());
    }
    let runtime_directory = runtime_directory(id);
    files::replace(&stop_marker(&runtime_directory), b"", 0o600)?;
    let begun = tokio::time::Instant::now();
    tokio::select! {
        biased;
        () = process.ended() => {
            let took = begun.elapsed().as_secs_f32();
            tracing::info!("the guest powered off {took:.1} s after the power button");
        }
        stopped = press(&runtime_directory) => stopped?,
        () = tokio::time::sleep(limit.duration()) => {
            files::replace(&stop_marker(&runtime_directory), TIMED_OUT, 0o600)?;
            tracing::warn!(
                "the guest did not react to the power button within {limit}; systemd ends the VMM now"
            );
        }
    }
    Ok(())
}

/// Presses the button again and again; returns when nobody is there to press it for.
async fn press(runtime_directory: &Utf8Path) -> anyhow::Result<()> {
    let vmm = Vmm::new(&api_socket(runtime_directory));
    // A guest that is paused cannot react to what is pressed.
    if let Ok(VmState::Paused) = vmm.state().await {
        tracing::info!("the guest was paused, and has to run to power off");
        if let Err(err) = vmm.resume().await {
            tracing::warn!("cannot resume the guest: {err}");
        }
    }
    loop {
        match vmm.power_button().await {
            Ok(()) => tracing::debug!("pressed the power button"),
            Err(VmmError::Absent { .. }) => return Ok(()),
            // Before the guest runs there is no button yet.
            Err(err) => tracing::warn!("cannot press the power button: {err}"),
        }
        tokio::time::sleep(PRESS_AGAIN).await;
    }
}
