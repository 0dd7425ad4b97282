//! A throw-away Debian 13 with its own PID 1, network and files, booted by systemd-nspawn.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::guest::{Guest, Then};
use super::{real_vmm, stand_in};

const PACKAGES: &str =
    "systemd,systemd-sysv,libnss-systemd,dbus,udev,nftables,iproute2,kmod,procps,acl";
const BOOT_LIMIT: Duration = Duration::from_secs(90);

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
        machine.install(Path::new(env!("CARGO_BIN_EXE_nkudo")), "nkudo");
        let vmm = real_vmm().unwrap_or_else(|| std::env::current_exe().unwrap());
        machine.install(&vmm, stand_in::NAME);
        let slice = concat!(env!("CARGO_MANIFEST_DIR"), "/units/nkudo.slice");
        machine.write(
            "/etc/systemd/system/nkudo.slice",
            fs::read(slice).unwrap(),
            0o644,
        );
        machine
    }

    /// Writes the configuration.
    pub(crate) fn configure(&self, configuration: &str) {
        self.write("/etc/nkudo/nkudo.toml", configuration, 0o644);
    }

    /// Runs nkudo.
    pub(crate) fn nkudo(&self, arguments: &[&str]) -> Ran {
        let argv: Vec<&str> = std::iter::once("nkudo")
            .chain(arguments.iter().copied())
            .collect();
        Ran(self.run(&argv))
    }

    /// Writes the configuration, renders it and switches to it.
    pub(crate) fn switch(&self, configuration: &str) -> Ran {
        self.configure(configuration);
        self.nkudo(&["render"]).exits(0);
        self.nkudo(&["switch"])
    }

    /// Puts a guest at `/srv/<name>`, which prints `<name> lives`.
    pub(crate) fn guest(&self, name: &str, then: Then) {
        let line = format!("{name} lives");
        self.write(
            &format!("/srv/{name}"),
            Guest { line: &line, then }.elf(),
            0o644,
        );
    }

    /// A property of a VM's unit.
    pub(crate) fn property(&self, id: &str, name: &str) -> String {
        let unit = format!("nkudo-vm@{id}.service");
        self.ok(&["systemctl", "show", "-P", name, &unit])
            .trim()
            .to_owned()
    }

    /// The PID of a VM's VMM, which has to run.
    pub(crate) fn main_pid(&self, id: &str) -> String {
        assert_eq!(
            self.property(id, "ActiveState"),
            "active",
            "{}",
            self.journal(id)
        );
        let pid = self.property(id, "MainPID");
        assert_ne!(pid, "0");
        pid
    }

    /// What the journal has of a VM's unit.
    pub(crate) fn journal(&self, id: &str) -> String {
        self.ok(&["journalctl", "--sync"]);
        let unit = format!("nkudo-vm@{id}.service");
        self.ok(&[
            "journalctl",
            "-q",
            "--no-pager",
            "-o",
            "cat",
            "-n",
            "200",
            "-u",
            &unit,
        ])
    }

    /// The units of VMs that systemd has, whatever their state.
    pub(crate) fn vm_units(&self) -> String {
        let arguments = [
            "systemctl",
            "list-units",
            "--all",
            "--no-legend",
            "--plain",
            "nkudo-vm@*",
        ];
        self.ok(&arguments).trim().to_owned()
    }

    /// The names of the machine's links.
    pub(crate) fn links(&self) -> Vec<String> {
        let listed = self.ok(&["ip", "-br", "link"]);
        let mut names: Vec<String> = listed
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    }

    /// The bridge that a link is in.
    pub(crate) fn master(&self, link: &str) -> String {
        let text = self.ok(&["ip", "-o", "link", "show", link]);
        let mut words = text.split_whitespace().skip_while(|word| *word != "master");
        words.nth(1).unwrap_or("").to_owned()
    }

    /// Waits until something is so, and says what was waited for if it never is.
    pub(crate) fn until(&self, what: &str, so: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !so() {
            assert!(
                Instant::now() < end,
                "it never was so: {what}\n{}",
                self.ok(&["journalctl", "-q", "--no-pager", "-n", "60"])
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether a path is there.
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.inside(path).symlink_metadata().is_ok()
    }

    /// Runs a command in the machine.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, argv: &[S]) -> Output {
        Command::new("nsenter")
            .args(["-t", &self.nspawn.leader.to_string()])
            .args(["-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--"])
            .args(argv)
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null())
            .output()
            .expect("nsenter starts")
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

    /// Puts a program of this host into the machine's /usr/local/bin.
    fn install(&self, binary: &Path, name: &str) {
        let bytes = fs::read(binary).unwrap_or_else(|e| panic!("{}: {e}", binary.display()));
        write_file(
            &self.inside(&format!("/usr/local/bin/{name}")),
            &bytes,
            0o755,
        );
    }

    fn inside(&self, path: &str) -> PathBuf {
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

/// How a run of nkudo ended.
#[derive(Debug)]
pub(crate) struct Ran(Output);

impl Ran {
    /// Checks the exit code; returns what was said on standard error.
    #[track_caller]
    pub(crate) fn exits(&self, code: i32) -> String {
        let stderr = String::from_utf8_lossy(&self.0.stderr).into_owned();
        assert_eq!(self.0.status.code(), Some(code), "{stderr}");
        stderr
    }

    /// Whether it ended with this exit code.
    pub(crate) fn is(&self, code: i32) -> bool {
        self.0.status.code() == Some(code)
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }
}

/// The nspawn process, in a process group of its own, and PID 1 of the machine.
#[derive(Debug)]
struct Nspawn {
    child: Child,
    leader: u32,
    _cgroup: Cgroup,
}

impl Nspawn {
    fn start(root: &Path, console: &Path) -> Self {
        let log = fs::File::create(console).unwrap();
        // A control group of its own: without one, the PID 1s of two machines would share theirs, and
        // take each other's processes for their units'.
        let cgroup = Cgroup::make();
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                "echo $$ >\"$0/cgroup.procs\" && exec systemd-nspawn \"$@\"",
            ])
            .arg(&cgroup.0)
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .arg("-q")
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
        nspawn
    }
}

impl Drop for Nspawn {
    fn drop(&mut self) {
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

/// A control group below the test's own, gone with the machine.
#[derive(Debug)]
struct Cgroup(PathBuf);

impl Cgroup {
    fn make() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts
            .lines()
            .find(|line| line.contains(" - cgroup2 "))
            .and_then(|line| line.split_whitespace().nth(4))
            .expect("the host has cgroup v2");
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let name = format!(
            "nkudo-host-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = Path::new(mount).join(own.unwrap_or("")).join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The kernel takes a moment to empty the groups of a namespace that ended.
        let end = Instant::now() + Duration::from_secs(5);
        while remove_groups(&self.0).is_err() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Removes a tree of control groups: their files are the kernel's, and go with the directories.
fn remove_groups(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_groups(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

/// The tmpfs and the overlay on it.
#[derive(Debug)]
struct Mounts {
    directory: PathBuf,
}

impl Mounts {
    fn over(base: &Path, directory: &Path) -> Self {
        must(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", "mode=0755", "tmpfs"])
                .arg(directory),
        );
        let mounts = Self {
            directory: directory.to_owned(),
        };
        for name in ["up", "work", "root"] {
            fs::create_dir(directory.join(name)).unwrap();
        }
        let options = format!(
            "lowerdir={},upperdir={1}/up,workdir={1}/work",
            base.display(),
            directory.display()
        );
        must(
            Command::new("mount")
                .args(["-t", "overlay", "overlay", "-o", &options])
                .arg(directory.join("root")),
        );
        mounts
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for path in [self.directory.join("root"), self.directory.clone()] {
            let _ = Command::new("umount").args(["-R", "-l"]).arg(path).output();
        }
    }
}

/// The root every machine is laid over, made once and kept.
fn base_root() -> PathBuf {
    static MAKING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one_at_a_time = MAKING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let cache = std::env::var_os("NKUDO_TEST_CACHE")
        .map_or_else(|| PathBuf::from("/var/cache/nkudo-tests"), PathBuf::from);
    let root = cache.join("trixie");
    if root.exists() {
        return root;
    }
    fs::create_dir_all(&cache).unwrap();
    let unfinished = cache.join(format!("trixie.{}", std::process::id()));
    must(
        Command::new("mmdebstrap")
            .args([
                "--variant=minbase",
                &format!("--include={PACKAGES}"),
                "trixie",
            ])
            .arg(&unfinished),
    );
    // Another run may have been faster: then its root is the one.
    if fs::rename(&unfinished, &root).is_err() {
        assert!(root.exists(), "{} cannot be renamed", unfinished.display());
        fs::remove_dir_all(&unfinished).unwrap();
    }
    root
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

fn must(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{stderr}",
        output.status
    );
}
