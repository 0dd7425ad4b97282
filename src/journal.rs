//! What the journal has of VMs, read by journalctl(1).
//!
//! A VMM that was taken over can write records with any field of its own, but not `_SYSTEMD_UNIT` and
//! the other fields with an underscore, which journald adds (systemd.journal-fields(7)).

use std::collections::BTreeMap;
use std::process::Stdio;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::host::VmId;
use crate::steps::ENDED;
use crate::unit::{readiness_unit_name, vm_unit_name};

/// Why a VM ended last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LastExit {
    /// Microseconds since 1970.
    pub at: u64,
    /// `NKUDO_EXIT`.
    pub why: String,
    /// The same for people.
    pub message: String,
}

/// Records of ends that are looked at: enough for the VMs of a large host that went down at once.
const ENDS: &str = "4000";
/// Characters of a line that are shown: what a guest prints has no end of its own.
const WIDTH: usize = 300;

/// A record of journalctl's JSON. A field that was written several times, or is no UTF-8, is an array.
#[derive(Debug, Deserialize)]
struct Record {
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    at: String,
    #[serde(rename = "_SYSTEMD_UNIT")]
    unit: Option<String>,
    #[serde(rename = "NKUDO_EXIT")]
    why: Option<serde_json::Value>,
    #[serde(rename = "MESSAGE")]
    message: Option<serde_json::Value>,
}

/// Why each VM ended last, where the journal still knows; of one VM, or of all.
pub async fn last_exits(id: Option<&VmId>) -> anyhow::Result<BTreeMap<VmId, LastExit>> {
    let ended = format!("MESSAGE_ID={ENDED}");
    let unit = id.map(own);
    let mut arguments = vec!["-q", "-r", "-o", "json"];
    arguments.push("--output-fields=_SYSTEMD_UNIT,NKUDO_EXIT,MESSAGE");
    arguments.extend(["-n", if unit.is_some() { "1" } else { ENDS }]);
    arguments.push(&ended);
    arguments.extend(unit.as_deref());
    let output = journalctl(&arguments).await?;
    let mut exits = BTreeMap::new();
    // The newest first.
    for (id, exit) in output.lines().filter_map(exit) {
        exits.entry(id).or_insert(exit);
    }
    Ok(exits)
}

fn exit(line: &str) -> Option<(VmId, LastExit)> {
    let record: Record = serde_json::from_str(line).ok()?;
    let id = record
        .unit?
        .strip_prefix("nkudo-vm@")?
        .strip_suffix(".service")?
        .parse()
        .ok()?;
    let exit = LastExit {
        at: record.at.parse().ok()?,
        why: plain(record.why?.as_str()?),
        message: plain(record.message?.as_str()?),
    };
    Some((id, exit))
}

/// The last lines of a VM's unit and its readiness unit: what the VMM and the steps said, and systemd of them.
/// `since`: only those from then on, in microseconds since 1970.
pub async fn last_lines(
    id: &VmId,
    count: usize,
    since: Option<u64>,
) -> anyhow::Result<Vec<String>> {
    let unit = vm_unit_name(id);
    let count = count.to_string();
    // journalctl takes fractions of a second.
    let since =
        since.map(|since| format!("--since=@{}.{:06}", since / 1_000_000, since % 1_000_000));
    let readiness = readiness_unit_name(id);
    let mut arguments = vec!["-q", "-o", "cat", "-n", &count];
    arguments.extend(["-u", &unit, "-u", &readiness]);
    arguments.extend(since.as_deref());
    let output = journalctl(&arguments).await?;
    let lines = output.lines().filter(|line| !line.trim().is_empty());
    Ok(lines.map(plain).collect())
}

/// journalctl's matches for what a VM's guest printed on its serial port.
pub fn console_of(id: &VmId) -> Vec<String> {
    vec![own(id), "_TRANSPORT=stdout".to_owned()]
}

/// journalctl's matches for all else about a VM: the steps of its unit and of its readiness unit, systemd about it,
/// and nkudo's commands.
pub fn about(id: &VmId) -> Vec<String> {
    let groups = [
        vec![own(id), "_TRANSPORT=journal".to_owned()],
        vec!["_PID=1".to_owned(), format!("UNIT={}", vm_unit_name(id))],
        vec!["_UID=0".to_owned(), format!("NKUDO_VM={id}")],
        vec![format!("_SYSTEMD_UNIT={}", readiness_unit_name(id))],
    ];
    groups.join(&OR.to_owned())
}

/// Between groups of matches.
pub const OR: &str = "+";

fn own(id: &VmId) -> String {
    format!("_SYSTEMD_UNIT={}", vm_unit_name(id))
}

/// Waits until journald has written what it was sent.
pub async fn sync() -> anyhow::Result<()> {
    journalctl(&["--sync"]).await.map(|_| ())
}

/// A line of a guest's or a VMM's, made harmless for a terminal.
pub fn plain(line: &str) -> String {
    line.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .take(WIDTH)
        .collect()
}

async fn journalctl(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("journalctl")
        .arg("--no-pager")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .context("cannot run journalctl, which is part of systemd")?;
    // It exits with 1 when nothing matches, and says nothing then.
    if !output.status.success() && !output.stderr.is_empty() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("journalctl failed: {}", why.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_of_the_unit_that_journald_says() {
        let line = r#"{"__REALTIME_TIMESTAMP":"1764000000000000","_SYSTEMD_UNIT":"nkudo-vm@web.service","NKUDO_VM":"db","NKUDO_EXIT":"crashed","MESSAGE":"VM web ended: \u001b[2Ja vCPU failed"}"#;
        let (id, exit) = exit(line).unwrap();
        assert_eq!(id.as_str(), "web");
        assert_eq!(exit.why, "crashed");
        assert!(!exit.message.contains('\x1b'));
    }

    #[test]
    fn a_record_that_is_not_of_a_vm_is_passed_over() {
        for line in [
            "",
            r#"{"__REALTIME_TIMESTAMP":"1","_SYSTEMD_UNIT":"ssh.service","NKUDO_EXIT":"crashed","MESSAGE":"x"}"#,
            r#"{"__REALTIME_TIMESTAMP":"1","NKUDO_EXIT":"crashed","MESSAGE":"x"}"#,
            r#"{"__REALTIME_TIMESTAMP":"1","_SYSTEMD_UNIT":"nkudo-vm@web.service","NKUDO_EXIT":[1,2],"MESSAGE":"x"}"#,
        ] {
            assert_eq!(exit(line), None, "{line}");
        }
    }
}
