//! The verbs of the command line, a file each. They join the pure half to the world and hold no
//! rules of their own.

pub mod api;
pub mod check;
pub mod collect;
pub mod console;
pub mod diff;
pub mod disk;
pub mod doctor;
pub mod force_stop;
pub mod gc;
pub mod generations;
pub mod image;
pub mod logs;
pub mod one_vm;
pub mod pause;
pub mod purge;
pub mod recreate;
pub mod render;
pub mod restore;
pub mod schema;
pub mod shutdown;
pub mod snapshot;
pub mod ssh;
pub mod status;
mod status_network;
pub mod switch;
pub mod vsock;

mod carry_out;
mod configured;
mod confirm;
mod current;
mod fetched;
mod host_files;
mod programs;
mod sources;
mod state_dir;
mod table;
mod words;

use std::future::Future;
use std::io::{self, IsTerminal as _, Write as _};

use anyhow::Context as _;
use serde::Serialize;

use crate::cli::{Cli, Command, DiskVerb, ImageVerb};
use crate::steps::{self, StepExit};
use crate::unit::NOT_READY;

/// How a run of nkudo ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done,
    /// What went wrong has been said.
    Failed,
    BadConfiguration,
    /// All that could be done was done; some VMs failed, and have been named.
    VmsFailed,
    /// All was done, and something of the host is not as declared nevertheless; it has been named.
    HostDiffers,
    /// Of the step that waits for a guest: see `NOT_READY`.
    NotReady,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::BadConfiguration => 3,
            Exit::VmsFailed => 4,
            Exit::HostDiffers => 5,
            Exit::NotReady => NOT_READY,
        })
    }
}

/// Runs the command. An error is one that the user can only read; main prints it.
pub fn run(cli: Cli) -> anyhow::Result<Exit> {
    verb(cli).map_err(|err| match what_now(&err) {
        Some(hint) => anyhow::anyhow!("{err:#}\nhint: {hint}"),
        None => err,
    })
}

/// What to do about what the kernel refused, whatever it was asked for.
fn what_now(err: &anyhow::Error) -> Option<&'static str> {
    let mut causes = err.chain().filter_map(|cause| cause.downcast_ref());
    causes.find_map(|cause: &io::Error| match cause.kind() {
        io::ErrorKind::PermissionDenied if !rustix::process::geteuid().is_root() => {
            Some("nkudo is for root: `sudo nkudo …`")
        }
        io::ErrorKind::StorageFull => Some(
            "`nkudo doctor` says which filesystem is full; `nkudo gc` and `nkudo image gc` remove what is old. Run the \
             command again then: it goes on where it was",
        ),
        io::ErrorKind::ReadOnlyFilesystem => Some(
            "`journalctl -k` says why, where the kernel made it so: most often a disk with errors. VMs that run go on",
        ),
        _ => None,
    })
}

fn verb(cli: Cli) -> anyhow::Result<Exit> {
    let state_dir = cli.state_dir.as_deref();
    match cli.command {
        Command::Check(configuration) => check::run(&configuration),
        Command::Render(render) => render::run(&render, state_dir),
        Command::Diff(diff) => diff::run(&diff),
        Command::Switch(switch) => switch::run(&switch, state_dir),
        Command::Rollback(rollback) => switch::rollback(&rollback, state_dir),
        Command::Generations(generations) => generations::run(&generations, state_dir),
        Command::Gc(gc) => gc::run(&gc, state_dir),
        Command::Status(status) => status::run(&status, state_dir),
        Command::Start(vm) => one_vm::start(vm.id, state_dir),
        Command::Stop(stop) => match stop.force {
            Some(seconds) => force_stop::run(&stop.id, seconds, state_dir),
            None => one_vm::stop(stop.id, state_dir),
        },
        Command::Doctor(doctor) => doctor::run(&doctor, state_dir),
        Command::Pause(vm) => pause::pause(&vm.id),
        Command::Resume(vm) => pause::resume(&vm.id),
        Command::Snapshot(of) => snapshot::take(&of, state_dir),
        Command::Restore(arguments) => restore::run(&arguments, state_dir),
        Command::Snapshots(arguments) => snapshot::list(&arguments, state_dir),
        Command::Logs(logs) => logs::run(&logs),
        Command::Console(vm) => console::run(&vm.id),
        Command::Ssh(ssh) => ssh::run(&ssh, state_dir),
        Command::Collect(collect) => collect::run(&collect, state_dir),
        Command::Api(api) => api::run(&api),
        Command::Restart(vm) => one_vm::restart(vm.id, state_dir),
        Command::Shutdown => shutdown::run(),
        Command::Image(ImageVerb::List(listing)) => image::list(&listing, state_dir),
        Command::Image(ImageVerb::Pull(pull)) => image::pull(&pull),
        Command::Image(ImageVerb::Gc(gc)) => image::gc(&gc, state_dir),
        Command::Disk(DiskVerb::List(listing)) => disk::list(&listing, state_dir),
        Command::Purge(purge) => purge::run(&purge, state_dir),
        Command::Recreate(recreate) => recreate::run(&recreate, state_dir),
        Command::Schema => schema::run(),
        Command::Vsock(arguments) => vsock::run(&arguments),
        Command::Unit(step) => Ok(match block_on(steps::run(&step))? {
            StepExit::Done => Exit::Done,
            StepExit::Failed => Exit::Failed,
            StepExit::NotReady => Exit::NotReady,
        }),
    }
}

/// Runs what speaks to the host. One thread: it waits far more than it works.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot begin")?
        .block_on(work)
}

/// Prints data. Whoever does not read on to the end has seen enough.
fn print(text: &str) -> anyhow::Result<()> {
    match anstream::stdout().lock().write_all(text.as_bytes()) {
        Err(err) if err.kind() != io::ErrorKind::BrokenPipe => {
            Err(err).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

/// Says something to whoever looks, and not to the journal: a listing is no event.
fn aside(text: &str) {
    // Nobody is left to tell when standard error is gone.
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Prints data for programs.
fn print_json(document: &impl Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(document)?))
}

/// Prints control sequences too, for a terminal.
fn print_raw(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(err) if err.kind() != io::ErrorKind::BrokenPipe => {
            Err(err).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

/// The columns of a terminal; `None` elsewhere, where lines are as long as they are.
fn width() -> Option<u16> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    Some(match rustix::termios::tcgetwinsize(&stdout) {
        // A serial console does not know how many it has, and says none.
        Ok(size) if size.ws_col > 0 => size.ws_col.max(40),
        _ => 80,
    })
}
