//! The steps of a VM's unit: short runs of nkudo that systemd makes around the VMM's life. And what its
//! readiness unit runs, `await`, and `give-up` where that failed.
//!
//! `ready`, `stop` and `post` run as the VM's own user in the VM's own sandbox, `await` as a user of its own;
//! `grant`, `revoke`, `register` and `give-up` as root outside of it. What they know comes from systemd (`$MAINPID`,
//! `$SERVICE_RESULT`, `$RUNTIME_DIRECTORY`, systemd.exec(5)) and from the booted specification.

mod access;
mod acl;
mod held;
mod notification;
mod post;
mod process;
mod readable;
mod readiness;
mod ready;
mod register;
mod restored;
mod stop;
mod trusted_path;
mod verdict;
mod watch;

use std::fs::File;
use std::io::{BufWriter, Write as _};

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};

use crate::apply;
use crate::booted::Booted;
use crate::cli::UnitStep;
use crate::files;
use crate::host::VmId;
use crate::image::inside;
use crate::observe::{self, not_ready_directory};
use crate::snapshot;
use crate::unit;

pub use access::{grant_disk, revoke_disk, user};
pub use post::ENDED;
pub use trusted_path::resolve;
pub use verdict::{Ending, Verdict, VmmExit};

/// How a step ended, which means something to systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepExit {
    Done,
    Failed,
    /// The guest was not ready in time, and goes on nevertheless.
    NotReady,
}

pub async fn run(step: &UnitStep) -> anyhow::Result<StepExit> {
    match step {
        UnitStep::Ready { id } => ready::ready(&Context::of(id)?).await,
        UnitStep::Register { id } => register::register(&Context::of(id)?).await,
        UnitStep::Stop { id, timeout } => Ok(stop::stop(id, *timeout).await),
        UnitStep::Post { id } => post::post(id),
        UnitStep::Grant { id } => access::grant(&Context::of(id)?),
        UnitStep::Revoke { id } => Ok(access::revoke(&Context::of(id)?)),
        UnitStep::Await { id } => readiness::wait(&Context::of(id)?).await,
        UnitStep::GiveUp { id } => apply::give_up(id).await.map(|()| StepExit::Done),
        UnitStep::TakeKernel { image, to } => take_kernel(image, to),
        UnitStep::Restored { id, record } => restored::restored(&Context::of(id)?, record).await,
        UnitStep::Guard { id } => snapshot::guard(id).await.map(|()| StepExit::Done),
    }
}

fn take_kernel(image: &Utf8Path, to: &Utf8Path) -> anyhow::Result<StepExit> {
    let image = File::open(image).context("cannot read the image")?;
    let file = File::options().write(true).open(to);
    let mut file = BufWriter::new(file.context("cannot write what is found")?);
    inside::take_out(&image, &mut file)?;
    file.flush().context("cannot write what is found")?;
    Ok(StepExit::Done)
}

/// What a step knows.
#[derive(Debug)]
struct Context {
    booted: Booted,
    runtime_directory: Utf8PathBuf,
}

impl Context {
    fn of(id: &VmId) -> anyhow::Result<Self> {
        Ok(Self {
            booted: observe::booted(id)?,
            runtime_directory: runtime_directory(id),
        })
    }

    fn id(&self) -> &VmId {
        &self.booted.id
    }
}

/// Where the VM's sockets are.
fn runtime_directory(id: &VmId) -> Utf8PathBuf {
    match std::env::var("RUNTIME_DIRECTORY") {
        Ok(directory) => directory.into(),
        Err(_) => unit::runtime_directory(id),
    }
}

/// Whether this run of the unit is stopped because it was not ready in time.
fn was_not_ready(id: &VmId) -> anyhow::Result<bool> {
    let path = not_ready_directory().join(id.as_str());
    let noted = files::read(&path).with_context(|| format!("cannot read {path}"))?;
    let invocation = std::env::var("INVOCATION_ID").unwrap_or_default();
    Ok(noted.is_some_and(|noted| noted == invocation.as_bytes()))
}

/// Is there from when a stop was asked for until the unit ends.
fn stop_marker(runtime_directory: &Utf8Path) -> Utf8PathBuf {
    runtime_directory.join("stop-asked")
}
