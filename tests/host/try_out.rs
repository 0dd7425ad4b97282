//! `make try`: the example on a throw-away host, for people to look at.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use super::guest::{Guest, Then};
use super::hello::{EXAMPLE, KERNEL, LINE};
use super::machine::{Machine, Networkd};
use super::until::until;
use super::vmm::Vmm;

const GO_ON: &str = "
This is a shell on the throw-away host. What to try:
    nkudo status hello                 what is known of the VM
    journalctl -f -u nkudo-vm@hello    its console and its log
    kill -9 $(systemctl show -P MainPID nkudo-vm@hello)
                                       systemd starts it again, on the same TAP
    nkudo stop hello                   the power button; `nkudo start hello` brings it back
    vi /etc/nkudo/nkudo.toml           then `nkudo render`, `nkudo diff`, `nkudo switch`
`exit` ends the host, and leaves nothing.

";

/// Shows it, step by step; the first step that fails is the last.
pub(crate) fn run() -> ExitCode {
    say(&format!(
        "Booting a throw-away Debian 13. The VMM is {}.\n",
        Vmm::chosen()
    ));
    let machine = Machine::boot(Networkd::On);
    let guest = Guest {
        line: LINE,
        then: Then::PowerOffWhenAsked,
    };
    machine.write(KERNEL, guest.elf(), 0o644);
    machine.write("/etc/nkudo/nkudo.toml", EXAMPLE, 0o644);
    say("/etc/nkudo/nkudo.toml is examples/hello.toml; its kernel is a guest of 4 KiB.\n");
    for command in [
        "nkudo render",
        "nkudo switch",
        "systemctl status --no-pager --lines=0 nkudo-vm@hello",
        "journalctl --quiet --no-pager --output=cat --unit=nkudo-vm@hello",
        "ip -brief address show nk-lan",
        "nkudo status",
    ] {
        say(&format!("\n# {command}\n"));
        let argv: Vec<&str> = command.split(' ').collect();
        let output = if argv[0] == "journalctl" {
            until("the guest has printed its line", || {
                let output = machine.run(&argv);
                let journal = String::from_utf8_lossy(&output.stdout).into_owned();
                if journal.contains(LINE) {
                    Ok(output)
                } else {
                    Err(journal)
                }
            })
        } else {
            machine.run(&argv)
        };
        say(&String::from_utf8_lossy(&output.stderr));
        say(&String::from_utf8_lossy(&output.stdout));
        if !output.status.success() {
            say(&format!("\n`{command}` failed: {}\n", output.status));
            return ExitCode::FAILURE;
        }
    }
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        say(GO_ON);
        machine.enter();
    } else {
        say("\nOn a terminal, this goes on with a shell on the host.\n");
    }
    ExitCode::SUCCESS
}

fn say(text: &str) {
    // Nobody is left to tell when standard output is gone.
    let _ = io::stdout().write_all(text.as_bytes());
    let _ = io::stdout().flush();
}
