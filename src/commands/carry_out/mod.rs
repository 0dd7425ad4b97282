//! Plans for a generation, carries the plan out, and says how that went.

mod tried;
mod verify;

use std::time::Duration;

use anyhow::Context as _;
use camino::Utf8Path;
use tokio::time::Instant;

use super::fetched::{Fetched, Turn};
use super::{Exit, print, print_json, programs};
use crate::apply::{self, Apply, Outcome};
use crate::connections::Connections;
use crate::disk;
use crate::generation::Manifest;
use crate::host::VmId;
use crate::interruption::effect;
use crate::journal;
use crate::observe::{self, Detail, Hypervisor, Observed, needs, observe, storage, tuning};
use crate::pci;
use crate::plan::{
    Obstacle, Plan, PlanDocument, Reason, Request, Switch, obstacles_document, plan,
};
use crate::snapshot::Restoring;
use crate::unit::{Restoration, vm_unit_name};
use tried::Tried;

/// Lines of a failed VM's log that are shown.
const LINES: usize = 12;

/// How long what a killed nkudo had sent may be on its way to systemd: the TAP is there then, and
/// the unit that it is for is not yet.
const IN_FLIGHT: Duration = Duration::from_secs(2);

/// What to do with the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Print(Form),
    Do,
}

/// What a plan is printed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Json,
}

impl Form {
    pub(super) fn of(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// Makes the host be the generation, as far as `request` asks for it. Where images are lacking for that, or somebody is
/// at a VM that it is about, nothing is done, but for images that cannot be had.
pub(super) async fn carry_out(
    wanted: Manifest,
    generation: u64,
    directory: &Utf8Path,
    request: &Request,
    mode: Mode,
    fetched: &mut Fetched,
) -> anyhow::Result<Turn<Ended>> {
    if mode == Mode::Do {
        settle_restores(&wanted, generation, directory).await?;
    }
    carry_out_restoring(wanted, generation, directory, request, mode, None, fetched).await
}

/// Ends the restores that runs which were killed have left under way.
pub(super) async fn settle_restores(
    wanted: &Manifest,
    generation: u64,
    directory: &Utf8Path,
) -> anyhow::Result<()> {
    let state_dir = &wanted.host.state_dir;
    if Restoring::all(state_dir)?.is_empty() {
        return Ok(());
    }
    let connections = Connections::open().await?;
    let jobs = connections.jobs().await?;
    let fetched = Fetched::default();
    let apply = Apply {
        connections: &connections,
        jobs: &jobs,
        wanted,
        generation,
        directory,
        dnsmasq: None,
        no_images: fetched.failed(),
        no_kernels: fetched.without_kernel(),
        restoration: None,
    };
    apply.settle_restores(state_dir).await
}

/// The same, with a restore of this run's under way: of a VM that starts from a snapshot, if it starts.
pub(super) async fn carry_out_restoring(
    mut wanted: Manifest,
    generation: u64,
    directory: &Utf8Path,
    request: &Request,
    mode: Mode,
    restoration: Option<(&VmId, &Restoration)>,
    fetched: &mut Fetched,
) -> anyhow::Result<Turn<Ended>> {
    let connections = Connections::open().await?;
    let mut request = request.clone();
    let mut tried = Tried::default();
    let mut observed = look(&connections, &wanted).await?;
    disk::as_made(&mut wanted.host, &observed.storage);
    // The units are made by this nkudo, for the hypervisor that is there: an upgrade of either
    // since the generation was rendered restarts nothing, but what starts now starts with them.
    wanted.programs.nkudo = programs::nkudo()?;
    if let Hypervisor::Found(version) = observed.hypervisor {
        wanted.programs.hypervisor_version = version;
    }
    let (plan, mut outcome) = loop {
        let planned = planned(&connections, &wanted, &tried, &request, &mut observed).await?;
        let plan = match planned {
            Ok(plan) => plan,
            Err(obstacles) => {
                if let Mode::Print(form) = mode {
                    print_obstacles(&obstacles, form)?;
                }
                return Ok(Turn::Done(Ended::Whole(say_obstacles(&obstacles))));
            }
        };
        match mode {
            Mode::Print(form) => {
                print_plan(&plan, form)?;
                return Ok(Turn::Done(Ended::Whole(Exit::Done)));
            }
            Mode::Do => fetched.say(&plan),
        }
        if let Some(lacking) = fetched.lacking(&plan, &wanted.host) {
            return Ok(Turn::Lacks(lacking));
        }
        for id in plan.touched() {
            if apply::holder(id)?.is_some() {
                return Ok(Turn::Waits(id.clone()));
            }
        }
        if let Hypervisor::Found(version) = observed.hypervisor {
            observe::note_hypervisor(&wanted.programs.hypervisor, version)?;
            effect();
        }
        // From before the first call that makes a job.
        let jobs = connections.jobs().await?;
        let apply = Apply {
            connections: &connections,
            jobs: &jobs,
            wanted: &wanted,
            generation,
            directory,
            dnsmasq: observed.network.dnsmasq.clone(),
            no_images: fetched.failed(),
            no_kernels: fetched.without_kernel(),
            restoration,
        };
        let outcome = apply.run(&plan).await;
        let again = outcome
            .not_made
            .as_ref()
            .and_then(|not_made| tried.goes_on(not_made, &plan, &request, &wanted.host));
        match again {
            Some(with) => request = with,
            None => break (plan, outcome),
        }
        observed = look(&connections, &wanted).await?;
    };
    let mut rest = None;
    if outcome.host.is_empty() && (!plan.is_empty() || is_partial(&request)) {
        match verify::verify(&connections, &plan, &wanted, &request, &mut outcome).await {
            Ok(after) => {
                rest = is_partial(&request)
                    .then(|| verify::rest(&wanted, &after))
                    .flatten();
            }
            Err(err) => outcome
                .host
                .push(err.context("cannot verify what was done")),
        }
    }
    let exit = report(&outcome, &request).await?;
    Ok(Turn::Done(match rest {
        _ if !outcome.left_out.is_empty() => Ended::InPart {
            exit,
            why: format!(
                "{} VMs were left as they were, since one failed before",
                outcome.left_out.len()
            ),
        },
        Some(why) => Ended::InPart { exit, why },
        None => Ended::Whole(exit),
    }))
}

/// The plan, once what a killed nkudo had sent has arrived.
async fn planned(
    connections: &Connections,
    wanted: &Manifest,
    tried: &Tried,
    request: &Request,
    observed: &mut Observed,
) -> anyhow::Result<Result<Plan, Vec<Obstacle>>> {
    let end = Instant::now() + IN_FLIGHT;
    loop {
        tried.add_to(observed);
        let planned = plan(wanted, observed, request);
        let in_flight = match &planned {
            Ok(plan) => {
                let reasons = plan.left_out().flat_map(|(_, reasons)| reasons);
                only_taps(reasons.filter_map(|reason| match reason {
                    Reason::Obstacle(obstacle) => Some(obstacle.as_ref()),
                    _ => None,
                }))
            }
            Err(obstacles) => only_taps(obstacles.iter()),
        };
        if !in_flight || Instant::now() >= end {
            return Ok(planned);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        *observed = look(connections, wanted).await?;
    }
}

/// How carrying out a plan ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    Whole(Exit),
    /// The host is not the generation's yet, as it was asked for.
    InPart {
        exit: Exit,
        why: String,
    },
}

impl Ended {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Whole(exit) | Self::InPart { exit, .. } => *exit,
        }
    }
}

fn is_partial(request: &Request) -> bool {
    matches!(request, Request::Switch(Switch { only: Some(_), .. }))
}

/// Whether something stands in the way, and all of it are TAPs.
fn only_taps<'o>(obstacles: impl Iterator<Item = &'o Obstacle>) -> bool {
    let mut obstacles = obstacles.peekable();
    obstacles.peek().is_some()
        && obstacles.all(|obstacle| matches!(obstacle, Obstacle::ForeignTap { .. }))
}

pub(super) async fn look(connections: &Connections, wanted: &Manifest) -> anyhow::Result<Observed> {
    let mut observed =
        observe(connections, Some(&wanted.programs.hypervisor), Detail::Plan).await?;
    observed.storage = storage(&wanted.host, &observed.running())?;
    observed.needs = needs(&wanted.host);
    observed.tuning = tuning(&wanted.host.tuning)?;
    let devices = wanted.host.vms.values().flat_map(|vm| &vm.pci);
    observed.pci = pci::look(&pci::Place::host(), &devices.copied().collect())
        .context("cannot look at PCI devices in /sys")?;
    Ok(observed)
}

/// Says everything that stands in the way.
pub(super) fn say_obstacles(obstacles: &[Obstacle]) -> Exit {
    for obstacle in obstacles {
        tracing::error!("{obstacle}");
    }
    tracing::error!("nothing was changed");
    Exit::Failed
}

/// Prints a plan.
pub(super) fn print_plan(plan: &Plan, form: Form) -> anyhow::Result<()> {
    match form {
        Form::Json => print_json(&PlanDocument::of(plan)),
        Form::Text => {
            print(&plan.to_string())?;
            if plan.is_empty() {
                tracing::info!("nothing to do");
            }
            Ok(())
        }
    }
}

/// Prints what stands in the way, for programs; people are told on standard error.
pub(super) fn print_obstacles(obstacles: &[Obstacle], form: Form) -> anyhow::Result<()> {
    match form {
        Form::Json => print_json(&obstacles_document(obstacles)),
        Form::Text => Ok(()),
    }
}

/// Says how it went. That a VM was stopped is no failure but of what was asked for this VM alone.
pub(super) async fn report(outcome: &Outcome, request: &Request) -> anyhow::Result<Exit> {
    for err in &outcome.host {
        tracing::error!("{err:#}");
    }
    for (network, why) in &outcome.networks {
        tracing::error!("network {network} is left out: {why}");
    }
    for differs in &outcome.differs {
        tracing::error!("{differs}");
    }
    if !outcome.vms.is_empty() {
        // What the VMM said last may still be on its way to the journal's file.
        let _ = journal::sync().await;
    }
    for id in &outcome.left_out {
        tracing::warn!(nkudo_vm = %id, "VM {id}: left as it was, since another VM failed before");
    }
    for id in &outcome.stopped {
        tracing::warn!(
            nkudo_vm = %id,
            "VM {id}: it was stopped by somebody meanwhile, and stays so; `nkudo start {id}` starts it"
        );
    }
    for (id, failure) in &outcome.vms {
        tracing::error!(nkudo_vm = %id, "VM {id}: {:#}", failure.why);
        if let Some(since) = failure.journal_since {
            for line in journal::last_lines(id, LINES, Some(since)).await? {
                tracing::info!("    {line}");
            }
            tracing::info!("hint: `journalctl -u {}` has more", vm_unit_name(id));
        }
    }
    let not_as_asked = match request {
        Request::Start(id) | Request::Restart(id) => outcome.stopped.contains(id),
        Request::Stop(_) | Request::Switch(_) => false,
    };
    Ok(if !outcome.host.is_empty() {
        Exit::Failed
    } else if !outcome.vms.is_empty() || not_as_asked {
        Exit::VmsFailed
    } else if !outcome.networks.is_empty() || !outcome.differs.is_empty() {
        Exit::HostDiffers
    } else {
        Exit::Done
    })
}
