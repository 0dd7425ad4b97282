//! The host tier: cases that need root and a real systemd as PID 1, with a real VMM where there is one.
//!
//! `cargo test --test host` as root. Without what they need, the cases are ignored and say why.
//! `-- --try` shows the example to people instead: see `make try`. `-- --bench` measures: see `make bench`.
//! `NKUDO_TEST_VMM=stand-in` runs them on the stand-in VMM where there is a real one too.
#![expect(clippy::unwrap_used, reason = "a case fails by panicking")]
#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "the run says what it runs on, and why it does not"
)]

/// The cases of a module, each a function whose name says what must be true.
macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        pub(crate) const CASES: &[crate::Case] = &[$(crate::Case {
            name: concat!(module_path!(), "::", stringify!($case)),
            run: $case,
        }),*];
    };
}

mod bare;
mod bench;
mod boot;
mod boot_networks;
mod cgroup;
mod companions;
mod console;
mod deadline;
mod disks;
mod doctor;
mod ends;
mod escapes;
mod fetching;
mod first_boot;
mod generations;
mod guest;
mod hello;
mod host;
mod images;
mod inside;
mod interruption;
mod kept_disks;
mod layers;
mod life;
mod live;
mod locks;
mod machine;
mod machined;
mod meanwhile;
mod network;
mod network_manager;
mod nix;
mod one_vm;
mod operating;
mod outside;
mod packets;
mod pci;
mod peer;
mod programs;
mod ready;
mod refusals;
mod restoring;
mod sandbox;
mod snapshots;
mod ssh;
mod stand_in;
mod status;
mod switching;
mod symptoms;
mod terminal;
mod try_out;
mod tuning;
mod until;
mod uplinks;
mod vmm;
mod vmms;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Trial};

use vmm::Vmm;

/// A case.
struct Case {
    name: &'static str,
    run: fn(),
}

/// What a case needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// Root, and what boots a machine.
    Machine,
    /// A machine, and something here that reads a FAT volume.
    FatReader,
    /// A machine, and a VMM that can take snapshots here.
    Snapshots,
    /// A machine, and a VMM that takes a snapshot as the case tells it to.
    StandIn,
}

/// All cases, with what they need.
const THEMES: &[(Needs, &[Case])] = &[
    (Needs::Nothing, vmms::CASES),
    (Needs::Machine, machine::CASES),
    (Needs::Machine, hello::CASES),
    (Needs::Machine, switching::CASES),
    (Needs::Machine, one_vm::CASES),
    (Needs::Machine, generations::CASES),
    (Needs::Machine, life::CASES),
    (Needs::Machine, ends::CASES),
    (Needs::Machine, live::CASES),
    (Needs::Machine, machined::CASES),
    (Needs::Machine, network::CASES),
    (Needs::Machine, network_manager::CASES),
    (Needs::Machine, packets::CASES),
    (Needs::Machine, uplinks::CASES),
    (Needs::Machine, ready::CASES),
    (Needs::Machine, disks::CASES),
    (Needs::Machine, kept_disks::CASES),
    (Needs::Machine, status::CASES),
    (Needs::Machine, ssh::CASES),
    (Needs::Machine, console::CASES),
    (Needs::Machine, operating::CASES),
    (Needs::Machine, symptoms::CASES),
    (Needs::Machine, terminal::CASES),
    (Needs::Machine, doctor::CASES),
    (Needs::Machine, images::CASES),
    (Needs::Machine, fetching::CASES),
    (Needs::Machine, inside::CASES),
    (Needs::Machine, sandbox::CASES),
    (Needs::Machine, escapes::CASES),
    (Needs::Machine, first_boot::CASES),
    (Needs::FatReader, first_boot::READ),
    (Needs::Machine, companions::CASES),
    (Needs::Machine, snapshots::REFUSED),
    (Needs::Snapshots, snapshots::CASES),
    (Needs::Snapshots, restoring::CASES),
    (Needs::Machine, pci::CASES),
    (Needs::Machine, boot::CASES),
    (Needs::Machine, boot_networks::CASES),
    (Needs::Machine, refusals::CASES),
    (Needs::Machine, interruption::CASES),
    (Needs::Machine, locks::CASES),
    (Needs::StandIn, meanwhile::CASES),
    (Needs::Machine, tuning::CASES),
    (Needs::Machine, nix::CASES),
];

fn main() -> std::process::ExitCode {
    if is_named(stand_in::NAME) {
        return stand_in::main().into();
    }
    if is_named(bare::NAME) {
        return bare::main();
    }
    if is_named(network_manager::NAME) {
        return network_manager::main();
    }
    if is_named(guest::NAME) {
        return guest::print();
    }
    let missing = missing();
    let alone = std::env::args()
        .nth(1)
        .filter(|_| std::env::args().len() == 2);
    match alone.as_deref() {
        Some("--try") => return run_alone(missing, try_out::run),
        Some("--bench") => return run_alone(missing, bench::run),
        _ => {}
    }
    let mut arguments = Arguments::from_args();
    // A machine is a whole booted system: a few at a time.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    if !arguments.list {
        eprintln!("host: the VMM is {}", Vmm::chosen());
        if let Some(reason) = &missing {
            eprintln!("host: the cases that need a machine are ignored: {reason}");
        }
    }
    let no_reader = first_boot::Reader::all().is_empty();
    if no_reader && !arguments.list {
        eprintln!(
            "host: one case is ignored: the kernel has no vfat, and there is no mcopy in PATH"
        );
    }
    let no_snapshots = snapshots::are_ignored(&arguments);
    let no_stand_in = !matches!(Vmm::chosen(), Vmm::StandIn(_));
    if no_stand_in && !arguments.list {
        eprintln!(
            "host: the cases of `meanwhile` are ignored: they tell the stand-in when to go on"
        );
    }
    let trials = THEMES
        .iter()
        .copied()
        .flat_map(|(needs, cases)| cases.iter().map(move |case| (needs, case)))
        .map(|(needs, case)| {
            let name = case.name.trim_start_matches("host::");
            let ignored = match needs {
                Needs::Nothing => false,
                Needs::Machine => missing.is_some(),
                Needs::FatReader => missing.is_some() || no_reader,
                Needs::Snapshots => missing.is_some() || no_snapshots,
                Needs::StandIn => missing.is_some() || no_stand_in,
            };
            Trial::test(name, || {
                deadline::run(case.name, case.run);
                Ok(())
            })
            .with_ignored_flag(ignored)
        })
        .collect();
    deadline::watch();
    let conclusion = libtest_mimic::run(&arguments, trials);
    programs::remove();
    conclusion.exit_code()
}

/// What is no case.
fn run_alone(
    missing: Option<String>,
    run: fn() -> std::process::ExitCode,
) -> std::process::ExitCode {
    if let Some(reason) = missing {
        eprintln!(
            "No machine can be booted here: {}.",
            reason.replace("they need", "it needs")
        );
        return std::process::ExitCode::FAILURE;
    }
    let exit = run();
    programs::remove();
    exit
}

/// Whether this process was started under that name.
fn is_named(name: &str) -> bool {
    let own = std::env::args_os().next().unwrap_or_default();
    Path::new(&own).file_name().is_some_and(|own| own == name)
}

/// Why no machine can be booted here, if none can.
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
            let tun = Path::new("/dev/net/tun");
            (!tun.exists()).then(|| "there is no /dev/net/tun".to_owned())
        })
        .or_else(machine::cannot_boot)
}

/// A program of PATH.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}
