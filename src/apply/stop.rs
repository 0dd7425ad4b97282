//! The stop of one VM by `nkudo stop`.
//!
//! Without the host's lock: whoever has it may be waiting for this very VM to be ready. So nothing is done that could
//! be in another's way, and what is left is for the next switch, as after `systemctl stop`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::run_files;
use super::vm::LONGEST_STOP;
use super::vm_lock::{Doing, lock_vm_soon};
use crate::connections::Connections;
use crate::host::VmId;
use crate::interruption::effect;
use crate::observe::HeldBy;
use crate::systemd::{JobResult, Jobs, is_no_such_unit};
use crate::unit::vm_unit_name;

/// What it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    After(Duration),
    /// It did not run.
    Before,
}

/// Stops a VM that is held, so that nobody takes that for a stop which ends with the next switch. A stop that is
/// under way is joined.
pub async fn stop(connections: &Connections, jobs: &Jobs, id: &VmId) -> anyhow::Result<Stopped> {
    let begun = Instant::now();
    let unit = vm_unit_name(id);
    let manager = &connections.manager;
    let stopped = match manager.stop_unit(&unit, "replace").await {
        Ok(job) => {
            effect();
            // systemd ends it by the unit's own limits.
            match jobs.wait(&job, LONGEST_STOP).await? {
                JobResult::Done => {}
                JobResult::Other(result) => bail!(
                    "its stop ended with `{result}`: somebody may have started it meanwhile \
                     (`nkudo status {id}`)"
                ),
            }
            Stopped::After(begun.elapsed())
        }
        Err(err) if is_no_such_unit(&err) => Stopped::Before,
        Err(err) => return Err(err).with_context(|| format!("systemd does not stop {unit}")),
    };
    // One that failed keeps its name and its TAPs until it is reset.
    match manager.reset_failed_unit(&unit).await {
        Err(err) if !is_no_such_unit(&err) => {
            return Err(err).with_context(|| format!("cannot reset the failed {unit}"));
        }
        _ => {}
    }
    // Nobody starts it who has not this lock.
    let _own = lock_vm_soon(id, Doing::Stop).await?;
    if run_files::held_by(id)? == Some(HeldBy::Nkudo) {
        connections.stop_companions(jobs, id).await?;
    }
    Ok(stopped)
}
