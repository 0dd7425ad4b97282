//! `ExecStartPost=+`: systemd-machined learns of the VM.
//!
//! Root runs it, since machined asks others for their administrator's password. It makes the calls and nothing else, reads nothing
//! that is the VM's, and never keeps a VM from starting.

use anyhow::Context as _;
use zbus::Connection;

use super::{Context, StepExit};
use crate::machined::{self, MachinedError};

pub(super) async fn register(context: &Context) -> anyhow::Result<StepExit> {
    let id = context.id();
    match registered(context).await {
        Ok(()) => {}
        Err(err) => tracing::warn!("VM {id} runs, and `machinectl` does not know it: {err:#}"),
    }
    Ok(StepExit::Done)
}

async fn registered(context: &Context) -> anyhow::Result<()> {
    // A guest may power off at once.
    let Ok(leader) = std::env::var("MAINPID").unwrap_or_default().parse() else {
        return Ok(());
    };
    let bus = Connection::system()
        .await
        .context("there is no system bus")?;
    let done = machined::register(&bus, context.id(), leader, &context.booted.vm.nics).await;
    if let Err(MachinedError::Absent) = &done {
        return done.context("`[host] machined` is for a host that has it");
    }
    Ok(done?)
}
