//! `nkudo logs`: what the journal has of a VM.

use std::io::{self, IsTerminal as _};
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::cli::Logs as Arguments;
use crate::host::VmId;
use crate::unit::{readiness_unit_name, vm_unit_name};

use super::{Exit, aside};

pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let to_terminal = io::stdout().is_terminal();
    let mut command = Command::new("journalctl");
    command.args(options(arguments)).args(matches(arguments));
    command.stdin(Stdio::null());
    if to_terminal {
        // What a guest prints must not speak to the terminal.
        command.stdout(Stdio::piped());
    }
    let mut child = command
        .spawn()
        .context("cannot run journalctl, which is part of systemd")?;
    if let Some(mut lines) = child.stdout.take() {
        let mut harmless = anstream::StripStream::new(io::stdout().lock());
        match io::copy(&mut lines, &mut harmless) {
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe => {}
            other => drop(other.context("cannot write to standard output")?),
        }
    }
    let ended = child.wait().context("cannot wait for journalctl")?;
    Ok(match ended.code() {
        // Nothing matches, which is no failure: a VM may not have said anything yet.
        Some(1) => {
            let id = &arguments.id;
            aside(&format!(
                "the journal has nothing of VM {id} that was asked for; `nkudo status` lists the VMs"
            ));
            Exit::Done
        }
        Some(0) | None => Exit::Done,
        Some(_) => Exit::Failed,
    })
}

fn options(arguments: &Arguments) -> Vec<String> {
    let mut options = vec!["--no-pager".to_owned(), "--quiet".to_owned()];
    // The console as the guest printed it; the rest with time and whom it is of.
    options.push(
        if arguments.console {
            "--output=cat"
        } else {
            "--output=short-iso"
        }
        .to_owned(),
    );
    if arguments.follow {
        options.push("--follow".to_owned());
    }
    if let Some(since) = &arguments.since {
        options.push(format!("--since={}", relative(since)));
    }
    if let Some(lines) = arguments.lines {
        options.push(format!("--lines={lines}"));
    } else if arguments.follow {
        options.push("--lines=all".to_owned());
    }
    options
}

/// A span alone means so long ago; journalctl wants a minus before it.
fn relative(since: &str) -> String {
    match since.parse::<crate::host::TimeSpan>() {
        Ok(_) => format!("-{since}"),
        Err(_) => since.to_owned(),
    }
}

/// journalctl's matches, by fields that only journald writes: a VMM that was taken over cannot put words
/// into another VM's log.
fn matches(arguments: &Arguments) -> Vec<String> {
    let unit = vm_unit_name(&arguments.id);
    let own = format!("_SYSTEMD_UNIT={unit}");
    let console = "_TRANSPORT=stdout".to_owned();
    if arguments.console {
        return vec![own, console];
    }
    let mut groups = vec![
        // The steps of its unit, systemd about it, and nkudo's commands.
        vec![own.clone(), "_TRANSPORT=journal".to_owned()],
        vec!["_PID=1".to_owned(), format!("UNIT={unit}")],
        vec!["_UID=0".to_owned(), field(&arguments.id)],
        vec![format!(
            "_SYSTEMD_UNIT={}",
            readiness_unit_name(&arguments.id)
        )],
    ];
    if !arguments.no_console {
        groups.push(vec![own, console]);
    }
    groups.join(&"+".to_owned())
}

fn field(id: &VmId) -> String {
    format!("NKUDO_VM={id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(console: bool, no_console: bool) -> Arguments {
        Arguments {
            id: "web".parse().unwrap(),
            follow: false,
            console,
            no_console,
            since: Some("10min".to_owned()),
            lines: None,
        }
    }

    #[test]
    fn the_console_and_the_rest_are_told_apart() {
        let of = |console, no_console| matches(&arguments(console, no_console)).join(" ");
        let unit = "_SYSTEMD_UNIT=nkudo-vm@web.service";
        assert_eq!(of(true, false), format!("{unit} _TRANSPORT=stdout"));
        let rest = format!(
            "{unit} _TRANSPORT=journal + _PID=1 UNIT=nkudo-vm@web.service + _UID=0 NKUDO_VM=web + \
             _SYSTEMD_UNIT=nkudo-ready@web.service"
        );
        assert_eq!(of(false, true), rest);
        assert_eq!(
            of(false, false),
            format!("{rest} + {unit} _TRANSPORT=stdout")
        );
    }

    #[test]
    fn a_span_is_so_long_ago() {
        assert!(options(&arguments(false, false)).contains(&"--since=-10min".to_owned()));
        assert_eq!(relative("yesterday"), "yesterday");
        assert_eq!(relative("2026-01-31 12:00"), "2026-01-31 12:00");
    }
}
