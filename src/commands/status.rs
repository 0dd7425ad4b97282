//! `nkudo status`: the state of VMs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::bail;
use camino::Utf8Path;
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::Status as Arguments;
use crate::connections::Connections;
use crate::disk;
use crate::generation::{Current, Store};
use crate::host::{Boot, Host};
use crate::observe;
use crate::observe::{Detail, Observed, Specification, closer, leases, observe, tuning};
use crate::plan;
use crate::snapshot;
use crate::status::{LinkStatus, State, Status, VmStatus, status};

use super::current::no_such_vm;
use super::doctor::wrapped;
use super::table::Table;
use super::words::{bytes, dash, moment_of, span};
use super::{Exit, block_on, print, programs, state_dir, status_network, width};

pub fn run(arguments: &Arguments, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let store = Store::new(&state_dir::state_dir(given));
    block_on(async {
        let connections = Connections::open().await?;
        let Some(every) = arguments.watch else {
            print(&text(arguments, &store, &connections).await?)?;
            return Ok(Exit::Done);
        };
        let mut ticks = tokio::time::interval(Duration::from_secs(every.into()));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => return Ok(Exit::Done),
                _ = ticks.tick() => {}
            }
            let text = text(arguments, &store, &connections).await?;
            // The cursor to the top, the rest of the screen erased; elsewhere one after the other.
            if std::io::stdout().is_terminal() && !arguments.json {
                super::print_raw(&format!("\x1b[H\x1b[2J{text}"))?;
            } else if arguments.json {
                print(&text)?;
            } else {
                print(&format!("{text}\n"))?;
            }
        }
    })
}

/// What was asked for, as it is now.
async fn text(
    arguments: &Arguments,
    store: &Store,
    connections: &Connections,
) -> anyhow::Result<String> {
    if arguments.network {
        let status = status_network::look(store, connections).await?;
        return shown(arguments, &status, status_network::text);
    }
    let status = look(arguments, store, connections).await?;
    shown(arguments, &status, |status| {
        if arguments.id.is_some() {
            status.vms.iter().map(details).collect()
        } else {
            table(status)
        }
    })
}

/// The status of what was asked for.
async fn look(
    arguments: &Arguments,
    store: &Store,
    connections: &Connections,
) -> anyhow::Result<Status> {
    let Current {
        readable: mut current,
        unreadable,
    } = store.current_if_readable()?;
    let newest = store.newest()?;
    let hypervisor = current
        .as_ref()
        .map(|(_, manifest)| manifest.programs.hypervisor.clone());
    let mut observed = observe(connections, hypervisor.as_deref(), Detail::Status).await?;
    if let Some((_, manifest)) = &mut current {
        observed.tuning = tuning(&manifest.host.tuning)?;
        programs::as_now(&mut manifest.programs, &observed);
        if may_have_kept_disks(&manifest.host, &observed) {
            let made = observe::made(&manifest.host.state_dir)?;
            disk::as_made(&mut manifest.host, &made);
        }
    }
    let none = BTreeMap::new();
    let declared = current
        .as_ref()
        .map_or(&none, |(_, manifest)| &manifest.host.vms);
    let only = arguments.id.as_ref();
    let mut closer = closer(&observed, &connections.netlink, declared, only).await?;
    if let Some((_, manifest)) = &current {
        let host = &manifest.host;
        closer.leases = leases(&connections.bus, host, plan::backend(host, &observed)).await;
    }
    let current = current
        .as_ref()
        .map(|(number, manifest)| (*number, manifest));
    let mut status = status(current, newest, &observed, &closer);
    if let Some(unreadable) = unreadable {
        status = status.of_unreadable(unreadable);
    }
    if let Some(id) = only {
        status.vms.retain(|vm| vm.id == *id);
        if let Some((_, manifest)) = current {
            let kept = snapshot::kept_of(&manifest.host.state_dir, id)?;
            for vm in &mut status.vms {
                vm.snapshots = kept.iter().map(|one| one.name.clone()).collect();
            }
        }
        if let (true, Some(why)) = (status.vms.is_empty(), &status.unreadable) {
            bail!("{id} does not run, and whether it is declared is not known: {why}");
        }
        if status.vms.is_empty() {
            return Err(no_such_vm(id));
        }
    }
    Ok(status)
}

/// Whether a VM may run with disks, or with a kernel, that were made as something else than what is declared now. Where all run
/// as they are declared, no record of a disk is read.
fn may_have_kept_disks(host: &Host, observed: &Observed) -> bool {
    host.vms.iter().any(|(id, vm)| {
        let booted = observed.remains.get(id).map(|one| &one.specification);
        let differs = matches!(booted, Some(Specification::Known(booted)) if booted.vm != *vm);
        matches!(vm.boot, Boot::Inside { .. }) || differs
    })
}

fn shown<T: Serialize>(
    arguments: &Arguments,
    status: &T,
    text: impl FnOnce(&T) -> String,
) -> anyhow::Result<String> {
    Ok(if arguments.json && arguments.watch.is_some() {
        // A line for each look.
        format!("{}\n", serde_json::to_string(&status)?)
    } else if arguments.json {
        format!("{}\n", serde_json::to_string_pretty(&status)?)
    } else {
        text(status)
    })
}

fn table(status: &Status) -> String {
    let mut text = match status.generation {
        Some(number) => format!("generation {number}"),
        None => "no generation yet: `nkudo render`, then `nkudo switch`".to_owned(),
    };
    if let Some(newest) = status.newest {
        let _ = write!(
            text,
            " (the newest is {newest}: `nkudo switch` switches to it)"
        );
    }
    text.push('\n');
    let width = width().map(usize::from);
    let mut line = |line: &str, indent: &str| {
        let lines = wrapped(line, width, "    ").join("\n    ");
        let _ = writeln!(text, "{indent}{lines}");
    };
    if let Some(why) = &status.unreadable {
        line(&format!("what is declared is not known: {why}"), "");
    }
    for tuning in &status.tuning {
        line(&tuning.text, "");
        line(&tuning.remedy, "    ");
    }
    if status.vms.is_empty() {
        return text;
    }
    let mut table = Table::new(["VM", "STATE", "UP", "MEMORY", "CPU", "ADDRESS", "REMARKS"]);
    let now = Timestamp::now().as_microsecond();
    for vm in &status.vms {
        let up = vm.since.filter(|_| is_up(vm.state)).map(|since| {
            let micros = now.saturating_sub_unsigned(since).max(0);
            span(Duration::from_micros(micros.unsigned_abs()))
        });
        let known = vm.nics.iter().flat_map(|nic| &nic.addresses);
        let declared = vm.nics.iter().flat_map(|nic| &nic.declared);
        let address = known.chain(declared).find(|one| !is_link_local(one));
        table.add([
            vm.id.to_string(),
            vm.state.to_string(),
            up.unwrap_or_else(dash),
            vm.memory.map_or_else(dash, bytes),
            vm.cpu
                .map_or_else(dash, |cpu| span(Duration::from_micros(cpu))),
            address.map_or_else(dash, ToString::to_string),
            remarks(vm).join("; "),
        ]);
    }
    text + &table.text()
}

const fn is_up(state: State) -> bool {
    matches!(
        state,
        State::Running | State::Paused | State::Starting | State::Stopping
    )
}

fn is_link_local(address: &std::net::IpAddr) -> bool {
    match address {
        std::net::IpAddr::V4(v4) => v4.is_link_local(),
        std::net::IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn details(vm: &VmStatus) -> String {
    let mut text = format!("{}: {}\n", vm.id, vm.state);
    let width = width().map(usize::from);
    let mut line = |name: &str, value: String| {
        const INDENT: &str = "              ";
        let lines = wrapped(&value, width, INDENT).join(&format!("\n{INDENT}"));
        let _ = writeln!(text, "  {name:<11} {lines}");
    };
    line("unit", vm.unit.clone());
    if let Some(micros) = vm.since {
        line("since", moment_of(micros));
    }
    if let Some(pid) = vm.main_pid {
        line("main PID", pid.to_string());
    }
    if let Some(number) = vm.generation {
        line("generation", number.to_string());
    }
    if vm.restarts > 0 {
        line("restarts", vm.restarts.to_string());
    }
    if let Some(vmm) = &vm.vmm {
        line("VMM", vmm.clone());
    }
    if let Some(guest) = vm.guest {
        line("guest", guest.to_owned());
    }
    if let Some(memory) = vm.memory {
        line("memory", bytes(memory));
    }
    if let Some(cpu) = vm.cpu {
        line("CPU time", span(Duration::from_micros(cpu)));
    }
    for nic in &vm.nics {
        let place = match (&nic.bridge, nic.link) {
            (Some(bridge), LinkStatus::Up) => format!("{} in {bridge}", nic.tap),
            (Some(bridge), _) => format!("{} in {bridge}, down", nic.tap),
            (None, LinkStatus::Missing) if !is_up(vm.state) => nic.tap.clone(),
            (None, LinkStatus::Missing) => format!("{}, which is missing", nic.tap),
            (None, _) => format!("{} in no bridge", nic.tap),
        };
        line("NIC", format!("{} {}: {place}", nic.network, nic.mac));
        for address in &nic.addresses {
            line("address", address.to_string());
        }
        for address in &nic.declared {
            if !nic.addresses.contains(address) {
                line("address", format!("{address}, declared"));
            }
        }
    }
    for disk in &vm.disks {
        let used = match (disk.size, disk.allocated) {
            (Some(size), Some(used)) => format!(", {} of {}", bytes(used), bytes(size)),
            _ => String::new(),
        };
        line("disk", format!("{}: {}{used}", disk.name, disk.path));
    }
    for name in &vm.snapshots {
        line("snapshot", name.to_string());
    }
    for path in &vm.drop_ins {
        line("drop-in", path.clone());
    }
    for pending in &vm.pending {
        let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        let change = format!(
            "{}: {} → {}",
            pending.field,
            or_none(&pending.old),
            or_none(&pending.new)
        );
        line("pending", change);
    }
    for upgrade in &vm.upgrades {
        line("pending", upgrade.text.clone());
    }
    if let Some(exit) = &vm.last_exit {
        let message = exit.message.split_once(" ended: ");
        let message = message.map_or(exit.message.as_str(), |(_, why)| why);
        line(
            "last exit",
            format!("{}: {message} ({})", moment_of(exit.at), exit.why),
        );
    }
    for remark in remarks(vm) {
        line("remark", remark);
    }
    if let Some(known) = &vm.diagnosis {
        line("cause", known.cause.clone());
        line("remedy", known.remedy.clone());
    }
    line("log", format!("nkudo logs {}", vm.id));
    text
}

/// What somebody should know of a VM.
fn remarks(vm: &VmStatus) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(result) = &vm.result {
        remarks.push(format!("failed ({result})"));
    }
    if vm.restarts > 0 {
        remarks.push(match vm.restarts {
            1 => "restarted once".to_owned(),
            often => format!("restarted {often} times"),
        });
    }
    if let Some(why) = &vm.obstacle {
        remarks.push(format!("left out by the last switch: {why}"));
    }
    if let Some(exit) = vm.last_exit.as_ref().filter(|_| !is_up(vm.state)) {
        remarks.push(exit.why.clone());
    }
    if vm.guest.is_some() {
        remarks.push("its guest panicked, and runs on".to_owned());
    }
    // Without a VMM it is the unit's last step that runs.
    if vm.state == State::Stopping && vm.main_pid.is_some() {
        remarks.push(format!(
            "its guest has its `stop-timeout`; `nkudo stop {} --force` does not wait for that",
            vm.id
        ));
    }
    if vm.state == State::Paused {
        remarks.push("`nkudo resume` lets it go on".to_owned());
    }
    if vm.held {
        remarks.push("held: `nkudo start` starts it".to_owned());
    }
    if !vm.declared {
        remarks.push("not declared: the next switch stops it".to_owned());
    }
    let fields = vm.pending.iter().map(|one| one.field.as_str());
    let upgrades = vm.upgrades.iter().map(|one| one.what);
    let pending: Vec<&str> = fields.chain(upgrades).collect();
    if !pending.is_empty() {
        remarks.push(format!("pending until restarted: {}", pending.join(", ")));
    }
    if !vm.drop_ins.is_empty() {
        remarks.push("changed by drop-ins".to_owned());
    }
    remarks
}
