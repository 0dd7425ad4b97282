//! A throw-away Debian 13 with its own PID 1, network and files, booted by systemd-nspawn.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use tempfile::TempDir;

use super::cgroup::Cgroup;
use super::deadline;
use super::layers::{Mounts, base_root, must};

cases![a_debian_13_boots_with_systemd_257_or_newer];

const BOOT_LIMIT: Duration = Duration::from_secs(90);
/// What takes some tens of milliseconds.
const NOTHING_LIMIT: Duration = Duration::from_secs(30);

/// Whether systemd-networkd runs in the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Networkd {
    On,
    Off,
}

/// A running machine; dropping it ends it and leaves nothing.
#[derive(Debug)]
pub(crate) struct Machine {
    // In the order of their dropping: the processes, the mounts, the directory.
    nspawn: Nspawn,
    root: PathBuf,
    _mounts: Mounts,
    _directory: TempDir,
}

impl Machine {
    /// Boots a machine, and waits until its PID 1 has started everything.
    pub(crate) fn boot(networkd: Networkd) -> Self {
        let base = base_root();
        let directory = tempfile::Builder::new()
            .prefix("nkudo-host-")
            .tempdir()
            .unwrap();
        let mounts = Mounts::over(&base, directory.path());
        let root = directory.path().join("root");
        fs::write(root.join("etc/machine-id"), random_machine_id()).unwrap();
        fs::write(root.join("etc/hostname"), "nkudo-test\n").unwrap();
        let wanted = root.join("etc/systemd/system/multi-user.target.wants");
        fs::create_dir_all(&wanted).unwrap();
        let link = wanted.join("systemd-networkd.service");
        let unit = "/usr/lib/systemd/system/systemd-networkd.service";
        let _ = fs::remove_file(&link);
        match networkd {
            Networkd::On => std::os::unix::fs::symlink(unit, &link).unwrap(),
            Networkd::Off => {
                for name in ["systemd-networkd.service", "systemd-networkd.socket"] {
                    let mask = root.join("etc/systemd/system").join(name);
                    let _ = fs::remove_file(&mask);
                    std::os::unix::fs::symlink("/dev/null", mask).unwrap();
                }
            }
        }
        let nspawn = Nspawn::start(&root, &directory.path().join("console"));
        let machine = Self {
            nspawn,
            root,
            _mounts: mounts,
            _directory: directory,
        };
        machine.wait_until_booted();
        machine
    }

    /// Boots the machine anew: the same files, and nothing of what ran.
    pub(crate) fn reboot(&mut self) {
        // Its own connection ends with the machine, so it may fail.
        self.run(&["systemctl", "reboot"]);
        let ended = self.nspawn.child.wait().unwrap();
        assert_eq!(
            ended.code(),
            Some(133),
            "a reboot ends systemd-nspawn with 133"
        );
        self.nspawn = Nspawn::start(&self.root, &self.root.with_file_name("console"));
        self.wait_until_booted();
    }

    /// Runs a command in the machine.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, argv: &[S]) -> Output {
        self.command(argv).output().expect("nsenter starts")
    }

    /// Begins a command, with its output to be read when it has ended.
    pub(crate) fn spawn<S: AsRef<OsStr>>(&self, argv: &[S]) -> Child {
        let mut command = self.command(argv);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("nsenter starts")
    }

    /// A shell in the machine, on this terminal, until it ends.
    pub(crate) fn enter(&self) {
        let mut shell = self.command(&["bash", "-l"]);
        let term = std::env::var_os("TERM").unwrap_or_else(|| "linux".into());
        let ended = shell
            .stdin(Stdio::inherit())
            .env("TERM", term)
            .env("HOME", "/root")
            .status();
        ended.expect("nsenter starts");
    }

    fn command<S: AsRef<OsStr>>(&self, argv: &[S]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.nspawn.leader.to_string()])
            .args(["-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--"])
            .args(argv)
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub(crate) fn ok<S: AsRef<OsStr>>(&self, argv: &[S]) -> String {
        let output = self.run(argv);
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{:?}: {}\n--- stdout\n{stdout}\n--- stderr\n{}",
            argv.iter().map(AsRef::as_ref).collect::<Vec<_>>(),
            output.status,
            String::from_utf8_lossy(&output.stderr),
        );
        stdout.into_owned()
    }

    /// Writes a file of the machine, through its own mounts, with its directories.
    pub(crate) fn write(&self, path: &str, bytes: impl AsRef<[u8]>, mode: u32) {
        write_file(&self.inside(path), bytes.as_ref(), mode);
    }

    /// Mounts a file of the machine as a filesystem. Its own /dev has no loop devices and it may make none, so
    /// this is done from outside; the device goes with the mount.
    pub(crate) fn mount_loop(&self, file: &str, at: &str) {
        let script = "set -e; [ -e /dev/loop-control ] || mknod /dev/loop-control c 10 237; \
             for n in 0 1 2 3 4 5 6 7; do [ -e /dev/loop$n ] || mknod /dev/loop$n b 7 $n; done; \
             mount -o loop \"$0\" \"$1\"";
        must(
            Command::new("nsenter")
                .args(["-t", &self.nspawn.leader.to_string(), "-m", "--"])
                .args(["sh", "-c", script, file, at]),
        );
    }

    /// Its PID 1, from here.
    pub(crate) fn leader(&self) -> u32 {
        self.nspawn.leader
    }

    /// A copy of PID 1's descriptor of a TAP.
    pub(crate) fn tap_of_pid_1(&self, name: &str) -> OwnedFd {
        let leader = self.nspawn.leader;
        let is_of_it = |fd: &str| {
            let info = fs::read_to_string(format!("/proc/{leader}/fdinfo/{fd}"));
            let info = info.unwrap_or_default();
            let mut lines = info.lines().filter_map(|line| line.strip_prefix("iff:"));
            lines.any(|interface| interface.trim() == name)
        };
        let fds = fs::read_dir(format!("/proc/{leader}/fd")).unwrap();
        let fd = fds
            .filter_map(|fd| fd.unwrap().file_name().into_string().ok())
            .find(|fd| is_of_it(fd))
            .unwrap_or_else(|| panic!("PID 1 does not hold {name}"));
        let pid = Pid::from_raw(leader.try_into().unwrap()).unwrap();
        let pid_1 = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        pidfd_getfd(pid_1, fd.parse().unwrap(), PidfdGetfdFlags::empty()).unwrap()
    }

    /// The path of a file of the machine, from here.
    pub(crate) fn inside(&self, path: &str) -> PathBuf {
        assert!(path.starts_with('/'), "{path} is not absolute");
        PathBuf::from(format!("/proc/{}/root{path}", self.nspawn.leader))
    }

    fn wait_until_booted(&self) {
        let end = Instant::now() + BOOT_LIMIT;
        let mut state = String::new();
        while Instant::now() < end {
            // It exits 1 for "degraded", which is booted too.
            let output = self.run(&["systemctl", "is-system-running"]);
            String::from_utf8_lossy(&output.stdout)
                .trim()
                .clone_into(&mut state);
            if state == "running" || state == "degraded" {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let console = fs::read_to_string(self.root.with_file_name("console")).unwrap_or_default();
        panic!("the machine is {state:?} after {BOOT_LIMIT:?}\n--- console\n{console}");
    }
}

/// The nspawn process, in a process group of its own, and PID 1 of the machine.
#[derive(Debug)]
struct Nspawn {
    child: Child,
    leader: u32,
    /// The machine's, which nspawn's own files in /run have.
    name: OsString,
    _cgroup: Cgroup,
}

impl Nspawn {
    fn start(root: &Path, console: &Path) -> Self {
        let log = fs::File::create(console).unwrap();
        let cgroup = Cgroup::make();
        let name = root.parent().and_then(Path::file_name).unwrap().to_owned();
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo $$ >\"$0\" && exec systemd-nspawn \"$@\""])
            .arg(cgroup.procs())
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .arg("-q")
            .arg("--machine")
            .arg(&name)
            .arg("-D")
            .arg(root)
            .args(["--register=no", "--keep-unit", "-b", "--private-network"])
            .args(["--console=pipe", "--bind=/dev/net/tun"]);
        if Path::new("/dev/kvm").exists() {
            command.arg("--bind=/dev/kvm");
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("systemd-nspawn starts");
        let mut nspawn = Self {
            child,
            leader: 0,
            name,
            _cgroup: cgroup,
        };
        let end = Instant::now() + BOOT_LIMIT;
        while nspawn.leader == 0 {
            let ended = nspawn.child.try_wait().unwrap();
            if ended.is_some() || Instant::now() > end {
                let console = fs::read_to_string(console).unwrap_or_default();
                panic!("systemd-nspawn made no PID 1 ({ended:?})\n--- console\n{console}");
            }
            nspawn.leader = leader_of(nspawn.child.id()).unwrap_or(0);
            std::thread::sleep(Duration::from_millis(20));
        }
        deadline::booted(nspawn.leader);
        nspawn
    }
}

impl Drop for Nspawn {
    fn drop(&mut self) {
        // Not after a reboot: the numbers may be somebody else's by now.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            // PID 1 first: with it the kernel ends everything in its PID namespace.
            for pid in [self.leader, self.child.id()] {
                if pid != 0 {
                    let _ = Command::new("kill")
                        .args(["-KILL", &pid.to_string()])
                        .output();
                }
            }
            let _ = self.child.wait();
        }
        deadline::ended(self.leader);
        let own = Path::new("/run/systemd/nspawn/propagate").join(&self.name);
        let _ = fs::remove_dir(own);
    }
}

/// Why no machine can be booted here although all programs are there: not every container lets one be
/// nested in it, and a kernel can come to a state in which no seccomp filter is loaded any more.
#[expect(
    clippy::zombie_processes,
    reason = "what hangs in the kernel cannot be waited for"
)]
pub(crate) fn cannot_boot() -> Option<String> {
    let root = TempDir::new().unwrap();
    let output = fs::File::create(root.path().join("output")).unwrap();
    fs::create_dir(root.path().join("usr")).unwrap();
    for name in ["bin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), root.path().join(name)).unwrap();
    }
    let mut child = Command::new("systemd-nspawn")
        .args(["-q", "--register=no", "--keep-unit", "--console=pipe"])
        .arg("-D")
        .arg(root.path())
        .args(["--bind-ro=/usr", "/usr/bin/true"])
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .expect("systemd-nspawn starts");
    let end = Instant::now() + NOTHING_LIMIT;
    while Instant::now() < end {
        match child.try_wait().unwrap() {
            Some(status) if status.success() => return None,
            Some(status) => {
                let said = fs::read_to_string(root.path().join("output")).unwrap_or_default();
                let said = said.trim();
                return Some(format!("systemd-nspawn cannot run here ({status}): {said}"));
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    let _ = child.kill();
    Some(format!(
        "systemd-nspawn has not run /usr/bin/true in {NOTHING_LIMIT:?}; where it cannot be killed, the kernel has to be booted anew"
    ))
}

/// The child of nspawn that is PID 1 in its own PID namespace and runs systemd by now.
fn leader_of(nspawn: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
    children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .find(|pid| is_leader(*pid))
}

fn is_leader(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let first = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .map(|ids| ids.split_whitespace().collect::<Vec<_>>());
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    first.is_some_and(|ids| ids.len() > 1 && ids.last() == Some(&"1")) && name.trim() == "systemd"
}

fn random_machine_id() -> String {
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    format!("{}\n", uuid.trim().replace('-', ""))
}

fn write_file(path: &Path, bytes: &[u8], mode: u32) {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).unwrap();
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    file.write_all(bytes).unwrap();
    file.set_permissions(fs::Permissions::from_mode(mode))
        .unwrap();
}

fn a_debian_13_boots_with_systemd_257_or_newer() {
    let machine = Machine::boot(Networkd::On);
    let version = machine.ok(&["systemctl", "--version"]);
    let number = version
        .split_whitespace()
        .nth(1)
        .and_then(|n| n.parse::<u32>().ok());
    assert!(number.is_some_and(|n| n >= 257), "{version}");
    machine.ok(&["systemctl", "is-active", "systemd-networkd.service"]);
    machine.ok(&["cloud-hypervisor", "--version"]);
    machine.ok(&["nkudo", "--version"]);
    drop(machine);
    let machine = Machine::boot(Networkd::Off);
    let state = machine.run(&["systemctl", "is-active", "systemd-networkd.service"]);
    assert!(!state.status.success(), "networkd runs though it is off");
}
