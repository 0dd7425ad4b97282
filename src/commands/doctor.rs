//! `nkudo doctor`: whether the host is fit for its VMs.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use anyhow::bail;
use camino::Utf8Path;

use crate::cli::Doctor as Arguments;
use crate::doctor::{Check, HostState, Report, Verdict, checks, gather};
use crate::document::FormatVersion;
use crate::generation::Store;

use super::current::no_such_vm;
use super::{Exit, block_on, print, print_json, state_dir, width};

pub fn run(arguments: &Arguments, given: Option<&Utf8Path>) -> anyhow::Result<Exit> {
    // What cannot be looked at would be taken for what is not there.
    if !rustix::process::geteuid().is_root() {
        bail!("`nkudo doctor` has to be root, to look at everything\nhint: `sudo nkudo doctor`");
    }
    let store = Store::new(&state_dir::state_dir(given));
    let only = arguments.id.as_ref();
    let facts = block_on(async { Ok(gather(&store, only, crate::programs::find).await) })?;
    if let (Some(id), HostState::Known { status, .. }) = (only, &facts.state)
        && !status.vms.iter().any(|vm| vm.id == *id)
    {
        return Err(no_such_vm(id));
    }
    let checks = checks(&facts, only);
    let failed = checks.iter().any(|check| check.verdict == Verdict::Fail);
    if arguments.json {
        let report = Report {
            version: FormatVersion,
            nkudo: env!("CARGO_PKG_VERSION"),
            checks,
        };
        print_json(&report)?;
    } else {
        print(&text(&checks, width().map(usize::from)))?;
    }
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

/// A line for each check, and the remedy below it.
pub(crate) fn text(checks: &[Check], width: Option<usize>) -> String {
    const INDENT: &str = "     ";
    let mut text = String::new();
    for check in checks {
        let (word, colour) = match check.verdict {
            Verdict::Ok => ("ok", AnsiColor::Green),
            Verdict::Warn => ("warn", AnsiColor::Yellow),
            Verdict::Fail => ("fail", AnsiColor::Red),
        };
        let style = Style::new().bold().fg_color(Some(colour.into()));
        let line = format!("{}: {}", check.name, check.what);
        let mut lines = wrapped(&line, width, INDENT).into_iter();
        let first = lines.next().unwrap_or_default();
        let _ = writeln!(text, "{style}{word:<4}{style:#} {first}");
        for line in lines {
            let _ = writeln!(text, "{INDENT}{line}");
        }
        for (index, line) in check
            .remedy
            .iter()
            .flat_map(|remedy| wrapped(remedy, width, "       "))
            .enumerate()
        {
            let _ = writeln!(
                text,
                "{INDENT}{}{line}",
                if index == 0 { "→ " } else { "  " }
            );
        }
    }
    let count = |verdict| {
        checks
            .iter()
            .filter(|check| check.verdict == verdict)
            .count()
    };
    let _ = writeln!(
        text,
        "{} ok, {} to look at, {} wrong",
        count(Verdict::Ok),
        count(Verdict::Warn),
        count(Verdict::Fail)
    );
    text
}

/// The lines of a text on a terminal so wide, all but the first of which are indented.
pub(super) fn wrapped(text: &str, width: Option<usize>, indent: &str) -> Vec<String> {
    let Some(width) = width else {
        return vec![text.to_owned()];
    };
    let options = textwrap::Options::new(width.saturating_sub(indent.len()))
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::wrap(text, options)
        .into_iter()
        .map(std::borrow::Cow::into_owned)
        .collect()
}
