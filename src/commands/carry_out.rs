//! Plans for a generation, carries the plan out, and says how that went.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::Command;
use tokio::time::Instant;

use super::{Exit, print, programs};
use crate::apply::{Apply, Failure, Outcome};
use crate::connections::Connections;
use crate::generation::Manifest;
use crate::host::VmId;
use crate::observe::{Detail, Hypervisor, Observed, observe};
use crate::plan::{Action, Obstacle, Plan, Reason, Request, plan};
use crate::unit::vm_unit_name;

/// Lines of a failed VM's log that are shown.
const LINES: &str = "12";
/// Characters of such a line: what a guest prints has no end of its own.
const WIDTH: usize = 300;

/// How long what a killed nkudo had sent may be on its way to systemd: the TAP is there then, and
/// the unit that it is for is not yet.
const IN_FLIGHT: Duration = Duration::from_secs(2);

/// What to do with the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Print,
    Do,
}

/// Makes the host be the generation, as far as `request` asks for it.
pub(super) async fn carry_out(
    mut wanted: Manifest,
    generation: u64,
    request: &Request,
    mode: Mode,
) -> anyhow::Result<Exit> {
    let connections = Connections::open().await?;
    let mut observed = look(&connections, &wanted).await?;
    // The units are made by this nkudo, for the hypervisor that is there: an upgrade of either
    // since the generation was rendered restarts nothing, but what starts now starts with them.
    wanted.programs.nkudo = programs::nkudo()?;
    if let Hypervisor::Found(version) = observed.hypervisor {
        wanted.programs.hypervisor_version = version;
    }
    let end = Instant::now() + IN_FLIGHT;
    let plan = loop {
        match plan(&wanted, &observed, request) {
            Ok(plan) => break plan,
            Err(obstacles) if only_taps(&obstacles) && Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                observed = look(&connections, &wanted).await?;
            }
            Err(obstacles) => return Ok(say_obstacles(&obstacles)),
        }
    };
    match mode {
        Mode::Print => {
            print(&plan.to_string())?;
            if plan.is_empty() {
                tracing::info!("nothing to do");
            }
            return Ok(Exit::Done);
        }
        Mode::Do => say(&plan),
    }
    // From before the first call that makes a job.
    let jobs = connections.jobs().await?;
    let apply = Apply {
        connections: &connections,
        jobs: &jobs,
        wanted: &wanted,
        generation,
    };
    let mut outcome = apply.run(&plan).await;
    if outcome.host.is_empty() && !plan.start.is_empty() {
        match look(&connections, &wanted).await {
            Ok(after) => verify(&plan, &wanted, &after, &mut outcome),
            Err(err) => outcome
                .host
                .push(err.context("cannot verify what was done")),
        }
    }
    report(&outcome).await
}

fn only_taps(obstacles: &[Obstacle]) -> bool {
    obstacles
        .iter()
        .all(|obstacle| matches!(obstacle, Obstacle::ForeignTap { .. }))
}

async fn look(connections: &Connections, wanted: &Manifest) -> anyhow::Result<Observed> {
    let observed = observe(
        &connections.bus,
        &connections.manager,
        &connections.netlink,
        Some(&wanted.programs.hypervisor),
        Detail::Plan,
    );
    Ok(observed.await?)
}

/// Says everything that stands in the way.
pub(super) fn say_obstacles(obstacles: &[Obstacle]) -> Exit {
    for obstacle in obstacles {
        tracing::error!("{obstacle}");
    }
    tracing::error!("nothing was changed");
    Exit::Failed
}

fn say(plan: &Plan) {
    for line in plan.to_string().lines() {
        tracing::info!("{line}");
    }
    if plan.is_empty() {
        tracing::info!("nothing to do");
    }
}

/// Looks again at what was started: a job that is done is no VM that runs.
fn verify(before: &Plan, wanted: &Manifest, observed: &Observed, outcome: &mut Outcome) {
    let Ok(now) = plan(wanted, observed, &Request::Switch) else {
        return;
    };
    for id in before.start.iter().flatten() {
        let Some(step) = now.vms.get(id) else {
            continue;
        };
        if outcome.vms.contains_key(id) || !matches!(step.action, Action::Start | Action::Restart) {
            continue;
        }
        match step.reasons.first() {
            Some(Reason::NotRunning | Reason::BeingStopped) => {
                tracing::warn!(nkudo_vm = %id, "{id} was started, and has ended again by itself");
            }
            Some(reason) => {
                let why = anyhow::anyhow!("it was started, but now {reason}");
                outcome.vms.insert(id.clone(), Failure::of(why));
            }
            None => {}
        }
    }
}

async fn report(outcome: &Outcome) -> anyhow::Result<Exit> {
    for err in &outcome.host {
        tracing::error!("{err:#}");
    }
    if !outcome.vms.is_empty() {
        // What the VMM said last may still be on its way to the journal's file.
        let _ = journalctl(&["--sync"]).await;
    }
    for (id, failure) in &outcome.vms {
        tracing::error!(nkudo_vm = %id, "VM {id}: {:#}", failure.why);
        if let Some(since) = failure.journal_since {
            for line in last_lines(id, since).await? {
                tracing::info!("    {line}");
            }
            tracing::info!("hint: `journalctl -u {}` has more", vm_unit_name(id));
        }
    }
    Ok(if !outcome.host.is_empty() {
        Exit::Failed
    } else if !outcome.vms.is_empty() {
        Exit::VmsFailed
    } else {
        Exit::Done
    })
}

/// The last lines that the journal has of a VM's unit.
async fn last_lines(id: &VmId, since: u64) -> anyhow::Result<Vec<String>> {
    let unit = vm_unit_name(id);
    // journalctl takes fractions of a second.
    let since = format!("--since=@{}.{:06}", since / 1_000_000, since % 1_000_000);
    let arguments = [
        "-q",
        "--no-pager",
        "-o",
        "cat",
        "-n",
        LINES,
        &since,
        "-u",
        &unit,
    ];
    let output = journalctl(&arguments).await?;
    Ok(output
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(plain)
        .collect())
}

/// A line of a guest's or a VMM's, made harmless for a terminal.
fn plain(line: &str) -> String {
    line.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .take(WIDTH)
        .collect()
}

async fn journalctl(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("journalctl")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .context("cannot run journalctl")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
