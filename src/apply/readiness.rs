//! The unit that waits until a VM's guest is ready: what it needs, and how it ended.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::Apply;
use super::companion::Auxiliary;
use super::vm::LONGEST_STOP;
use crate::files;
use crate::host::{OnTimeout, Ready, Vm, VmId};
use crate::systemd::{
    ExtraFd, Interface, JobResult, is_named, is_no_such_unit, property, transient_properties,
};
use crate::unit::{NOT_READY, readiness, readiness_socket, readiness_unit_name, vm_unit_name};

impl Apply<'_> {
    /// Frees the unit's name, makes the socket at which the guest is heard, and returns the unit.
    pub(super) async fn prepare_readiness(
        &self,
        id: &VmId,
        vm: &Vm,
    ) -> anyhow::Result<Option<Auxiliary>> {
        let Some(unit) = readiness(id, vm, &self.wanted.programs) else {
            return Ok(None);
        };
        self.unload(&unit.name).await?;
        let mut sockets = Vec::new();
        if let Ready::Guest { .. } = vm.ready {
            let path = readiness_socket(id);
            let fd = listen(id).with_context(|| format!("cannot listen at {path}"))?;
            sockets.push(ExtraFd {
                fd: fd.into(),
                name: "guest".to_owned(),
            });
        }
        let properties = transient_properties(unit.properties(), sockets);
        Ok(Some((unit.name, properties)))
    }

    /// Waits until a VM whose unit has started is ready. One that has ended by itself is no failure of its
    /// start: a guest may power off at once, and whoever looks again says so.
    pub(super) async fn until_ready(&self, id: &VmId, vm: &Vm) -> anyhow::Result<()> {
        if let Ready::Vmm { .. } = vm.ready {
            return Ok(());
        }
        let unit = readiness_unit_name(id);
        // What is under way answers with its own job, what is done with one that is done at once.
        let job = match self.connections.manager.start_unit(&unit, "fail").await {
            Ok(job) => job,
            Err(err) if is_no_such_unit(&err) || is_being_stopped(&err) => return Ok(()),
            Err(err) => return Err(err).with_context(|| format!("cannot follow {unit}")),
        };
        let result = tokio::select! {
            result = self.jobs.wait(&job, self.deadline(id)) => result?,
            failed = self.has_failed(id) => {
                failed?;
                self.stop_unit(&unit).await?;
                bail!("it failed before it was ready");
            }
        };
        match result {
            JobResult::Done => {
                if self.has_given_up(&unit).await? {
                    tracing::warn!(
                        nkudo_vm = %id,
                        "VM {id} runs on, though its guest {} within {}; `nkudo logs {id} --console` shows what it does",
                        vm.ready.not_ready(),
                        vm.start_timeout
                    );
                }
                Ok(())
            }
            JobResult::Other(_) if vm.ready.on_timeout() == OnTimeout::Fail => {
                // Its readiness unit does so already. What it said last is there then.
                self.stop_unit(&vm_unit_name(id)).await?;
                bail!(
                    "its guest {} within {}, and `ready` says to fail then",
                    vm.ready.not_ready(),
                    vm.start_timeout
                );
            }
            JobResult::Other(result) => bail!("{unit} ended with `{result}`"),
        }
    }

    /// Whether what waited for the guest did so in vain, and lets the VM go on.
    async fn has_given_up(&self, unit: &str) -> anyhow::Result<bool> {
        let connections = self.connections;
        let asked = async {
            let path = connections.manager.get_unit(unit).await?;
            property(
                &connections.bus,
                &path,
                Interface::Service,
                "ExecMainStatus",
            )
            .await
        };
        match asked.await {
            Ok(status) => {
                let status: i32 = status;
                Ok(status == i32::from(NOT_READY))
            }
            // Its VM has ended meanwhile.
            Err(err) if is_no_such_unit(&err) => Ok(false),
            Err(err) => Err(err).with_context(|| format!("cannot ask systemd how {unit} ended")),
        }
    }

    /// Returns when systemd has given the VM up.
    async fn has_failed(&self, id: &VmId) -> anyhow::Result<()> {
        let unit = vm_unit_name(id);
        loop {
            tokio::time::sleep(INTERVAL).await;
            let listed = self
                .connections
                .manager
                .list_units_by_patterns(&["failed"], &[&unit])
                .await
                .with_context(|| format!("cannot ask systemd for {unit}"))?;
            if !listed.is_empty() {
                return Ok(());
            }
        }
    }

    /// Stops a unit and waits for that, but not until its name is free.
    async fn stop_unit(&self, unit: &str) -> anyhow::Result<()> {
        match self.connections.manager.stop_unit(unit, "replace").await {
            Ok(job) => {
                self.jobs.wait(&job, LONGEST_STOP).await?;
                Ok(())
            }
            Err(err) if is_no_such_unit(&err) => Ok(()),
            Err(err) => Err(err).with_context(|| format!("systemd does not stop {unit}")),
        }
    }
}

/// Whether a start was refused because a stop of the same unit is under way.
fn is_being_stopped(err: &zbus::Error) -> bool {
    is_named(err, "org.freedesktop.systemd1.TransactionIsDestructive")
}

/// Between two looks whether a VM has failed, which is waited for beside the guest.
const INTERVAL: Duration = Duration::from_secs(2);

/// Makes the socket. Whoever gets to it may connect, and that is the VM, in whose sandbox it is: its
/// directory is root's alone.
fn listen(id: &VmId) -> io::Result<UnixListener> {
    let path = readiness_socket(id);
    if let Some(directory) = path.parent() {
        files::ensure_directory(directory, 0o755)?;
    }
    files::remove(&path)?;
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o666))?;
    Ok(listener)
}
