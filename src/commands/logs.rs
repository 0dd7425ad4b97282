//! `nkudo logs`: what the journal has of a VM.

use std::io::{self, IsTerminal as _};
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::cli::Logs as Arguments;
use crate::journal::{OR, about, console_of};

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

fn matches(arguments: &Arguments) -> Vec<String> {
    let Arguments { id, .. } = arguments;
    match (arguments.console, arguments.no_console) {
        (true, _) => console_of(id),
        (false, true) => about(id),
        (false, false) => [about(id), vec![OR.to_owned()], console_of(id)].concat(),
    }
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
