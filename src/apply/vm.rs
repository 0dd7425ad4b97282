//! Starting and stopping one VM.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};

use zbus::OwnedObjectPath;

use super::vm_lock::{Doing, lock_vm_soon};
use super::{Apply, Done, Failure, restore, run_files};
use crate::booted::Booted;
use crate::connections::Connections;
use crate::generation::Unneeded;
use crate::host::{Isolation, LinkName, Network, NetworkKind, Nic, VmId};
use crate::interruption::effect;
use crate::link::{LinkError, open_macvtap};
use crate::observe::{HeldBy, Link, LinkKind};
use crate::systemd::{
    ExtraFd, Interface, JobResult, Jobs, is_answer, is_named, is_no_such_unit, property,
    transient_properties,
};
use crate::unit::{self, vm_unit_name};

/// On top of the unit's own timeouts, which end a job long before.
const SLACK: Duration = Duration::from_secs(60);
/// How long a stopped unit may take to be unloaded. systemd does it in its next turn.
const UNLOAD_LIMIT: Duration = Duration::from_secs(5);

impl Connections {
    /// Notes that it is nkudo which stops this unit, before it does.
    pub(super) async fn begin_stop(&self, id: &VmId, path: &OwnedObjectPath) -> anyhow::Result<()> {
        match self.invocation(path).await? {
            Some(invocation) => run_files::begin_stop(id, &invocation),
            None => Ok(()),
        }
    }

    /// This run of a unit (`INVOCATION_ID`, systemd.exec(5)); nothing where it has ended by now.
    pub(super) async fn invocation(
        &self,
        path: &OwnedObjectPath,
    ) -> anyhow::Result<Option<String>> {
        let invocation: Vec<u8> =
            match property(&self.bus, path, Interface::Unit, "InvocationID").await {
                Ok(invocation) => invocation,
                Err(err) if is_answer(&err) => return Ok(None),
                Err(err) => return Err(err).context("cannot ask systemd for its invocation"),
            };
        Ok(Some(hex::encode(invocation)))
    }

    /// Stops the unit, if it is there, and waits until its name is free.
    pub(super) async fn unload(&self, jobs: &Jobs, unit: &str) -> anyhow::Result<()> {
        let manager = &self.manager;
        match manager.stop_unit(unit, "replace").await {
            Ok(job) => {
                effect();
                // The longest stop-timeout is a matter of the unit; systemd ends the job by it.
                let result = jobs.wait(&job, LONGEST_STOP).await?;
                if let JobResult::Other(result) = result {
                    tracing::warn!("the stop of {unit} ended with `{result}`");
                }
            }
            Err(err) if is_no_such_unit(&err) => return Ok(()),
            Err(err) => return Err(err).with_context(|| format!("systemd does not stop {unit}")),
        }
        // A unit that failed stays loaded until this (systemd.unit(5), CollectMode=).
        match manager.reset_failed_unit(unit).await {
            Ok(()) => {}
            Err(err) if is_no_such_unit(&err) => return Ok(()),
            Err(err) => return Err(err).with_context(|| format!("cannot reset the failed {unit}")),
        }
        let end = tokio::time::Instant::now() + UNLOAD_LIMIT;
        while self.loaded(unit).await?.is_some() {
            if tokio::time::Instant::now() > end {
                bail!(
                    "{unit} is stopped but stays loaded: another unit depends on it \
                     (`systemctl list-dependencies --reverse {unit}`)"
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    pub(super) async fn loaded(&self, unit: &str) -> anyhow::Result<Option<OwnedObjectPath>> {
        match self.manager.get_unit(unit).await {
            Ok(path) => Ok(Some(path)),
            Err(err) if is_no_such_unit(&err) => Ok(None),
            Err(err) => Err(err).with_context(|| format!("cannot ask systemd for {unit}")),
        }
    }
}

impl Apply<'_> {
    pub(super) async fn start(&self, id: &VmId) -> Result<Done, Failure> {
        let since = now();
        let begun = std::time::Instant::now();
        let mut started = self.start_unit(id).await;
        // What a killed nkudo had sent to systemd may arrive only now: that unit is stopped, and the
        // start tried once more.
        if started.as_ref().is_err_and(is_taken) {
            started = self.start_unit(id).await;
        }
        if self.was_stopped(id).await {
            return Ok(Done::StoppedMeanwhile);
        }
        match started {
            Ok(()) => {
                let took = begun.elapsed().as_secs_f32();
                tracing::info!(nkudo_vm = %id, "started {id} in {took:.2} s");
                Ok(Done::AsPlanned)
            }
            Err(why) => {
                // Nothing else would tell later that it was to run, and why it does not.
                if let Ok(None) = self.loaded(&vm_unit_name(id)).await {
                    run_files::note_obstacles(id, &[format!("{why:#}")]).map_err(Failure::of)?;
                }
                Err(Failure {
                    why,
                    journal_since: Some(since),
                })
            }
        }
    }

    async fn start_unit(&self, id: &VmId) -> anyhow::Result<()> {
        let vm = self.wanted.host.vms.get(id);
        let vm = vm.with_context(|| format!("generation {} has no VM {id}", self.generation))?;
        refuse_if_stopped(id)?;
        // What is left of one that failed keeps the name, and its TAPs.
        self.unload_vm(id).await?;
        let digest = self.wanted.digests.get(id);
        let digest = digest.context("its generation has no digest of it")?;
        let programs = &self.wanted.programs;
        let groups = self.take_devices(id, vm).await?;
        let mut booted = Booted::new(id, vm, self.generation, digest, programs).in_groups(groups);
        let restoration = self.restoration.filter(|(restored, _)| *restored == id);
        let unit = match restoration {
            Some((_, restoration)) => {
                booted = booted.booted_with(restoration.boot_memory);
                unit::restoring(&booted, restoration)
            }
            None => booted.to_unit(),
        };
        run_files::write_booted(&booted)?;
        run_files::forget_not_ready(id)?;
        run_files::keep_store_paths(id, vm, &self.wanted.programs, Unneeded::Remove)?;
        run_files::ensure_root(id)?;
        self.ensure_seed(id, vm)?;
        if let Some((_, restoration)) = restoration {
            restore::put_seed(id, vm, restoration)?;
        }
        let mut taps = Vec::new();
        for (index, nic) in vm.nics.iter().enumerate() {
            let network = self.wanted.host.networks.get(&nic.network);
            let network = network.context("its network is not declared")?;
            let fds = self.create_link(nic, network).await?;
            taps.extend(fds.into_iter().enumerate().map(|(queue, fd)| ExtraFd {
                fd,
                name: format!("nic{index}-{queue}"),
            }));
        }
        let mut companions = self.prepare_companions(id, vm).await?;
        // The guest of a snapshot was ready long ago, and says so once.
        if restoration.is_none() {
            companions.extend(self.prepare_readiness(id, vm).await?);
        }
        let properties = transient_properties(unit.properties(), taps);
        // Whoever stops it has this lock when they say so: either they see the unit, or it is not made any more.
        let own = lock_vm_soon(id, Doing::Start).await?;
        refuse_if_stopped(id)?;
        // What systemd started again since, whose note is of a run before.
        run_files::release(id)?;
        let job = self
            .connections
            .manager
            .start_transient_unit(&unit.name, "fail", &properties, &companions)
            .await
            .map_err(|err| refused(&unit.name, err))?;
        drop(own);
        effect();
        // PID 1 has copies of the TAPs now; one kept here would keep them alive after a stop.
        drop((properties, companions));
        match self.jobs.wait(&job, self.deadline(id)).await? {
            JobResult::Done if restoration.is_some() => Ok(()),
            JobResult::Done => self.until_ready(id, vm).await,
            JobResult::Other(result) => bail!(not_started(&result)),
        }
    }

    /// Makes the host's end of a NIC; returns its queues.
    async fn create_link(&self, nic: &Nic, network: &Network) -> Result<Vec<OwnedFd>, LinkError> {
        match (&network.kind, network.bridge()) {
            (_, Some(bridge)) => self.create_tap(nic, bridge, network.isolation).await,
            (NetworkKind::Macvtap(uplink), None) => {
                self.create_macvtap(nic, uplink.port(), network.isolation)
                    .await
            }
            (_, None) => Err(LinkError::Missing(nic.network.to_string())),
        }
    }

    /// Makes a TAP, once one of the same name is gone: systemd closes the descriptors of a unit a
    /// moment after it has unloaded the unit.
    async fn create_tap(
        &self,
        nic: &Nic,
        bridge: &LinkName,
        isolation: Isolation,
    ) -> Result<Vec<OwnedFd>, LinkError> {
        let netlink = &self.connections.netlink;
        let tap = &nic.tap;
        // It may have been on an uplink before, and its VM have ended by itself.
        self.remove_macvtap(tap).await?;
        match netlink.create_tap(tap, nic.queues, bridge, isolation).await {
            Err(err) if is_busy(&err) => {}
            other => return other,
        }
        self.until_gone(tap).await?;
        netlink.create_tap(tap, nic.queues, bridge, isolation).await
    }

    async fn until_gone(&self, tap: &LinkName) -> Result<(), LinkError> {
        let is_there = |links: &BTreeMap<String, Link>| {
            let there = links.contains_key(tap.as_str());
            Vec::from_iter(there.then(|| format!("{tap} is still there")))
        };
        self.connections.netlink.until(UNLOAD_LIMIT, is_there).await
    }

    /// Makes a macvtap. The kernel or udev makes its device file, which may take a moment.
    async fn create_macvtap(
        &self,
        nic: &Nic,
        uplink: &LinkName,
        isolation: Isolation,
    ) -> Result<Vec<OwnedFd>, LinkError> {
        let tap = &nic.tap;
        self.remove_macvtap(tap).await?;
        self.until_gone(tap).await?;
        let netlink = &self.connections.netlink;
        let index = netlink.create_macvtap(nic, uplink, isolation).await?;
        let end = tokio::time::Instant::now() + UNLOAD_LIMIT;
        let opened = loop {
            match open_macvtap(tap, index, nic.queues) {
                Err(err)
                    if err.kind() == io::ErrorKind::NotFound
                        && tokio::time::Instant::now() < end =>
                {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                opened => break opened,
            }
        };
        match opened {
            Ok(fds) => Ok(fds),
            Err(source) => {
                netlink.delete(tap).await?;
                Err(LinkError::Macvtap {
                    name: tap.clone(),
                    index,
                    source,
                })
            }
        }
    }

    /// Removes a macvtap of nkudo's, if there is one of that name.
    async fn remove_macvtap(&self, tap: &LinkName) -> Result<(), LinkError> {
        let links = self.connections.netlink.links().await?;
        if links
            .get(tap.as_str())
            .is_some_and(|link| link.kind == LinkKind::Macvtap)
        {
            self.connections.netlink.delete(tap).await?;
        }
        Ok(())
    }

    /// Waits until a VM that somebody else is starting has started.
    pub(super) async fn wait(&self, id: &VmId) -> Result<Done, Failure> {
        let since = now();
        let started = self.join_start(id).await;
        if self.was_stopped(id).await {
            return Ok(Done::StoppedMeanwhile);
        }
        started.map(|()| Done::AsPlanned).map_err(|why| Failure {
            why,
            journal_since: Some(since),
        })
    }

    /// Whether a VM that was to run is not to any more. A note of `systemctl stop` stays when systemd itself has
    /// started the VM again.
    pub(super) async fn was_stopped(&self, id: &VmId) -> bool {
        match run_files::held_by(id) {
            Ok(Some(HeldBy::Nkudo)) => true,
            Ok(Some(HeldBy::Systemd)) => matches!(self.loaded(&vm_unit_name(id)).await, Ok(None)),
            _ => false,
        }
    }

    async fn join_start(&self, id: &VmId) -> anyhow::Result<()> {
        let unit = vm_unit_name(id);
        // A start that is under way answers with its own job; one that is done by now with a job
        // that is done at once.
        let job = self.connections.manager.start_unit(&unit, "replace").await;
        let job = job.with_context(|| format!("cannot follow the start of {unit}"))?;
        match (
            self.jobs.wait(&job, self.deadline(id)).await?,
            self.wanted.host.vms.get(id),
        ) {
            (JobResult::Done, Some(vm)) => self.until_ready(id, vm).await,
            (JobResult::Done, None) => Ok(()),
            (JobResult::Other(result), _) => bail!(not_started(&result)),
        }
    }

    /// Longer than the unit gives a start.
    pub(super) fn deadline(&self, id: &VmId) -> Duration {
        let vm = self.wanted.host.vms.get(id);
        let longer = match self.restoration {
            Some((restored, restoration)) if restored == id => restoration.longer,
            _ => Duration::ZERO,
        };
        vm.map_or(SLACK, |vm| vm.start_timeout.duration() + longer + SLACK)
    }

    pub(super) async fn stop(&self, id: &VmId) -> Result<Done, Failure> {
        let since = now();
        let begun = std::time::Instant::now();
        let stopped = async {
            self.unload_vm(id).await?;
            self.stop_companions(id).await
        };
        match stopped.await {
            Ok(()) => {
                let took = begun.elapsed().as_secs_f32();
                tracing::info!(nkudo_vm = %id, "stopped {id} in {took:.2} s");
                Ok(Done::AsPlanned)
            }
            Err(why) => Err(Failure {
                why,
                journal_since: Some(since),
            }),
        }
    }

    /// Stops the VM's unit, if it is there, so that nobody takes that for a stop by hand.
    pub(super) async fn unload_vm(&self, id: &VmId) -> anyhow::Result<()> {
        let unit = vm_unit_name(id);
        if let Some(path) = self.loaded(&unit).await? {
            self.connections.begin_stop(id, &path).await?;
            self.unload(&unit).await?;
        }
        run_files::end_stop(id)
    }

    /// Stops the unit, if it is there, and waits until its name is free.
    pub(super) async fn unload(&self, unit: &str) -> anyhow::Result<()> {
        self.connections.unload(self.jobs, unit).await
    }

    pub(super) async fn loaded(&self, unit: &str) -> anyhow::Result<Option<OwnedObjectPath>> {
        self.connections.loaded(unit).await
    }
}

/// Longer than any `stop-timeout` and its phases: what waits here is only for systemd to say.
pub(super) const LONGEST_STOP: Duration = Duration::from_secs(400 * 24 * 3600);

/// Somebody may stop a VM while a switch is on its way to it.
fn refuse_if_stopped(id: &VmId) -> anyhow::Result<()> {
    match run_files::held_by(id)? {
        Some(HeldBy::Nkudo) => bail!("it was stopped by somebody meanwhile, and stays so"),
        Some(HeldBy::Systemd) | None => Ok(()),
    }
}

/// A start's end, in systemd's word for it.
fn not_started(result: &str) -> String {
    match result {
        "canceled" => {
            "its start was canceled: somebody has stopped or restarted it meanwhile".to_owned()
        }
        other => format!("its start ended with `{other}`"),
    }
}

/// Whether a start failed because the unit's name or its TAP's is taken.
fn is_taken(err: &anyhow::Error) -> bool {
    err.chain().any(|cause| {
        let unit_exists = |err: &zbus::Error| is_named(err, "org.freedesktop.systemd1.UnitExists");
        cause.downcast_ref().is_some_and(unit_exists) || cause.downcast_ref().is_some_and(is_busy)
    })
}

/// Whether a link has the name of a TAP that was to be made.
fn is_busy(err: &LinkError) -> bool {
    matches!(err, LinkError::Tap { source, .. } if source.kind() == io::ErrorKind::ResourceBusy)
}

/// Microseconds since 1970, as journalctl takes them.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
        })
}

/// Why systemd does not take a unit. One of nkudo's is good by itself.
fn refused(unit: &str, err: zbus::Error) -> anyhow::Error {
    let is_bad = is_named(&err, "org.freedesktop.systemd1.BadUnitSetting");
    let drop_in =
        "; a drop-in of the administrator's may be why (`ls /etc/systemd/system/nkudo-vm@*.d`)";
    let drop_in = if is_bad { drop_in } else { "" };
    anyhow::Error::new(err).context(format!("systemd does not take the unit {unit}{drop_in}"))
}
