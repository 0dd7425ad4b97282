//! How much CPU time `nkudo render` takes, for hosts of 10 to 10,000 VMs: the built binary, from its start
//! to its end, files written. `make bench` prints it.
//!
//! It fails where 1,000 VMs take 100 ms or more, or 10,000 a second.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark that cannot run fails by panicking, and prints what it found"
)]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// How many VMs, and the CPU time that must not be reached.
const CASES: [(usize, Option<Duration>); 4] = [
    (10, None),
    (100, None),
    (1_000, Some(Duration::from_millis(100))),
    (10_000, Some(Duration::from_secs(1))),
];
/// The least of so many runs: others work on the machine too.
const RUNS: usize = 5;

fn main() -> ExitCode {
    // Not the file system is measured. /dev/shm is a tmpfs wherever there is one.
    let shm = Path::new("/dev/shm");
    let place = if shm.is_dir() {
        tempfile::tempdir_in(shm)
    } else {
        tempfile::tempdir()
    };
    let place = place.unwrap();
    let hypervisor = place.path().join("cloud-hypervisor");
    fs::write(&hypervisor, "#!/bin/sh\necho cloud-hypervisor v53.0\n").unwrap();
    fs::set_permissions(&hypervisor, fs::Permissions::from_mode(0o755)).unwrap();

    println!(
        "{:>8} {:>12} {:>12} {:>14}",
        "VMs", "CPU time", "wall clock", "CPU per VM"
    );
    let mut good = true;
    for (count, limit) in CASES {
        let file = place.path().join(format!("{count}.toml"));
        fs::write(&file, host(count, &hypervisor)).unwrap();
        let runs = (0..RUNS).map(|_| renders(&file, &place.path().join("state"), count));
        let (cpu, wall) = runs.min().unwrap();
        let per_vm = cpu / u32::try_from(count).unwrap();
        let verdict = match limit {
            Some(limit) if cpu >= limit => {
                good = false;
                format!("  too slow: the limit is {limit:?}")
            }
            _ => String::new(),
        };
        println!("{count:>8} {cpu:>12.1?} {wall:>12.1?} {per_vm:>14.1?}{verdict}");
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// CPU time of a run and of what it ran, and wall clock time; of short runs the mean of several, because
/// the kernel tells these times in steps of 10 ms.
fn renders(file: &Path, state_dir: &Path, vms: usize) -> (Duration, Duration) {
    let times = u32::try_from(1_000_usize.div_ceil(vms).min(20)).unwrap();
    let mut sum = (Duration::ZERO, Duration::ZERO);
    for _ in 0..times {
        let (cpu, wall) = render(file, state_dir);
        sum = (sum.0 + cpu, sum.1 + wall);
    }
    (sum.0 / times, sum.1 / times)
}

fn render(file: &Path, state_dir: &Path) -> (Duration, Duration) {
    let _ = fs::remove_dir_all(state_dir);
    let (cpu, start) = (children(), Instant::now());
    let status = Command::new(env!("CARGO_BIN_EXE_nkudo"))
        .args(["render", "--state-dir"])
        .args([state_dir, file])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    (children().saturating_sub(cpu), start.elapsed())
}

/// What all children that ended have used: /proc/self/stat (proc_pid_stat(5)), fields 16 and 17.
fn children() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap()..].split(' ').collect();
    let ticks: u64 = fields[14].parse::<u64>().unwrap() + fields[15].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// A host of a provider: networks with addresses, VMs with disks, NICs and limits.
fn host(count: usize, hypervisor: &Path) -> String {
    let mut text = format!("[host]\nhypervisor = \"{}\"\n", hypervisor.display());
    for network in 0..count.div_ceil(100) {
        let (high, low) = (network / 250, network % 250);
        writeln!(
            text,
            "[network.lan-{network}]\naddress = [\"10.{high}.{low}.1/24\"]"
        )
        .unwrap();
    }
    for vm in 0..count {
        let network = vm / 100;
        writeln!(
            text,
            "[vm.customer-{vm}]\nvcpus = 2\nmemory = \"2G\"\nkernel = \"/srv/images/vmlinux\"\n\
             cmdline = \"console=ttyS0 root=/dev/vda1\"\nlimits = {{ cpu-weight = 200, memory-max = \"3G\" }}\n\
             [[vm.customer-{vm}.disk]]\npath = \"/srv/disks/{vm}.raw\"\n\
             [[vm.customer-{vm}.nic]]\nnetwork = \"lan-{network}\""
        )
        .unwrap();
    }
    text
}
