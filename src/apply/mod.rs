//! Carries out a plan, and decides nothing.
//!
//! Images are there by then. The order: disks first, which take longest and disturb nobody, then bridges; then what
//! stops; firewall rules; the kernel's settings; disks that grow; TAPs that move; then what starts; then what changes
//! while it runs; then what nobody needs any more. A VM that fails does not hold up the others. Every effect is an
//! "ensure": after a run that was killed, the next one finds what is missing and does it.

mod companion;
mod live;
mod network;
mod network_manager;
mod not_ready;
mod outcome;
mod pci;
mod readiness;
mod restore;
mod run_files;
mod seed;
mod services;
mod shutdown;
mod stop;
mod storage;
mod tuning;
mod vm;
mod vm_lock;

use std::cell::Cell;
use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use futures_util::{StreamExt as _, stream};

use crate::connections::Connections;
use crate::generation::Manifest;
use crate::host::{ImageName, StoredFile, VmId};
use crate::plan::{Action, OnObstacle, Plan, RulesStep, TapAmiss};
use crate::systemd::Jobs;
use crate::talk::Progress;
use crate::unit::Restoration;

pub use not_ready::give_up;
pub use outcome::{Failure, NotMade, Outcome};
pub use run_files::{Hold, Lock, held_by, hold, lock, release, try_lock};
pub use shutdown::shut_down;
pub use stop::{Stopped, stop};
pub use storage::NoImage;
pub use vm_lock::{Doing, Holder, VmLock, holder, lock_vm, try_lock_vm, until_free};

/// What is carried out, and on what.
#[derive(Debug)]
pub struct Apply<'a> {
    pub connections: &'a Connections,
    pub jobs: &'a Jobs,
    pub wanted: &'a Manifest,
    /// The wanted generation's number.
    pub generation: u64,
    /// Where the wanted generation's files are.
    pub directory: &'a Utf8Path,
    /// What hands out addresses where networkd does not.
    pub dnsmasq: Option<Utf8PathBuf>,
    /// The images that the plan lacks: they could not be had.
    pub no_images: &'a BTreeMap<StoredFile, NoImage>,
    /// The images whose kernel is not known: it could not be taken out.
    pub no_kernels: &'a BTreeMap<ImageName, NoImage>,
    /// The VM that starts from a snapshot, if one does.
    pub restoration: Option<(&'a VmId, &'a Restoration)>,
}

impl Apply<'_> {
    /// Carries out the plan. What fails is in the outcome; nothing is undone for it.
    pub async fn run(&self, plan: &Plan) -> Outcome {
        let mut outcome = Outcome::default();
        if let Err(err) = run_files::ensure_directories() {
            outcome.host.push(err);
            return outcome;
        }
        self.leave_out(plan, &mut outcome);
        // Before anything stops: a VM whose new disk cannot be made runs on as it was.
        self.prepare_storage(plan, &mut outcome.vms).await;
        if let Err(unmade) = self.networks(plan).await {
            // At a boot all else is done.
            let goes_on = unmade.is_nobodys() && plan.on_obstacle == OnObstacle::LeaveOut;
            outcome.host.push(unmade.why);
            if !goes_on {
                // Nothing has been stopped yet, and nothing is: VMs run on as they were.
                outcome.not_made = Some(unmade.what);
                return outcome;
            }
        }
        let progress = Progress::begin(plan.pieces());
        for wave in &plan.stop {
            if !outcome.goes_on(plan) {
                outcome.leave_out(wave);
                continue;
            }
            let wave = left(wave, &outcome);
            self.wave(&wave, Verb::Stop, plan, &mut outcome, &progress)
                .await;
        }
        // What stopped had its rules until it did; what starts now has its own from the first moment.
        if let Err(err) = self.load_rules(plan).await {
            let why = format!("{err:#}");
            outcome.host.push(err);
            // Those that are removed are in nobody's way.
            if plan.network.rules != RulesStep::Remove {
                outcome.not_made = Some(NotMade::RulesNotLoaded(why));
                return outcome;
            }
        }
        // What stopped has given back its memory, and what starts finds its huge pages.
        match tuning::tune(&plan.tuning) {
            Ok(refused) => outcome.refused = refused,
            Err(err) => outcome.host.push(err),
        }
        let not_grown = self.grow_disks(plan, &outcome).await;
        for attach in &plan.attach {
            match self
                .connections
                .netlink
                .attach(&attach.tap, &attach.bridge, attach.isolation)
                .await
            {
                Ok(()) if attach.amiss == TapAmiss::Down => tracing::info!("set {} up", attach.tap),
                Ok(()) => tracing::info!("put {} into {}", attach.tap, attach.bridge),
                Err(err) => outcome.host.push(err.into()),
            }
        }
        for wave in &plan.start {
            if !outcome.goes_on(plan) {
                outcome.leave_out(wave);
                continue;
            }
            let wave = left(wave, &outcome);
            let (waiting, starting): (Vec<VmId>, Vec<VmId>) = wave.into_iter().partition(|id| {
                plan.vms
                    .get(id)
                    .is_some_and(|step| step.action == Action::Wait)
            });
            self.wave(&starting, Verb::Start, plan, &mut outcome, &progress)
                .await;
            self.wave(&waiting, Verb::Wait, plan, &mut outcome, &progress)
                .await;
        }
        if outcome.goes_on(plan) {
            self.live(plan, &mut outcome, &progress).await;
        }
        for (id, step) in &plan.vms {
            if matches!(step.action, Action::Stop | Action::Clean)
                && !outcome.vms.contains_key(id)
                && !outcome.left_out.contains(id)
                && !self.wanted.host.vms.contains_key(id)
                && let Err(err) = self.clean(id).await
            {
                outcome.fail(id, Failure::of(err));
            }
        }
        self.give_devices_back(plan, &mut outcome).await;
        for (id, failure) in not_grown {
            if self.was_stopped(&id).await {
                outcome.stopped.insert(id);
            } else {
                outcome.vms.entry(id).or_insert(failure);
            }
        }
        if let Err(err) = run_files::end_stops() {
            outcome.host.push(err);
        }
        if let Err(err) = self.remove_bridges(plan).await {
            outcome.host.push(err);
        }
        outcome
    }

    /// Notes for `nkudo status` which VMs something stands in the way of, and forgets of which that was so.
    fn leave_out(&self, plan: &Plan, outcome: &mut Outcome) {
        for network in plan.network.left_out.keys() {
            let why = plan.network.why(network);
            match plan.on_obstacle {
                OnObstacle::LeaveOut => {
                    outcome.networks.insert(network.clone(), why);
                }
                // What was asked for does without it.
                OnObstacle::Refuse => tracing::warn!("network {network} is left out: {why}"),
            }
        }
        for (id, reasons) in plan.left_out() {
            let why: Vec<String> = reasons.iter().map(ToString::to_string).collect();
            if let Err(err) = run_files::note_obstacles(id, &why) {
                outcome.host.push(err);
            }
            outcome.fail(id, Failure::of(anyhow::anyhow!(why.join("; "))));
        }
        let is_gone = |id: &VmId| {
            let unknown = !self.wanted.host.vms.contains_key(id);
            unknown || (plan.vms.contains_key(id) && !outcome.vms.contains_key(id))
        };
        if let Err(err) = run_files::forget_obstacles(is_gone) {
            outcome.host.push(err);
        }
    }

    /// Starts or stops these VMs at the same time.
    async fn wave(
        &self,
        ids: &[VmId],
        verb: Verb,
        plan: &Plan,
        outcome: &mut Outcome,
        progress: &Progress,
    ) {
        // Those that have begun are finished in any case: a start is not to be left half done.
        let goes_on = Cell::new(outcome.goes_on(plan));
        let goes_on = &goes_on;
        let all = ids.iter().map(|id| async move {
            if !goes_on.get() {
                return (id, None);
            }
            let done = match verb {
                Verb::Stop => self.stop(id).await,
                Verb::Start => self.start(id).await,
                Verb::Wait => self.wait(id).await,
            };
            (id, Some(done))
        });
        let mut all = stream::iter(all).buffer_unordered(plan.at_once.get());
        while let Some((id, done)) = all.next().await {
            progress.advance();
            match done {
                Some(Ok(Done::AsPlanned)) => {}
                Some(Ok(Done::StoppedMeanwhile)) => {
                    outcome.stopped.insert(id.clone());
                }
                Some(Err(failure)) => outcome.fail(id, failure),
                None => outcome.leave_out(std::slice::from_ref(id)),
            }
            goes_on.set(outcome.goes_on(plan));
        }
    }
}

/// How it went with one VM.
enum Done {
    AsPlanned,
    /// Somebody has stopped it, and it stays so.
    StoppedMeanwhile,
}

/// Those that nothing has gone wrong with yet.
fn left(wave: &[VmId], outcome: &Outcome) -> Vec<VmId> {
    let left = wave.iter().filter(|id| !outcome.vms.contains_key(*id));
    left.cloned().collect()
}

#[derive(Debug, Clone, Copy)]
enum Verb {
    Start,
    Stop,
    Wait,
}
