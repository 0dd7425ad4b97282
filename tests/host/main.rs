//! The host tier: cases that need root, a real systemd as PID 1 and a real VMM.
//!
//! `cargo test --test host` as root. Without what they need, the cases are ignored and say why.
#![expect(clippy::unwrap_used, reason = "a case fails by panicking")]
#![expect(
    clippy::print_stderr,
    reason = "the run says what it runs on, and why it does not"
)]

mod guest;
mod machine;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libtest_mimic::{Arguments, Trial};

use guest::{Guest, Then};
use machine::{Machine, Networkd};

const VMM: &str = "cloud-hypervisor";

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    let missing = missing();
    if !arguments.list {
        match (&missing, find(VMM)) {
            (Some(reason), _) => eprintln!("host: every case is ignored: {reason}"),
            (None, Some(vmm)) => {
                eprintln!("host: the VMM is {} ({})", vmm.display(), version(&vmm));
            }
            (None, None) => {}
        }
    }
    let cases: [(&str, fn()); 2] = [
        (
            "the_guests_print_their_line_and_end_as_asked",
            the_guests_print_their_line_and_end_as_asked,
        ),
        (
            "a_debian_13_boots_with_systemd_257_or_newer",
            a_debian_13_boots_with_systemd_257_or_newer,
        ),
    ];
    let trials = cases
        .into_iter()
        .map(|(name, case)| {
            Trial::test(name, move || {
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
    ["mmdebstrap", "systemd-nspawn", VMM]
        .into_iter()
        .find(|program| find(program).is_none())
        .map(|program| format!("there is no {program} in PATH"))
        .or_else(|| (!Path::new("/dev/kvm").exists()).then(|| "there is no /dev/kvm".to_owned()))
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
fn boot_guest(guest: Guest<'_>) -> Ended {
    let directory = tempfile::tempdir().unwrap();
    let kernel = directory.path().join("guest.elf");
    std::fs::write(&kernel, guest.elf()).unwrap();
    let output = Command::new("timeout")
        .args(["--signal=KILL", "--preserve-status", "2", VMM, "--kernel"])
        .arg(&kernel)
        .args(["--cpus", "boot=1", "--memory", "size=64M"])
        .args(["--serial", "tty", "--console", "off"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Ended {
        code: output.status.code(),
        serial: String::from_utf8_lossy(&output.stdout).into_owned(),
        log: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn the_guests_print_their_line_and_end_as_asked() {
    for then in [Then::Halt, Then::PowerOff, Then::Reset, Then::Crash] {
        let line = format!("hello from {then:?}");
        let ended = boot_guest(Guest { line: &line, then });
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
            Then::Halt => assert!(lines == 1 && ended.code != Some(0) && !crashed, "{told}"),
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
    machine.install(&find(VMM).unwrap());
    machine.ok(&["/usr/local/bin/cloud-hypervisor", "--version"]);
    drop(machine);
    let machine = Machine::boot(Networkd::Off);
    let state = machine.run(&["systemctl", "is-active", "systemd-networkd.service"]);
    assert!(!state.status.success(), "networkd runs though it is off");
}
