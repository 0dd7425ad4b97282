//! The VMMs themselves: the guests run on the real one as on the stand-in, and both refuse the same.

use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use tempfile::TempDir;

use super::guest::{Guest, Then};
use super::stand_in;
use super::until::until;
use super::vmm::{Vmm, ask};

cases![
    the_guests_print_their_line_and_end_as_asked,
    a_guest_reacts_to_the_power_button_only_if_it_waits_for_it,
    the_api_follows_the_life_of_the_vm,
    sigterm_ends_the_vmm_cleanly,
    wrong_usage_and_wrong_files_are_refused_in_the_same_words,
    a_disk_has_one_writer,
];

/// Those that there are: the stand-in always.
fn all() -> Vec<Vmm> {
    let mut all = vec![Vmm::StandIn("it is tried too")];
    if let real @ Vmm::Real(_) = Vmm::available() {
        all.push(real);
    }
    all
}

/// A VMM that runs in a directory of its own.
struct Running {
    directory: TempDir,
    child: Child,
}

/// How it ended.
struct Ended {
    status: ExitStatus,
    stdout: String,
    stderr: String,
    log: String,
}

impl Ended {
    fn crashed(&self) -> bool {
        self.log.contains("VCPU generated error")
    }

    fn told(&self) -> String {
        format!(
            "{}\n{}\n{}\n{}",
            self.status, self.stdout, self.stderr, self.log
        )
    }
}

/// The VMM's command without any VM.
fn command(vmm: &Vmm, directory: &Path) -> Command {
    let program = directory.join(stand_in::NAME);
    if !program.exists() {
        symlink(vmm.file(), &program).unwrap();
    }
    let mut command = Command::new(program);
    command.current_dir(directory).stdin(Stdio::null());
    command
}

fn start(vmm: &Vmm, then: Then) -> Running {
    let directory = tempfile::tempdir().unwrap();
    let line = format!("hello from {then:?}");
    std::fs::write(
        directory.path().join("guest"),
        Guest { line: &line, then }.elf(),
    )
    .unwrap();
    let output = |name: &str| std::fs::File::create(directory.path().join(name)).unwrap();
    let child = command(vmm, directory.path())
        .args([
            "--api-socket",
            "path=api.sock",
            "--log-file",
            "log",
            "--kernel",
            "guest",
        ])
        .args(["--cpus", "boot=1,max=1", "--memory", "size=64M"])
        .args(["--serial", "tty", "--console", "off"])
        .stdout(output("stdout"))
        .stderr(output("stderr"))
        .spawn()
        .unwrap();
    Running { directory, child }
}

impl Running {
    fn text(&self, name: &str) -> String {
        let path = self.directory.path().join(name);
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }

    /// Waits until the guest has printed its line that often.
    fn printed(&self, then: Then, times: usize) {
        until(&format!("{then:?} prints its line {times} times"), || {
            let stdout = self.text("stdout");
            let line = format!("hello from {then:?}");
            let lines = stdout.lines().filter(|l| l.trim_end() == line).count();
            if lines >= times { Ok(()) } else { Err(stdout) }
        });
    }

    fn ask(&self, request: &str) -> (u16, String) {
        // By a short path: a socket's has at most 108 bytes.
        let socket = self.directory.path().join("api.sock");
        ask(&socket, request).unwrap_or_else(|err| panic!("{request}: {err}"))
    }

    fn end(mut self) -> Ended {
        let status = until("the VMM ends", || {
            let ended = self.child.try_wait().unwrap();
            ended.ok_or_else(|| self.text("stdout").chars().take(500).collect())
        });
        Ended {
            status,
            stdout: self.text("stdout"),
            stderr: self.text("stderr"),
            log: self.text("log"),
        }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let done = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(done.unwrap().success(), "kill -s {signal}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn the_guests_print_their_line_and_end_as_asked() {
    for vmm in all() {
        for then in [Then::PowerOff, Then::Crash] {
            let running = start(&vmm, then);
            running.printed(then, 1);
            let ended = running.end();
            // What an ending leaves of a crash is the log alone.
            assert!(ended.status.success(), "{vmm}: {then:?}: {}", ended.told());
            assert_eq!(
                ended.crashed(),
                then == Then::Crash,
                "{vmm}: {}",
                ended.told()
            );
        }
        let running = start(&vmm, Then::Reset);
        running.printed(Then::Reset, 3);
        for then in [Then::Halt, Then::PowerOffWhenAsked, Then::CrashWhenAsked] {
            let mut running = start(&vmm, then);
            running.printed(then, 1);
            let ended = running.child.try_wait().unwrap();
            assert!(ended.is_none(), "{vmm}: {then:?} ended: {ended:?}");
        }
    }
}

fn a_guest_reacts_to_the_power_button_only_if_it_waits_for_it() {
    for vmm in all() {
        for then in [Then::PowerOffWhenAsked, Then::CrashWhenAsked] {
            let running = start(&vmm, then);
            running.printed(then, 1);
            assert_eq!(running.ask("PUT vm.power-button").0, 204, "{vmm}");
            let ended = running.end();
            assert!(ended.status.success(), "{vmm}: {then:?}: {}", ended.told());
            assert_eq!(
                ended.crashed(),
                then == Then::CrashWhenAsked,
                "{vmm}: {}",
                ended.told()
            );
        }
        let mut running = start(&vmm, Then::Halt);
        running.printed(Then::Halt, 1);
        assert_eq!(running.ask("PUT vm.power-button").0, 204, "{vmm}");
        assert_eq!(running.ask("GET vmm.ping").0, 200, "{vmm}");
        assert!(running.child.try_wait().unwrap().is_none(), "{vmm}");
    }
}

fn the_api_follows_the_life_of_the_vm() {
    for vmm in all() {
        let running = start(&vmm, Then::Halt);
        running.printed(Then::Halt, 1);
        let state = || {
            let (status, body) = running.ask("GET vm.info");
            assert_eq!(status, 200, "{vmm}: {body}");
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            body["state"].as_str().unwrap().to_owned()
        };
        until("the VM runs", || match state() {
            running if running == "Running" => Ok(()),
            other => Err(other),
        });
        let (status, body) = running.ask("GET vmm.ping");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, 200, "{vmm}");
        assert_eq!(body["pid"], running.child.id(), "{vmm}");
        assert_eq!(running.ask("GET nonsense").0, 404, "{vmm}");
        assert_eq!(running.ask("PUT vm.shutdown").0, 204, "{vmm}");
        assert_eq!(state(), "Created", "{vmm}");
        for refused in ["PUT vm.power-button", "PUT vm.shutdown"] {
            let (status, body) = running.ask(refused);
            assert_eq!(status, 500, "{vmm}: {refused}");
            assert!(
                body.contains("VM is not running"),
                "{vmm}: {refused}: {body}"
            );
        }
        assert_eq!(running.ask("PUT vmm.shutdown").0, 200, "{vmm}");
        let ended = running.end();
        assert!(ended.status.success(), "{vmm}: {}", ended.told());
    }
}

fn sigterm_ends_the_vmm_cleanly() {
    for vmm in all() {
        for then in [Then::Halt, Then::Reset] {
            let running = start(&vmm, then);
            running.printed(then, 1);
            running.signal("TERM");
            let socket = running.directory.path().join("api.sock");
            until("the socket is gone", || {
                if socket.exists() {
                    Err(String::new())
                } else {
                    Ok(())
                }
            });
            let ended = running.end();
            assert!(ended.status.success(), "{vmm}: {then:?}: {}", ended.told());
        }
    }
}

/// What nkudo may get wrong: the arguments, the exit code, and a line that the VMM says.
const REFUSED: &[(&[&str], i32, &str)] = &[
    (&["--nonsense"], 2, "unexpected argument '--nonsense' found"),
    (
        &["--kernel", "guest", "--kernel", "guest"],
        2,
        "cannot be used multiple times",
    ),
    (
        &["--kernel"],
        2,
        "a value is required for '--kernel <kernel>'",
    ),
    (
        &["--cpus", "boot=1"],
        2,
        "<--firmware <firmware>|--kernel <kernel>>",
    ),
    (&["--kernel", "missing"], 1, "Cannot open kernel file"),
    (
        &["--kernel", "missing"],
        1,
        "No such file or directory (os error 2)",
    ),
    (
        &["--kernel", "text"],
        1,
        "Cannot load the kernel into memory",
    ),
    (
        &["--kernel", "guest", "--initramfs", "missing"],
        1,
        "Cannot open initramfs file",
    ),
    (
        &["--kernel", "guest", "--cpus", "boot=1,bogus=3"],
        1,
        "Unknown option: bogus",
    ),
    (
        &["--kernel", "guest", "--cpus", "boot=2,max=1"],
        1,
        "Max CPUs (1) lower than boot CPUs (2)",
    ),
    (
        &["--kernel", "guest", "--memory", "size=64Q"],
        1,
        "Unable to convert 64Q for size",
    ),
    (
        &[
            "--kernel",
            "guest",
            "--disk",
            "path=missing.raw,image_type=raw",
        ],
        1,
        "I/O error (path=missing.raw op=open)",
    ),
    (
        &["--kernel", "guest", "--disk", "path=text,image_type=zip"],
        1,
        "Unable to convert zip for image_type",
    ),
    (
        &["--kernel", "guest", "--disk", "path=text,image_type=qcow2"],
        1,
        "specified = qcow2, detected = raw",
    ),
    (
        &[
            "--kernel",
            "guest",
            "--disk",
            "path=text,image_type=raw,serial=twenty-one-characters",
        ],
        1,
        "Block device serial length (21) exceeds maximum allowed length (20)",
    ),
    (
        &[
            "--kernel",
            "guest",
            "--net",
            "fd=0,mac=02:00:00:00:00:01,num_queues=2",
        ],
        1,
        "Reserved fd number (<= 2): 0",
    ),
    (
        &[
            "--kernel",
            "guest",
            "--net",
            "fd=99,mac=02:00:00:00:00:01,num_queues=4",
        ],
        1,
        "does not match the number of FDs",
    ),
    (
        &[
            "--kernel",
            "guest",
            "--net",
            "fd=99,mac=nonsense,num_queues=2",
        ],
        1,
        "Unable to convert nonsense for mac",
    ),
    (
        &["--kernel", "guest", "--vsock", "cid=2,socket=vsock"],
        1,
        "2 is a special VSOCK CID",
    ),
    (
        &["--kernel", "guest", "--vsock", "cid=3,socket=missing/vsock"],
        1,
        "Error binding to the host-side Unix socket",
    ),
    (
        &[
            "--kernel",
            "guest",
            "--device",
            "path=/sys/bus/pci/devices/ffff:ff:1f.7,id=pci-ffff:ff:1f.7",
            "path=/sys/bus/pci/devices/ffff:ff:1f.6,id=pci-ffff:ff:1f.6",
        ],
        1,
        "Cannot create a VFIO device",
    ),
    (
        &["--kernel", "guest", "--rng", "src=missing"],
        1,
        "No such file or directory (os error 2)",
    ),
    (
        &["--kernel", "guest", "--device", "id=pci-ffff:ff:1f.7"],
        1,
        "VFIO device config must specify `path=` or `fd=`",
    ),
    (
        &["--kernel", "guest", "--api-socket", "path=missing/api.sock"],
        1,
        "Error creation API server's socket",
    ),
    (
        &["--kernel", "guest", "--log-file", "missing/log"],
        1,
        "Error creating log file",
    ),
];

fn wrong_usage_and_wrong_files_are_refused_in_the_same_words() {
    for vmm in all() {
        let directory = tempfile::tempdir().unwrap();
        let guest = Guest {
            line: "refused",
            then: Then::PowerOff,
        };
        std::fs::write(directory.path().join("guest"), guest.elf()).unwrap();
        std::fs::write(directory.path().join("text"), "no ELF file\n".repeat(200)).unwrap();
        for (arguments, code, line) in REFUSED {
            let output = command(&vmm, directory.path())
                .args(*arguments)
                .output()
                .unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            let told = format!("{vmm}: {arguments:?}: {}\n{stderr}", output.status);
            assert_eq!(output.status.code(), Some(*code), "{told}");
            assert!(stderr.contains(line), "no {line:?} in {told}");
        }
    }
}

fn a_disk_has_one_writer() {
    for vmm in all() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| -> PathBuf { directory.path().join(name) };
        let guest = Guest {
            line: "up",
            then: Then::Halt,
        };
        std::fs::write(path("guest"), guest.elf()).unwrap();
        std::fs::write(path("disk.raw"), vec![0; 1 << 20]).unwrap();
        let with_disk = |disk: &str| {
            let mut command = command(&vmm, directory.path());
            command.args(["--kernel", "guest", "--serial", "tty", "--console", "off"]);
            command.args(["--disk", disk]);
            command
        };
        let mut first = with_disk("path=disk.raw,image_type=raw")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = [0; 2];
        first
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut line)
            .unwrap();
        assert_eq!(&line, b"up");
        for disk in [
            "path=disk.raw,image_type=raw",
            "path=disk.raw,image_type=raw,readonly=on",
        ] {
            let second = with_disk(disk).output().unwrap();
            let stderr = String::from_utf8_lossy(&second.stderr);
            let told = format!("{vmm}: {disk}: {}\n{stderr}", second.status);
            assert_eq!(second.status.code(), Some(1), "{told}");
            assert!(stderr.contains("The file is already locked"), "{told}");
        }
        first.kill().unwrap();
        first.wait().unwrap();
    }
}
