//! `ExecStopPost=`: says why the VM ended.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

use super::stop::TIMED_OUT;
use super::verdict::{Ending, Kind, Stop, Vcpus, VmmExit};
use super::{StepExit, runtime_directory, stop_marker, was_not_ready};
use crate::apply;
use crate::files;
use crate::host::VmId;
use crate::hypervisor::events::Events;
use crate::observe::HeldBy;

/// The VMM's log and its events, in the unit's own /tmp.
const LOG: &str = "/tmp/cloud-hypervisor.log";
const EVENTS: &str = "/tmp/cloud-hypervisor.events";
/// How much of its end is read, and how many lines of that are shown.
const TAIL: u64 = 16 << 10;
const LINES: usize = 20;
/// What the log says when a vCPU failed.
const VCPU_FAILED: &str = "VCPU generated error";

/// `MESSAGE_ID` of the record that says why a VM ended (sd_journal_print(3)).
pub const ENDED: &str = "bbe3a6f334f74964b9a10ac886373388";

pub(super) fn post(id: &VmId) -> anyhow::Result<StepExit> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let log = tail(LOG)?;
    let status = variable("EXIT_STATUS");
    let ending = Ending {
        service_result: variable("SERVICE_RESULT"),
        vmm: match variable("EXIT_CODE").as_str() {
            "exited" => VmmExit::Exited(status),
            "killed" => VmmExit::Killed(status),
            "dumped" => VmmExit::Dumped(status),
            _ => VmmExit::None,
        },
        stop: match files::read(&stop_marker(&runtime_directory(id)))?.as_deref() {
            _ if was_not_ready(id)? => Stop::NotReady,
            // `nkudo stop --force` may kill the step that asks before that has begun.
            None if apply::held_by(id)? == Some(HeldBy::Nkudo) => Stop::Asked,
            None => Stop::NotAsked,
            Some(TIMED_OUT) => Stop::TimedOut,
            Some(_) => Stop::Asked,
        },
        vcpus: if log.contains(VCPU_FAILED) {
            Vcpus::Failed
        } else {
            Vcpus::Fine
        },
        events: Events::read(&tail(EVENTS)?),
    };
    let (verdict, kind) = (ending.verdict(), ending.kind());
    let word = verdict.word();
    // With the VM's name: the journal finds out by itself whose record it is only if this process is
    // there still when it looks.
    match kind {
        Kind::Clean => {
            tracing::info!(
                nkudo_vm = %id,
                nkudo_exit = word,
                message_id = ENDED,
                "VM {id} ended: {verdict}"
            );
        }
        Kind::Failure | Kind::HiddenFailure => {
            if !log.is_empty() {
                tracing::warn!("the VMM's log ends with:\n{}", harmless(&log));
            }
            tracing::error!(
                nkudo_vm = %id,
                nkudo_exit = word,
                message_id = ENDED,
                "VM {id} ended: {verdict}"
            );
        }
    }
    Ok(match kind {
        Kind::HiddenFailure => StepExit::Failed,
        Kind::Clean | Kind::Failure => StepExit::Done,
    })
}

/// The end of a file; nothing where there is none.
fn tail(path: &str) -> io::Result<String> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(err) => return Err(err),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last lines, with nothing in them that means something to a terminal: a guest can make its
/// VMM log what it likes.
fn harmless(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LINES)..];
    let clean = |line: &&str| {
        line.chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect::<String>()
    };
    shown.iter().map(clean).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_made_its_vmm_log_is_harmless_and_short() {
        let log = (0..50)
            .map(|n| format!("line {n}\x1b[2J"))
            .collect::<Vec<_>>()
            .join("\n");
        let shown = harmless(&log);
        assert_eq!(shown.lines().count(), LINES);
        assert!(shown.ends_with("line 49\u{fffd}[2J"));
        assert!(!shown.contains('\x1b'));
    }

    #[test]
    fn only_the_end_of_a_long_log_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a".repeat(40 << 10) + "end").unwrap();
        let text = tail(file.path().to_str().unwrap()).unwrap();
        assert_eq!(text.len() as u64, TAIL);
        assert!(text.ends_with("end"));
        assert_eq!(tail("/nonexistent/log").unwrap(), "");
    }
}
