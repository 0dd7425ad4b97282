//! A fetch that takes long keeps nobody waiting, and the host may change while it does.

use std::process::Child;

use super::guest::Then;
use super::host::{Host, Ran, vm_alone};
use super::machine::Networkd;
use super::until::until;

cases![
    a_stop_does_not_wait_for_a_switch_that_fetches,
    a_switch_that_fetched_does_not_undo_what_was_switched_to_meanwhile,
    a_start_that_fetched_leaves_alone_who_was_stopped_meanwhile,
    an_image_that_is_gone_after_its_fetch_is_fetched_again,
    a_vm_is_recreated_without_others_waiting_for_the_fetch,
];

const IMAGES: &str = "/var/lib/nkudo/images";

/// Serves /srv/image.raw, and stops in its middle until there is /srv/go.
const SERVER: &str = r#"
import http.server, os, time
content = open("/srv/image.raw", "rb").read()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:1 << 20])
        self.wfile.flush()
        while not os.path.exists("/srv/go"):
            time.sleep(0.05)
        self.wfile.write(content[1 << 20:])
http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"#;

/// A host with a VM that runs, and a server that stops in the middle.
fn host() -> Host {
    let host = Host::boot(Networkd::Off);
    host.guest("web", Then::PowerOffWhenAsked);
    host.guest("second", Then::PowerOffWhenAsked);
    host.machine.write("/srv/server.py", SERVER, 0o644);
    let script = "set -e; ip link set lo up; head -c 4M /dev/urandom > /srv/image.raw; \
         systemd-run -q --unit=server python3 /srv/server.py";
    host.machine.ok(&["sh", "-c", script]);
    until("the server answers", || {
        let ask = "import socket; socket.create_connection(('127.0.0.1', 8000))";
        let asked = host.machine.run(&["python3", "-c", ask]);
        if asked.status.success() {
            Ok(())
        } else {
            Err(String::new())
        }
    });
    host.switch_to(&vm_alone("web", "")).done();
    host
}

impl Host {
    fn with_image(&self, vm: &str) -> String {
        let sum = self.machine.ok(&["sha256sum", "/srv/image.raw"]);
        let sum = sum.split_whitespace().next().unwrap();
        format!(
            "[image.base]\nsource = \"http://127.0.0.1:8000/image.raw\"\nsha256 = \"{sum}\"\n{vm}\
             [[vm.second.disk]]\nname = \"root\"\nimage = \"base\"\n"
        )
    }

    /// Begins to get the image, which does not end until `go`.
    fn begin_to_fetch(&self, arguments: &[&str]) -> Child {
        let mut argv = vec!["nkudo"];
        argv.extend(arguments);
        let child = self.machine.spawn(&argv);
        until("a fetch is under way", || {
            let there = self.machine.run(&["ls", "-A", IMAGES]);
            let there = String::from_utf8_lossy(&there.stdout).into_owned();
            if there.contains(".partial") {
                Ok(())
            } else {
                Err(there)
            }
        });
        child
    }

    fn go(&self) {
        self.machine.ok(&["touch", "/srv/go"]);
    }
}

#[track_caller]
fn still_runs(child: &mut Child) {
    assert!(child.try_wait().unwrap().is_none(), "it has ended");
}

fn ended(child: Child) -> Ran {
    Ran::of(&child.wait_with_output().unwrap())
}

fn both(more: &str) -> String {
    [vm_alone("web", ""), vm_alone("second", more)].concat()
}

fn a_stop_does_not_wait_for_a_switch_that_fetches() {
    let host = host();
    host.configure(&host.with_image(&both("")));
    host.nkudo(&["render"]).done();
    let mut switch = host.begin_to_fetch(&["switch"]);
    host.nkudo(&["stop", "web"])
        .done()
        .does_not_say("waiting for another nkudo");
    still_runs(&mut switch);
    host.is_gone("web");
    // Of two that need the image, one fetches.
    let third = host.machine.spawn(&["nkudo", "image", "pull"]);
    host.go();
    ended(switch)
        .done()
        .says("image base: fetch http://127.0.0.1:8000/image.raw, for second")
        .says("the plan is another one by now");
    ended(third).done();
    // Stopped is stopped, also for a switch that had looked before.
    host.is_gone("web");
    host.printed("second", 1);
    let got = host
        .machine
        .ok(&["journalctl", "-q", "-o", "cat", "--grep", "got image base"]);
    assert_eq!(got.lines().count(), 1, "{got}");
}

fn a_switch_that_fetched_does_not_undo_what_was_switched_to_meanwhile() {
    let host = host();
    host.configure(&host.with_image(&both("")));
    host.nkudo(&["render"]).done();
    let mut switch = host.begin_to_fetch(&["switch"]);
    host.switch_to(&vm_alone("web", "vcpus = 2")).done();
    still_runs(&mut switch);
    let pid = host.main_pid("web");
    host.go();
    ended(switch)
        .ended(1)
        .says("another nkudo has switched to generation 3 meanwhile")
        .says("`nkudo switch 2` switches to generation 2 all the same");
    assert_eq!(host.main_pid("web"), pid);
    host.is_gone("second");
    let current = host.machine.ok(&["readlink", "/var/lib/nkudo/current"]);
    assert_eq!(current, "generations/3\n");
    host.nkudo(&["switch", "2"]).done();
    host.printed("second", 1);
}

fn a_start_that_fetched_leaves_alone_who_was_stopped_meanwhile() {
    let host = host();
    host.switch_to(&host.with_image(&both("autostart = false")))
        .done();
    let mut start = host.begin_to_fetch(&["start", "second"]);
    host.nkudo(&["stop", "second"]).done();
    still_runs(&mut start);
    host.go();
    ended(start)
        .ended(1)
        .says("second was stopped by somebody meanwhile, and stays so");
    host.is_gone("second");
    host.nkudo(&["start", "second"]).done();
    host.printed("second", 1);
}

fn an_image_that_is_gone_after_its_fetch_is_fetched_again() {
    let host = host();
    host.configure(&host.with_image(&both("")));
    host.nkudo(&["render"]).done();
    let switch = host.begin_to_fetch(&["switch"]);
    // Somebody else has the lock when the fetch ends.
    let hold = "while ! test -e /srv/release; do sleep 0.05; done";
    let holder = host
        .machine
        .spawn(&["flock", "/run/nkudo/lock", "sh", "-c", hold]);
    until("the lock is held", || {
        let free = host
            .machine
            .run(&["flock", "--nonblock", "/run/nkudo/lock", "true"]);
        if free.status.success() {
            Err("it is free".to_owned())
        } else {
            Ok(())
        }
    });
    host.go();
    let sum = host.machine.ok(&["sha256sum", "/srv/image.raw"]);
    let image = format!("{IMAGES}/{}.raw", sum.split_whitespace().next().unwrap());
    until("the image is there", || {
        if host.exists(&image) {
            Ok(())
        } else {
            Err(String::new())
        }
    });
    host.machine.ok(&["rm", &image]);
    host.machine.ok(&["touch", "/srv/release"]);
    let ran = ended(switch).done();
    let got = ran.stderr.matches("got image base").count();
    assert_eq!(got, 2, "{ran}");
    ended(holder).done();
    host.printed("second", 1);
}

fn a_vm_is_recreated_without_others_waiting_for_the_fetch() {
    let host = host();
    host.go();
    host.switch_to(&host.with_image(&both(""))).done();
    host.machine.ok(&["rm", "/srv/go"]);
    host.machine
        .ok(&["sh", "-c", &format!("rm {IMAGES}/*.raw")]);
    let mut recreate = host.begin_to_fetch(&["recreate", "second", "--disk", "root", "--yes"]);
    host.nkudo(&["stop", "web"])
        .done()
        .does_not_say("waiting for another nkudo");
    still_runs(&mut recreate);
    host.go();
    ended(recreate).done();
    host.printed("second", 2);
    assert!(host.exists("/var/lib/nkudo/vms/second/root.old-1.raw"));
}
