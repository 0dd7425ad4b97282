//! `nkudo console`: several terminals on one serial port.

use super::guest::Then;
use super::host::{Host, vm_alone};
use super::machine::Networkd;
use super::until::until;

cases![consoles_attach_to_a_guest_leave_it_and_see_what_was_before];

/// A console on a terminal in the machine: what is typed comes from a pipe, what is shown goes to a file.
struct Console<'a> {
    host: &'a Host,
    name: &'a str,
}

impl<'a> Console<'a> {
    fn attach(host: &'a Host, name: &'a str) -> Self {
        let start = format!(
            "mkfifo /root/{name}.in; \
             systemd-run -q --unit={name} sh -c 'exec 3<>/root/{name}.in; \
             exec script -qfec \"nkudo console web\" /root/{name}.out <&3 >/dev/null 2>&1'"
        );
        host.machine.ok(&["sh", "-c", &start]);
        Self { host, name }
    }

    fn types(&self, text: &str) {
        let path = format!("/root/{}.in", self.name);
        self.host
            .machine
            .ok(&["sh", "-c", &format!("printf '{text}' > {path}")]);
    }

    #[track_caller]
    fn sees(&self, text: &str) {
        let path = format!("/root/{}.out", self.name);
        until(&format!("{} sees {text:?}", self.name), || {
            let seen = self.host.machine.run(&["cat", &path]);
            let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
            if seen.contains(text) {
                Ok(())
            } else {
                Err(seen)
            }
        });
    }

    #[track_caller]
    fn leaves(&self) {
        self.types("\\035");
        let unit = format!("{}.service", self.name);
        until("the console has ended", || {
            let state = self.host.machine.run(&["systemctl", "is-active", &unit]);
            if state.status.success() {
                Err("it is there".to_owned())
            } else {
                Ok(())
            }
        });
    }
}

fn consoles_attach_to_a_guest_leave_it_and_see_what_was_before() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::Echo);
    host.guest("db", Then::PowerOffWhenAsked);
    let more = "serial = \"socket\"\nstop-timeout = \"1s\"";
    host.switch_to(&[vm_alone("web", more), vm_alone("db", "")].concat())
        .done();
    host.nkudo(&["console", "db"])
        .ended(1)
        .says("goes to the journal");
    // What was printed while nobody was there, and what is typed.
    let first = Console::attach(&host, "first");
    first.sees("hello from web");
    first.types("abc");
    first.sees("abc");
    // Another one, with what was before it came.
    let second = Console::attach(&host, "second");
    second.sees("hello from web");
    second.sees("abc");
    second.types("def");
    first.sees("def");
    second.sees("def");
    // The first one leaves, and the other stays.
    first.leaves();
    until("the second is the hub", || {
        second.types("g");
        // A guest that looks for a byte without waiting for its interrupt finds a zero once a client has
        // left cloud-hypervisor's socket.
        let seen = host
            .machine
            .ok(&["cat", "/root/second.out"])
            .replace('\0', "");
        if seen.contains("defg") {
            Ok(())
        } else {
            Err(seen)
        }
    });
    second.leaves();
    host.no_nkudo_runs();
    // After all have gone: what they saw, and the guest runs on.
    let third = Console::attach(&host, "third");
    third.sees("def");
    third.types("xyz");
    third.sees("xyz");
    host.nkudo(&["stop", "web"]).done();
    third.sees("ended");
    host.nkudo(&["console", "web"])
        .ended(1)
        .says("VM web does not run");
}
