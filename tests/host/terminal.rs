//! What people see in a terminal, and what a pipe gets.

use super::guest::Then;
use super::host::{Host, LAN, vm};
use super::machine::Networkd;

cases![
    tables_fit_the_terminal,
    a_terminal_that_has_no_size_is_taken_for_one_of_80_columns,
    nobody_gets_colour_who_does_not_want_it,
    a_guests_words_do_not_speak_to_the_terminal,
];

const LONG: &str = "a-vm-with-a-long-name-for-a-table";

fn host() -> Host {
    let host = Host::boot(Networkd::Off);
    host.guest("web", Then::PowerOffWhenAsked);
    host.guest(LONG, Then::PowerOff);
    let vms = [LAN, &vm("web", ""), &vm(LONG, "")];
    host.switch_to(&vms.concat()).done();
    host.nkudo(&["stop", "web"]).done();
    host
}

/// Runs a command of the shell on a terminal of its own.
fn on_terminal(host: &Host, columns: u16, command: &str) -> String {
    let script = format!("stty cols {columns} rows 24; {command}");
    let text = host.machine.ok(&["script", "-qec", &script, "/dev/null"]);
    text.replace('\r', "")
}

fn tables_fit_the_terminal() {
    let host = host();
    for command in [
        "nkudo status",
        "nkudo status a-vm-with-a-long-name-for-a-table",
        "nkudo status --network",
        "nkudo generations",
        "nkudo image list",
        "nkudo disk list",
        "nkudo doctor || true",
    ] {
        for columns in [80, 60] {
            let text = on_terminal(&host, columns, command);
            for line in text.lines() {
                let width = line.chars().count();
                assert!(
                    width <= usize::from(columns),
                    "{command}: {width} of {columns} columns: {line}"
                );
            }
        }
    }
}

/// A serial console has none.
fn a_terminal_that_has_no_size_is_taken_for_one_of_80_columns() {
    let host = host();
    let sizeless = on_terminal(&host, 0, "nkudo status --network");
    assert!(sizeless.contains("ETHERNET"), "{sizeless}");
    let at_80 = on_terminal(&host, 80, "nkudo status --network");
    // The networks go on counting.
    let layout = |text: &str| -> Vec<Vec<String>> {
        let counts = |word: &str| word.trim_matches(|c: char| c.is_ascii_digit()).to_owned();
        let lines = text.lines();
        lines
            .map(|line| line.split_whitespace().map(counts).collect())
            .collect()
    };
    assert_eq!(layout(&sizeless), layout(&at_80), "{sizeless}{at_80}");
}

fn nobody_gets_colour_who_does_not_want_it() {
    let host = host();
    for arguments in [
        ["status"].as_slice(),
        &["status", "--network"],
        &["generations"],
    ] {
        let piped = host.nkudo(arguments).done();
        assert!(
            !piped.stdout.contains('\x1b') && !piped.stderr.contains('\x1b'),
            "{piped}"
        );
        // Nor are lines folded there.
        assert!(piped.stdout.contains(LONG), "{piped}");
    }
    let quiet = on_terminal(
        &host,
        80,
        "export NO_COLOR=1; nkudo status; nkudo doctor; nkudo start nonexistent; true",
    );
    assert!(quiet.contains("ok"), "{quiet}");
    assert!(!quiet.contains('\x1b'), "{quiet:?}");
}

fn a_guests_words_do_not_speak_to_the_terminal() {
    let host = host();
    let logs = on_terminal(&host, 80, "nkudo logs web");
    assert!(
        !logs.contains('\x1b') && logs.contains("hello from web"),
        "{logs:?}"
    );
}
