//! The wire tier: nkudo's own calls answered by a systemd of the tests', over a socket pair, which does
//! what a real one rarely does. Signatures and the encoding of properties are tested with it.
//!
//! nkudo writes below /run, so the cases run in namespaces of their own; where those cannot be made
//! they are ignored, and the run says why.
#![expect(clippy::unwrap_used, reason = "a case fails by panicking")]
#![expect(
    clippy::disallowed_types,
    clippy::needless_pass_by_value,
    reason = "zbus makes a map of an interface's properties, and gives methods their arguments"
)]
#![expect(clippy::print_stderr, reason = "the run says why it tests nothing")]

mod cases;
mod systemd;

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Trial};

/// Is set where /run is the tests' own.
const INSIDE: &str = "NKUDO_WIRE_INSIDE";

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They share /run, where one nkudo at a time writes: a second one would sweep away what the first is writing.
    arguments.test_threads = Some(1);
    let inside = std::env::var_os(INSIDE).is_some();
    if !inside && !arguments.list {
        if namespaces(&["true".into()])
            .status()
            .is_ok_and(|ended| ended.success())
        {
            let own = std::env::current_exe().unwrap();
            let mut argv = vec![own.into_os_string()];
            argv.extend(std::env::args_os().skip(1));
            let err = namespaces(&argv).stderr(Stdio::inherit()).exec();
            panic!("cannot run in namespaces: {err}");
        }
        eprintln!("wire: the cases are ignored: `unshare` cannot make a mount namespace here");
    }
    let trials = cases::CASES
        .iter()
        .map(|(name, case)| {
            Trial::test(*name, || {
                case();
                Ok(())
            })
            .with_ignored_flag(!inside)
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A command with /run, and a network, of its own.
fn namespaces(argv: &[std::ffi::OsString]) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "--net", "sh", "-c"])
        .arg("mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/transient && exec \"$@\"")
        .arg("sh")
        .args(argv)
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}
