//! `nkudo status`: the state of VMs.

use std::fmt::Write as _;

use anyhow::bail;
use camino::Utf8Path;
use comfy_table::{ContentArrangement, Table, presets};
use jiff::Timestamp;

use crate::cli::Status as Arguments;
use crate::connections::Connections;
use crate::generation::Store;
use crate::observe::{Detail, observe};
use crate::status::{Status, VmStatus, status};

use super::{Exit, block_on, print, state_dir};

pub fn run(arguments: &Arguments, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    let store = Store::new(&state_dir::state_dir(given));
    let current = match store.current()? {
        Some(number) => Some((number, store.manifest(number)?)),
        None => None,
    };
    let newest = store.newest()?;
    let observed = block_on(async {
        let connections = Connections::open().await?;
        let observed = observe(
            &connections.bus,
            &connections.manager,
            &connections.netlink,
            None,
            Detail::Status,
        );
        Ok(observed.await?)
    })?;
    let current = current
        .as_ref()
        .map(|(number, manifest)| (*number, manifest));
    let mut status = status(current, newest, &observed);
    if let Some(id) = &arguments.id {
        status.vms.retain(|vm| vm.id == *id);
        if status.vms.is_empty() {
            bail!("there is no VM {id}\nhint: `nkudo status` lists the VMs");
        }
    }
    if arguments.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&status)?))?;
    } else if arguments.id.is_some() {
        print(&status.vms.iter().map(details).collect::<String>())?;
    } else {
        print(&table(&status))?;
    }
    Ok(Exit::Done)
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
    if status.vms.is_empty() {
        return text;
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(["VM", "STATE", "SINCE", "PID", "GENERATION", "REMARKS"]);
    for vm in &status.vms {
        table.add_row([
            vm.id.to_string(),
            vm.state.to_string(),
            vm.since.map_or_else(dash, since),
            vm.main_pid.map_or_else(dash, |pid| pid.to_string()),
            vm.generation.map_or_else(dash, |number| number.to_string()),
            remarks(vm).join("; "),
        ]);
    }
    text + &super::lines(&table)
}

fn details(vm: &VmStatus) -> String {
    let mut text = format!("{}: {}\n", vm.id, vm.state);
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<11} {value}");
    };
    line("unit", vm.unit.clone());
    if let Some(micros) = vm.since {
        line("since", since(micros));
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
    for remark in remarks(vm) {
        line("remark", remark);
    }
    line("log", format!("journalctl -u {}", vm.unit));
    text
}

/// What somebody should know of a VM.
fn remarks(vm: &VmStatus) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(result) = &vm.result {
        remarks.push(format!("failed ({result})"));
    }
    if vm.restarts > 0 {
        remarks.push(format!("restarted {} times", vm.restarts));
    }
    if vm.held {
        remarks.push("held: `nkudo start` starts it".to_owned());
    }
    if !vm.declared {
        remarks.push("not declared: the next switch stops it".to_owned());
    }
    if !vm.pending.is_empty() {
        let fields: Vec<&str> = vm.pending.iter().map(|one| one.field.as_str()).collect();
        remarks.push(format!("pending until restarted: {}", fields.join(", ")));
    }
    if !vm.drop_ins.is_empty() {
        remarks.push("changed by drop-ins".to_owned());
    }
    remarks
}

fn since(micros: u64) -> String {
    let time = i64::try_from(micros)
        .ok()
        .and_then(|micros| Timestamp::from_microsecond(micros).ok());
    time.map_or_else(dash, |time| {
        time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
    })
}

fn dash() -> String {
    "-".to_owned()
}
