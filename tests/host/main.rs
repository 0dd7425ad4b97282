//! The host tier: cases that need root, a real systemd as PID 1 and a real VMM.
//!
//! `cargo test --test host` as root. Without what they need, the cases are ignored and say why.
#![expect(clippy::unwrap_used, reason = "a case fails by panicking")]
#![expect(
    clippy::print_stderr,
    reason = "the run says what it runs on, and why it does not"
)]

mod guest;
mod life;
mod machine;
mod network;
mod sandbox;
mod stand_in;
mod switching;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libtest_mimic::{Arguments, Trial};

use guest::{Guest, Then};
use machine::{Machine, Networkd};

/// A case and the sentence that it proves.
type Case = (&'static str, fn());

const CASES: &[Case] = &[
    (
        "the_guests_print_their_line_and_end_as_asked",
        the_guests_print_their_line_and_end_as_asked,
    ),
    (
        "a_debian_13_boots_with_systemd_257_or_newer",
        a_debian_13_boots_with_systemd_257_or_newer,
    ),
];

fn main() -> std::process::ExitCode {
    let name = std::env::args().next().unwrap_or_default();
    if Path::new(&name)
        .file_name()
        .is_some_and(|name| name == stand_in::NAME)
    {
        return stand_in::main().into();
    }
    let mut arguments = Arguments::from_args();
    // A machine is a whole booted system: a few at a time.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let missing = missing();
    if !arguments.list {
        match &missing {
            Some(reason) => eprintln!("host: every case is ignored: {reason}"),
            None => eprintln!("host: the VMM is {}", vmm_named()),
        }
    }
    let cases = [
        CASES,
        life::CASES,
        network::CASES,
        sandbox::CASES,
        switching::CASES,
    ];
    let trials = cases
        .into_iter()
        .flatten()
        .map(|(name, case)| {
            Trial::test(*name, move || {
                case();
                Ok(())
            })
            .with_ignored_flag(missing.is_some())
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Why the cases cannot run here, if they cannot.
fn missing() -> Option<String> {
    let user = std::fs::metadata("/proc/self").map_or(u32::MAX, |me| me.uid());
    if user != 0 {
        return Some("they need root".to_owned());
    }
    ["mmdebstrap", "systemd-nspawn"]
        .into_iter()
        .find(|program| find(program).is_none())
        .map(|program| format!("there is no {program} in PATH"))
        .or_else(|| {
            (!Path::new("/dev/net/tun").exists()).then(|| "there is no /dev/net/tun".to_owned())
        })
}

/// The real cloud-hypervisor, where there is one and KVM to run it on. `NKUDO_TEST_VMM=stand-in`
/// does without it.
fn real_vmm() -> Option<PathBuf> {
    let forced = std::env::var_os("NKUDO_TEST_VMM").is_some_and(|vmm| vmm == "stand-in");
    (!forced && Path::new("/dev/kvm").exists())
        .then(|| find(stand_in::NAME))
        .flatten()
}

fn vmm_named() -> String {
    match real_vmm() {
        Some(vmm) => format!("{} ({})", vmm.display(), version(&vmm)),
        None => "the stand-in of tests/host: no cloud-hypervisor in PATH, or no /dev/kvm, or \
                 NKUDO_TEST_VMM=stand-in"
            .to_owned(),
    }
}

/// A program of PATH.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

fn version(vmm: &Path) -> String {
    let output = Command::new(vmm).arg("--version").output().unwrap();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .next()
        .unwrap_or("")
        .to_owned()
}

/// How a guest's VMM ended, or that it had to be stopped.
struct Ended {
    /// Its exit code; 124 where it was still running at the time limit.
    code: Option<i32>,
    serial: String,
    log: String,
}

/// Boots a guest for at most two seconds.
fn boot_guest(vmm: &Path, guest: Guest<'_>) -> Ended {
    let directory = tempfile::tempdir().unwrap();
    let kernel = directory.path().join("guest.elf");
    let log = directory.path().join("log");
    std::fs::write(&kernel, guest.elf()).unwrap();
    let output = Command::new("timeout")
        .args(["--signal=KILL", "--preserve-status", "2"])
        .arg(vmm)
        .args([
            "--api-socket",
            &format!("path={}/api.sock", directory.path().display()),
        ])
        .arg("--log-file")
        .arg(&log)
        .arg("--kernel")
        .arg(&kernel)
        .args(["--cpus", "boot=1", "--memory", "size=64M"])
        .args(["--serial", "tty", "--console", "off"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Ended {
        code: output.status.code(),
        serial: String::from_utf8_lossy(&output.stdout).into_owned(),
        log: std::fs::read_to_string(&log).unwrap_or_default(),
    }
}

fn the_guests_print_their_line_and_end_as_asked() {
    let directory = tempfile::tempdir().unwrap();
    let vmm = real_vmm().unwrap_or_else(|| {
        let link = directory.path().join(stand_in::NAME);
        std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &link).unwrap();
        link
    });
    for then in [
        Then::Halt,
        Then::PowerOff,
        Then::PowerOffWhenAsked,
        Then::Reset,
        Then::Crash,
    ] {
        let line = format!("hello from {then:?}");
        let ended = boot_guest(&vmm, Guest { line: &line, then });
        let lines = ended
            .serial
            .lines()
            .filter(|l| l.trim_end() == line)
            .count();
        let told = format!(
            "{then:?}: {:?}\n{}\n{}",
            ended.code, ended.serial, ended.log
        );
        let crashed = ended.log.contains("VCPU generated error");
        match then {
            Then::Halt | Then::PowerOffWhenAsked => {
                assert!(lines == 1 && ended.code != Some(0) && !crashed, "{told}");
            }
            Then::PowerOff => assert!(lines == 1 && ended.code == Some(0) && !crashed, "{told}"),
            Then::Reset => assert!(lines > 1 && !crashed, "{told}"),
            Then::Crash => assert!(lines == 1 && crashed, "{told}"),
        }
    }
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
    machine.ok(&["/usr/local/bin/cloud-hypervisor", "--version"]);
    machine.ok(&["nkudo", "--version"]);
    drop(machine);
    let machine = Machine::boot(Networkd::Off);
    let state = machine.run(&["systemctl", "is-active", "systemd-networkd.service"]);
    assert!(!state.status.success(), "networkd runs though it is off");
}
