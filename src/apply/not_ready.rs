//! The end of a VM that was not ready in time, where its `ready` says to fail then.

use anyhow::Context as _;

use super::run_files;
use crate::connections::Connections;
use crate::host::VmId;
use crate::systemd::is_no_such_unit;
use crate::unit::vm_unit_name;

/// Stops the VM by its power button, noting for its last step that this is a failure. Does not wait for that:
/// systemd has a stop of this unit's own wait for the VM's as well.
pub async fn give_up(id: &VmId) -> anyhow::Result<()> {
    // Neither a stop nor an end of the VM is a word on whether it was ready.
    let result = std::env::var("SERVICE_RESULT").unwrap_or_default();
    if !matches!(result.as_str(), "exit-code" | "timeout") {
        return Ok(());
    }
    let connections = Connections::open().await?;
    let unit = vm_unit_name(id);
    let path = match connections.manager.get_unit(&unit).await {
        Ok(path) => path,
        Err(err) if is_no_such_unit(&err) => return Ok(()),
        Err(err) => return Err(err).with_context(|| format!("cannot ask systemd for {unit}")),
    };
    let Some(invocation) = connections.invocation(&path).await? else {
        return Ok(());
    };
    run_files::note_not_ready(id, &invocation)?;
    match connections.manager.stop_unit(&unit, "replace").await {
        Err(err) if !is_no_such_unit(&err) => {
            Err(err).with_context(|| format!("systemd does not stop {unit}"))
        }
        _ => Ok(()),
    }
}
