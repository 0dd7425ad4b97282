//! A machine with nkudo on it, as the cases see it: its configuration, its links, its units.
//!
//! What a case claims of the host it asks systemd, the kernel and the files, not nkudo.

use std::fmt;
use std::process::Output;

use serde_json::Value;

use super::guest::{Guest, Then};
use super::machine::{Machine, Networkd};
use super::until::until;
use super::vmm;

/// The network that `vm` puts every VM into.
pub(crate) const LAN: &str = "[network.lan]\naddress = [\"192.168.100.1/24\"]\n";

/// What the journal has when a VM has ended.
pub(crate) const ENDED: &str = "MESSAGE_ID=bbe3a6f334f74964b9a10ac886373388";

pub(crate) struct Host {
    pub(crate) machine: Machine,
}

/// A run of nkudo.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The VM in the configuration, with a NIC; `more` is further keys of its table.
pub(crate) fn vm(id: &str, more: &str) -> String {
    format!(
        "{}\n[[vm.{id}.nic]]\nnetwork = \"lan\"\n",
        vm_alone(id, more)
    )
}

/// The same without a NIC.
pub(crate) fn vm_alone(id: &str, more: &str) -> String {
    let memory = if more.contains("memory = ") {
        ""
    } else {
        "memory = \"64M\"\n"
    };
    format!("\n[vm.{id}]\nkernel = \"/srv/guests/{id}\"\n{memory}{more}\n")
}

/// The unit of a VM.
pub(crate) fn unit(id: &str) -> String {
    format!("nkudo-vm@{id}.service")
}

impl Host {
    pub(crate) fn boot(networkd: Networkd) -> Self {
        Self {
            machine: Machine::boot(networkd),
        }
    }

    /// A host with the VM `web` on a network, whose guest has said hello; `more` is further keys of its table.
    pub(crate) fn with_web(then: Then, more: &str) -> Self {
        Self::switched_to(then, &[LAN, &vm("web", more)].concat())
    }

    /// The same with a configuration that has `web`.
    pub(crate) fn switched_to(then: Then, toml: &str) -> Self {
        let host = Self::boot(Networkd::On);
        host.guest("web", then);
        host.switch_to(toml).done();
        host.printed("web", 1);
        host
    }

    /// Puts the guest that `vm` names where it says; its line is `hello from <id>`.
    pub(crate) fn guest(&self, id: &str, then: Then) {
        let line = format!("hello from {id}");
        let elf = Guest { line: &line, then }.elf();
        self.machine.write(&format!("/srv/guests/{id}"), elf, 0o644);
    }

    pub(crate) fn configure(&self, toml: &str) {
        self.machine.write("/etc/nkudo/nkudo.toml", toml, 0o644);
    }

    pub(crate) fn nkudo(&self, arguments: &[&str]) -> Ran {
        let mut argv = vec!["nkudo"];
        argv.extend(arguments);
        Ran::of(&self.machine.run(&argv))
    }

    /// Renders the configuration and switches to it.
    #[track_caller]
    pub(crate) fn switch_to(&self, toml: &str) -> Ran {
        self.configure(toml);
        self.nkudo(&["render"]).done();
        self.nkudo(&["switch"])
    }

    /// A property of a VM's unit, as systemd has it.
    #[track_caller]
    pub(crate) fn property(&self, id: &str, name: &str) -> String {
        let argv = ["systemctl", "show", "--value", "-p", name, &unit(id)];
        self.machine.ok(&argv).trim_end().to_owned()
    }

    #[track_caller]
    pub(crate) fn main_pid(&self, id: &str) -> u32 {
        self.property(id, "MainPID").parse().unwrap()
    }

    /// Waits until a VM's unit is active, with a main process other than this.
    #[track_caller]
    pub(crate) fn active_again(&self, id: &str, before: u32) -> u32 {
        until(&format!("{id} runs again"), || {
            let state = self.property(id, "ActiveState");
            let pid = self.main_pid(id);
            if state == "active" && pid != before && pid != 0 {
                Ok(pid)
            } else {
                Err(format!("{state}, PID {pid}\n{}", self.journal(id)))
            }
        })
    }

    /// What the journal has of a VM's unit.
    pub(crate) fn journal(&self, id: &str) -> String {
        self.messages(&["-u", &unit(id)])
    }

    /// The messages that journalctl has for these arguments, of all that was sent so far.
    #[track_caller]
    pub(crate) fn messages(&self, arguments: &[&str]) -> String {
        let _ = self.machine.run(&["journalctl", "--sync"]);
        let journalctl = ["journalctl", "-q", "--no-pager", "-o", "cat"];
        self.machine.ok(&[&journalctl, arguments].concat())
    }

    /// systemd's units of these names, whatever their state: a line each.
    #[track_caller]
    pub(crate) fn units(&self, pattern: &str) -> String {
        let list = ["systemctl", "list-units", "--all", "--plain", "--no-legend"];
        self.machine.ok(&[&list[..], &[pattern]].concat())
    }

    /// The first VM of `nkudo status --json`.
    #[track_caller]
    pub(crate) fn status(&self, arguments: &[&str]) -> Value {
        let mut argv = vec!["status", "--json"];
        argv.extend(arguments);
        let status: Value = serde_json::from_str(&self.nkudo(&argv).done().stdout).unwrap();
        status["vms"][0].clone()
    }

    /// Makes the host have heard of a VM's first NIC on its bridge, as if its guest had spoken from that address.
    #[track_caller]
    pub(crate) fn has_heard(&self, id: &str, address: &str) {
        let mac = self.status(&[id])["nics"][0]["mac"]
            .as_str()
            .unwrap()
            .to_owned();
        let neighbour = ["ip", "neigh", "add", address, "lladdr", &mac];
        self.machine
            .ok(&[&neighbour[..], &["dev", "nk-lan"]].concat());
    }

    /// Why a VM ended each time, oldest first: the words that `unit post` puts into the journal.
    pub(crate) fn exits(&self, id: &str) -> Vec<String> {
        let of = format!("NKUDO_VM={id}");
        let journal = self.messages(&["--output-fields=NKUDO_EXIT", ENDED, &of]);
        journal.lines().map(str::to_owned).collect()
    }

    /// Waits until a VM's guest has printed its line that often.
    #[track_caller]
    pub(crate) fn printed(&self, id: &str, times: usize) {
        until(
            &format!("the guest of {id} has printed its line {times} times"),
            || {
                let journal = self.journal(id);
                let line = format!("hello from {id}");
                let lines = journal.lines().filter(|l| l.trim_end() == line).count();
                if lines == times { Ok(()) } else { Err(journal) }
            },
        );
    }

    /// The links by name, with their addresses.
    #[track_caller]
    pub(crate) fn links(&self) -> Vec<Value> {
        serde_json::from_str(&self.machine.ok(&["ip", "-j", "-d", "addr", "show"])).unwrap()
    }

    #[track_caller]
    pub(crate) fn link(&self, name: &str) -> Option<Value> {
        self.links().into_iter().find(|link| link["ifname"] == name)
    }

    /// Checks that a VM's TAP is a port of the bridge, up, and attached to its process.
    #[track_caller]
    pub(crate) fn tap_is_in(&self, id: &str, bridge: &str) -> Value {
        let name = format!("nkt-{id}-0");
        until(&format!("{name} has a carrier in {bridge}"), || {
            let tap = self.link(&name).ok_or("there is none")?;
            let up = tap["flags"]
                .as_array()
                .unwrap()
                .iter()
                .any(|flag| flag == "LOWER_UP");
            if tap["master"] == bridge && up {
                Ok(tap)
            } else {
                Err(tap.to_string())
            }
        })
    }

    /// The manifest of the current generation.
    #[expect(clippy::unused_self, reason = "it is a path in this host")]
    pub(crate) fn current_manifest(&self) -> &'static str {
        "/var/lib/nkudo/current/manifest.json"
    }

    /// Makes a request of a VM's VMM.
    #[track_caller]
    pub(crate) fn ask(&self, id: &str, request: &str) -> (u16, String) {
        let socket = self
            .machine
            .inside(&format!("/run/nkudo/vms/{id}/api.sock"));
        vmm::ask(&socket, request).unwrap_or_else(|err| panic!("{request} to {id}: {err}"))
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.machine.run(&["test", "-e", path]).status.success()
    }

    /// Waits until systemd has nothing of a VM any more, and checks that it left nothing behind.
    /// What nkudo itself keeps until the next switch is not asked for.
    #[track_caller]
    pub(crate) fn is_gone(&self, id: &str) {
        until(&format!("the unit of {id} is gone"), || {
            match self.property(id, "LoadState").as_str() {
                "not-found" => Ok(()),
                other => Err(format!(
                    "{other}, {}, {}\n{}",
                    self.property(id, "ActiveState"),
                    self.property(id, "Result"),
                    self.journal(id)
                )),
            }
        });
        // PID 1 closes descriptors in a process of its own, some milliseconds later.
        until(&format!("the TAP of {id} is gone"), || {
            let tap = self.link(&format!("nkt-{id}-0"));
            tap.map_or(Ok(()), |tap| Err(tap.to_string()))
        });
        assert!(
            !self.exists(&format!("/run/nkudo/vms/{id}")),
            "its runtime directory is there"
        );
    }

    /// Everything of nkudo's that is on the host while any VM is.
    #[track_caller]
    pub(crate) fn traces(&self) -> Vec<String> {
        let units = self.units("nkudo-vm@*");
        let files = self.machine.run(&[
            "find",
            "/run/nkudo/vms",
            "/run/nkudo/root",
            "/run/nkudo/booted",
            "/run/nkudo/held",
            "/run/nkudo/seeds",
            "/run/nkudo/companions",
            "/run/nkudo/pci",
            "/run/nkudo/obstacles",
            "-mindepth",
            "1",
        ]);
        let networkd = self.machine.run(&[
            "find",
            "/run/systemd/network",
            "/run/sysctl.d",
            "/run/tmpfiles.d",
            "-name",
            "*nkudo*",
        ]);
        let transient = self
            .machine
            .run(&["find", "/run/systemd/transient", "-name", "nkudo*"]);
        let files = [files, networkd, transient];
        let files = files
            .iter()
            .map(|found| String::from_utf8_lossy(&found.stdout));
        let mut traces: Vec<String> = units.lines().map(str::to_owned).collect();
        traces.extend(files.flat_map(|found| found.lines().map(str::to_owned).collect::<Vec<_>>()));
        traces.extend(
            self.links()
                .iter()
                .filter_map(|link| link["ifname"].as_str())
                .filter(|name| name.starts_with("nk"))
                .map(str::to_owned),
        );
        traces
    }

    /// Waits until there is nothing of nkudo's on the host.
    #[track_caller]
    pub(crate) fn has_nothing(&self) {
        until("nothing of nkudo's is left", || {
            match self.traces().as_slice() {
                [] => Ok(()),
                traces => Err(traces.join("\n")),
            }
        });
    }

    /// All of the host that nkudo could change, as text: to compare before and after.
    #[track_caller]
    pub(crate) fn snapshot(&self) -> String {
        let links: Vec<String> = self.links().into_iter().map(settled).collect();
        let units = self.machine.ok(&[
            "systemctl",
            "show",
            "-p",
            "Id,LoadState,ActiveState,MainPID,InvocationID",
            "nkudo*",
        ]);
        let list = self.units("nkudo*");
        // Taking the lock leaves its file, and asking a question no more than that.
        let script = "find /etc /srv /var/lib/nkudo /run/nkudo /run/systemd/network \
             /run/systemd/transient -path /run/nkudo/lock -prune -o \
             ! -type d -printf '%p %y %m %U:%G %s %T@ %l\\n' -o \
             -mindepth 1 -printf '%p %y %m %U:%G\\n' 2>/dev/null | sort";
        let files = self.machine.ok(&["sh", "-c", script]);
        format!("{}\n{units}\n{list}\n{files}", links.join("\n"))
    }

    /// Waits until no nkudo runs: its steps end by themselves soon after a VM came or went.
    #[track_caller]
    pub(crate) fn no_nkudo_runs(&self) {
        until("no nkudo runs", || {
            let running = self.machine.run(&["pgrep", "-a", "-x", "nkudo"]);
            if running.stdout.is_empty() {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&running.stdout).into_owned())
            }
        });
    }
}

/// A link without what changes by itself: timers, and addresses that are still being tried.
fn settled(mut link: Value) -> String {
    if let Some(data) = link
        .pointer_mut("/linkinfo/info_data")
        .and_then(Value::as_object_mut)
    {
        data.retain(|key, _| !key.ends_with("_timer"));
    }
    if let Some(data) = link
        .pointer_mut("/linkinfo/info_slave_data")
        .and_then(Value::as_object_mut)
    {
        data.retain(|key, _| !key.ends_with("_timer"));
    }
    for address in link["addr_info"].as_array_mut().into_iter().flatten() {
        if let Some(address) = address.as_object_mut() {
            // `remove` would put the last key in its place.
            address.retain(|key, _| key != "tentative");
        }
    }
    link.to_string()
}

/// Checks that two snapshots are the same.
#[track_caller]
pub(crate) fn same(before: &str, after: &str, told: &dyn fmt::Display) {
    let diff = similar::TextDiff::from_lines(before, after);
    let changes = diff.unified_diff().context_radius(0).to_string();
    assert!(changes.is_empty(), "the host changed: {told}\n{changes}");
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Checks the exit code.
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    #[track_caller]
    pub(crate) fn done(self) -> Self {
        self.ended(0)
    }

    /// Checks that standard error has this in one of its lines.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no {text:?} in\n{self}");
        self
    }

    #[track_caller]
    pub(crate) fn does_not_say(self, text: &str) -> Self {
        assert!(!self.stderr.contains(text), "{text:?} is in\n{self}");
        self
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "exit code {code:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
    }
}
