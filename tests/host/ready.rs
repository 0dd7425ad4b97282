//! When a VM's start is done: what its guest says over vsock, and what takes connections.
//!
//! The guests of the tests have no drivers, so somebody else says it for them, in the VMM's sandbox and as
//! the VM's user: all that the VMM itself does there is to connect.

use std::process::Child;

use serde_json::Value;

use super::guest::Then;
use super::host::{Host, LAN, Ran, unit, vm, vm_alone};
use super::machine::Networkd;
use super::peer::Peer;
use super::until::until;
use super::vmm::Vmm;

cases![
    a_vm_is_started_when_its_guest_says_that_it_is_ready,
    what_a_guest_writes_besides_does_not_matter,
    a_guest_that_boots_again_is_not_left_waiting,
    a_guest_that_is_not_ready_in_time_runs_on,
    a_guest_that_is_not_ready_in_time_fails_where_it_is_to,
    a_guest_that_is_not_ready_yet_is_stopped_by_its_power_button,
    a_vm_that_fails_before_it_is_ready_is_not_waited_for,
    a_vm_is_started_when_its_port_takes_connections,
    a_port_that_stays_closed_fails_where_it_is_to,
];

const READINESS: &str = "nkudo-ready@web.service";

/// Connects as the VMM does, writes, and prints how that went.
const SAY: &str = "
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(10)
try:
    s.connect('/run/nkudo/vms/web/vsock.sock_9999')
except OSError as err:
    print(type(err).__name__)
else:
    try:
        s.sendall(sys.argv[1].encode().decode('unicode_escape').encode() * int(sys.argv[2]))
        print('hung up' if s.recv(1) == b'' else 'answered')
    except (ConnectionResetError, BrokenPipeError):
        print('hung up')
";

fn says_times(host: &Host, text: &str, times: usize) -> String {
    let pid = host.main_pid("web");
    let owner = ["stat", "-c", "%u", "/run/nkudo/vms/web"];
    let user = host.machine.ok(&owner).trim().to_owned();
    let argv = [
        "nsenter",
        &format!("--target={pid}"),
        "--mount",
        &format!("--root=/proc/{pid}/root"),
        &format!("--setuid={user}"),
        &format!("--setgid={user}"),
        "python3",
        "-c",
        SAY,
        text,
        &times.to_string(),
    ];
    host.machine.ok(&argv).trim().to_owned()
}

fn says(host: &Host, text: &str) -> String {
    says_times(host, text, 1)
}

/// A command of nkudo's that goes on while the case does.
fn begin(host: &Host, command: &[&str]) -> Child {
    host.machine.spawn(&[&["nkudo"], command].concat())
}

#[track_caller]
fn ended(child: Child) -> Ran {
    Ran::of(&child.wait_with_output().unwrap())
}

/// Renders a host whose VM waits for something, and begins to switch to it.
fn begin_switch(host: &Host, toml: &str) -> Child {
    host.configure(toml);
    host.nkudo(&["render"]).done();
    let child = begin(host, &["switch"]);
    is_starting(host);
    child
}

/// Waits until the VMM runs, and its VM is not ready.
#[track_caller]
fn is_starting(host: &Host) {
    until("web runs and is not ready", || {
        let state = host.property("web", "ActiveState");
        let readiness = property(host, READINESS, "ActiveState");
        if state == "active" && readiness == "activating" {
            Ok(())
        } else {
            Err(format!("{state}, {readiness}\n{}", host.journal("web")))
        }
    });
    assert_eq!(status(host)["state"], "starting");
}

fn status(host: &Host) -> Value {
    let ran = host.nkudo(&["status", "--json"]);
    let status: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran}"));
    let vms = status["vms"].as_array().unwrap();
    vms.iter().find(|vm| vm["id"] == "web").unwrap().clone()
}

fn property(host: &Host, unit: &str, name: &str) -> String {
    let argv = ["systemctl", "show", "--value", "-p", name, unit];
    host.machine.ok(&argv).trim_end().to_owned()
}

#[track_caller]
fn readiness_is_gone(host: &Host) {
    until("the readiness unit is gone", || {
        match property(host, READINESS, "LoadState").as_str() {
            "not-found" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
}

/// What the journal has of the VM and what belongs to it.
fn journal(host: &Host) -> String {
    host.messages(&["NKUDO_VM=web"])
}

fn booted(then: Then) -> Host {
    let host = Host::boot(Networkd::On);
    host.guest("web", then);
    host
}

fn a_vm_is_started_when_its_guest_says_that_it_is_ready() {
    let host = booted(Then::PowerOffWhenAsked);
    host.guest("db", Then::PowerOffWhenAsked);
    let config = [
        vm_alone("web", "ready = \"guest\"\n"),
        vm_alone("db", "after = [\"web\"]\n"),
    ]
    .concat();
    let switch = begin_switch(&host, &config);
    assert_eq!(host.property("db", "LoadState"), "not-found");
    // A second switch would wait for it.
    let plan = host.nkudo(&["diff"]);
    assert!(plan.stdout.contains("VM web: wait"), "{plan}");
    assert_eq!(says(&host, "STATUS=Starting things"), "hung up");
    is_starting(&host);
    assert_eq!(says(&host, "READY=1\\nSTATUS=Startup finished"), "hung up");
    ended(switch).done();
    assert_eq!(host.property("db", "ActiveState"), "active");
    assert_eq!(status(&host)["state"], "running");
    host.nkudo(&["switch"]).done().says("nothing to do");
    // It is done, and nothing of nkudo's is left running.
    assert_eq!(property(&host, READINESS, "SubState"), "exited");
    let analyze = ["systemd-analyze", "security", "--no-pager", READINESS];
    let report = host.machine.ok(&analyze);
    assert!(report.contains("SAFE"), "{report}");
    host.no_nkudo_runs();
    if let Vmm::Real(_) = Vmm::chosen() {
        let (_, info) = host.ask("web", "GET vm.info");
        let credential = "\"io.systemd.credential:vmm.notify_socket=vsock-stream:2:9999\"";
        assert!(info.contains(credential), "{info}");
    }
    // The VM's user alone gets to the socket.
    assert_eq!(
        host.machine
            .ok(&["stat", "-c", "%a", "/run/nkudo/companions"]),
        "700\n"
    );
    host.nkudo(&["stop", "web"]).done();
    host.is_gone("web");
    readiness_is_gone(&host);
    host.switch_to("").done();
    host.has_nothing();
}

fn what_a_guest_writes_besides_does_not_matter() {
    let host = booted(Then::PowerOffWhenAsked);
    let switch = begin_switch(&host, &vm_alone("web", "ready = \"guest\"\n"));
    let pid = host.main_pid("web");
    for (text, times) in [
        ("READY=0\\nMAINPID=1\\nSTOPPING=1\\nERRNO=1\\n", 1),
        ("X_SYSTEMD_SHUTDOWN=poweroff\\n", 1),
        ("STATUS=\\x1b[2Jhello\\n", 1),
        ("A=", 200_000),
        ("", 1),
    ] {
        assert_eq!(says_times(&host, text, times), "hung up", "{text}");
    }
    is_starting(&host);
    assert_eq!(says(&host, "READY=1\\n"), "hung up");
    ended(switch).done();
    assert_eq!(host.main_pid("web"), pid);
    assert!(!journal(&host).contains('\x1b'));
}

fn a_guest_that_boots_again_is_not_left_waiting() {
    let host = booted(Then::PowerOffWhenAsked);
    let switch = begin_switch(&host, &vm_alone("web", "ready = \"guest\"\n"));
    // A crash before it was ready: what the guest says when it has booted again counts.
    let pid = host.main_pid("web");
    host.machine.ok(&["kill", "-KILL", &pid.to_string()]);
    let pid = host.active_again("web", pid);
    is_starting(&host);
    assert_eq!(says(&host, "READY=1"), "hung up");
    ended(switch).done();
    // After a reset of its own it says so again, and is refused at once.
    assert_eq!(says(&host, "READY=1"), "ConnectionRefusedError");
    // So is one of which systemd started the VMM again, by a crash or by hand.
    host.machine.ok(&["kill", "-KILL", &pid.to_string()]);
    host.active_again("web", pid);
    assert_eq!(says(&host, "READY=1"), "ConnectionRefusedError");
    host.machine.ok(&["systemctl", "restart", &unit("web")]);
    assert_eq!(says(&host, "READY=1"), "ConnectionRefusedError");
    assert_eq!(status(&host)["state"], "running");
    host.nkudo(&["switch"]).done().says("nothing to do");
    // A restart by nkudo waits for it.
    let restart = begin(&host, &["restart", "web"]);
    is_starting(&host);
    assert_eq!(says(&host, "READY=1"), "hung up");
    ended(restart).done();
    // One that powers off before it is ready is no failure of its start.
    let restart = begin(&host, &["restart", "web"]);
    is_starting(&host);
    assert_eq!(host.ask("web", "PUT vm.power-button").0, 204);
    ended(restart).done();
    host.is_gone("web");
    readiness_is_gone(&host);
}

fn a_guest_that_is_not_ready_in_time_runs_on() {
    let host = booted(Then::PowerOffWhenAsked);
    let late = "ready = \"guest\"\nstart-timeout = \"3s\"\n";
    let switch = begin_switch(&host, &vm_alone("web", late));
    says(&host, "STATUS=Waiting for the disk");
    // Whoever starts it hears of it, though it is no failure.
    ended(switch)
        .done()
        .says("VM web runs on, though its guest has not said that it is ready within 3s");
    assert_eq!(status(&host)["state"], "running");
    let said = journal(&host);
    assert!(
        said.contains(
            "after 3s the guest of VM web has not said that it is ready; it said last: Waiting for the disk; it \
             goes on nevertheless"
        ),
        "{said}"
    );
    // It says so all the same, and is not left waiting.
    assert_eq!(says(&host, "READY=1"), "ConnectionRefusedError");
    host.nkudo(&["switch"]).done().says("nothing to do");
}

fn a_guest_that_is_not_ready_in_time_fails_where_it_is_to() {
    let host = booted(Then::PowerOffWhenAsked);
    host.guest("db", Then::PowerOffWhenAsked);
    let late = "ready = { when = \"guest\", on-timeout = \"fail\" }\nstart-timeout = \"1s\"\n";
    let config = [vm_alone("web", late), vm_alone("db", "after = [\"web\"]\n")].concat();
    host.switch_to(&config)
        .ended(4)
        .says("its guest has not said that it is ready within 1s, and `ready` says to fail then");
    has_failed(&host);
    // Others are not held up by it.
    assert_eq!(host.property("db", "ActiveState"), "active");
    // The next switch tries again.
    let switch = begin(&host, &["switch"]);
    is_starting(&host);
    assert_eq!(says(&host, "READY=1"), "hung up");
    ended(switch).done();
    assert_eq!(status(&host)["state"], "running");
    host.switch_to("").done();
    host.has_nothing();
}

/// The VM has failed since it was not ready, and everybody is told so.
#[track_caller]
fn has_failed(host: &Host) {
    assert_eq!(host.property("web", "ActiveState"), "failed");
    let status = status(host);
    assert_eq!(status["state"], "failed");
    assert_eq!(status["held"], false);
    assert_eq!(status["last-exit"]["why"], "not-ready");
    // By its power button.
    let said = host.journal("web");
    assert!(said.contains("the guest powered off"), "{said}");
    assert!(
        said.contains("its guest was not ready within `start-timeout`"),
        "{said}"
    );
}

fn a_guest_that_is_not_ready_yet_is_stopped_by_its_power_button() {
    let host = booted(Then::PowerOffWhenAsked);
    let fails = "ready = { when = \"guest\", on-timeout = \"fail\" }\n";
    let switch = begin_switch(&host, &vm_alone("web", fails));
    host.machine.ok(&["systemctl", "stop", &unit("web")]);
    host.is_gone("web");
    readiness_is_gone(&host);
    let said = host.journal("web");
    assert!(said.contains("after the power button"), "{said}");
    assert!(said.contains("VM web ended: it was stopped"), "{said}");
    let _ = ended(switch).done();
    host.nkudo(&["switch"]).done().says("nothing to do");
}

fn a_vm_that_fails_before_it_is_ready_is_not_waited_for() {
    let host = booted(Then::PowerOffWhenAsked);
    let config = vm_alone("web", "ready = \"guest\"\nrestart = \"no\"\n");
    let switch = begin_switch(&host, &config);
    let pid = host.main_pid("web");
    host.machine.ok(&["kill", "-KILL", &pid.to_string()]);
    ended(switch)
        .ended(4)
        .says("it failed before it was ready")
        .says("the VMM was killed by SIGKILL");
    assert_ne!(property(&host, READINESS, "ActiveState"), "activating");
    let switch = begin(&host, &["switch"]);
    is_starting(&host);
    assert_eq!(says(&host, "READY=1"), "hung up");
    ended(switch).done();
}

/// The VM with an address, and more keys.
fn fixed(more: &str) -> String {
    let vm = vm("web", more);
    [LAN, &vm, "address = \"192.168.100.10\"\n"].concat()
}

fn a_vm_is_started_when_its_port_takes_connections() {
    let host = booted(Then::PowerOffWhenAsked);
    host.switch_to(&fixed("")).done();
    let pid = host.main_pid("web");
    // What `ready` is takes effect at the next start, and restarts nothing.
    let ready = fixed("ready = \"tcp:22\"\n");
    host.switch_to(&ready).done();
    assert_eq!(host.main_pid("web"), pid);
    host.nkudo(&["switch"]).done().says("nothing to do");
    let restart = begin(&host, &["restart", "web"]);
    is_starting(&host);
    host.tap_is_in("web", "nk-lan");
    // It may try this address, and no other.
    let allowed = property(&host, READINESS, "IPAddressAllow");
    assert_eq!(allowed, "192.168.100.10/32");
    let mut web = Peer::of(&host, "web").with(&["192.168.100.10/24"], &[]);
    let ran = Ran::of(&web.answers(22, "SSH-2.0-guest", restart));
    ran.done();
    assert_eq!(status(&host)["state"], "running");
    let said = journal(&host);
    assert!(said.contains("VM web is ready"), "{said}");
    host.nkudo(&["switch"]).done().says("nothing to do");
    drop(web);
    host.switch_to("").done();
    readiness_is_gone(&host);
    host.has_nothing();
}

fn a_port_that_stays_closed_fails_where_it_is_to() {
    let host = booted(Then::PowerOffWhenAsked);
    let late = "ready = { when = \"tcp:22\", on-timeout = \"fail\" }\nstart-timeout = \"2s\"\n";
    host.switch_to(&fixed(late))
        .ended(4)
        .says("its guest takes no connections on TCP port 22 within 2s");
    has_failed(&host);
    host.switch_to("").done();
    host.has_nothing();
}
