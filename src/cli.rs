//! The command line; the doc comments are its help.

use std::num::NonZeroUsize;

use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand};

use crate::config::Subject;
use crate::host::{DiskName, SnapshotName, TimeSpan, VmId};

/// Virtual machines on a systemd host, declared in one TOML file
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub struct Cli {
    /// Where generations are [default: `[host] state-dir` of the configuration, which is
    /// /var/lib/nkudo unless it says otherwise]
    #[arg(long, global = true, env = "NKUDO_STATE_DIR", value_name = "DIRECTORY")]
    pub state_dir: Option<Utf8PathBuf>,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say all mistakes of the configuration, and change nothing
    ///
    /// Where systemd and the hypervisor can be asked, versions that are too old are mistakes too.
    ///
    /// It also warns of what may surprise: a network that nobody uses, more memory than this host
    /// has.
    ///
    /// Kernels and firmwares are looked at: one that is missing, unreadable for VMs, or for another
    /// architecture is a mistake, and so is a disk or an image that is missing.
    ///
    /// Exit codes: 0, no mistakes; 1, a file could not be read or booted, or the host is too old; 2,
    /// wrong usage; 3, mistakes.
    Check(Check),

    /// Make a generation of the configuration; the host stays as it is
    ///
    /// Prints the generation's number. A configuration that leads to the newest generation again
    /// makes no new one.
    ///
    /// Exit codes: 0, done; 1, failed; 2, wrong usage; 3, mistakes in the configuration.
    Render(Render),

    /// Print what a switch to the configuration would do, and why; change nothing
    ///
    /// Exit codes: 0, printed (nothing, if there is nothing to do); 1, failed, or something stands
    /// in the way; 2, wrong usage; 3, mistakes in the configuration.
    Diff(Diff),

    /// Make the host be a generation
    ///
    /// The newest one, if its configuration has not changed since it was rendered. VMs that did not
    /// change run on.
    ///
    /// Exit codes: 0, done; 1, failed; 2, wrong usage; 3, mistakes in the configuration; 4,
    /// switched, but some VMs failed; 5, switched, but something of the host is not as declared.
    Switch(Switch),

    /// Switch back to the generation before the current one, or to another older one
    ///
    /// The same as `nkudo switch N`: nothing is forgotten, and `nkudo switch` goes forward again.
    ///
    /// Exit codes: as of `switch`.
    Rollback(Rollback),

    /// List the generations: when and by whom they were rendered, why, and what each changed
    Generations(Generations),

    /// Remove old generations
    ///
    /// Never the current one, the newest one, one that a VM runs from, or one that cannot be read.
    ///
    /// Exit codes: 0, done; 1, failed; 2, wrong usage.
    Gc(Gc),

    /// Print the state of VMs
    Status(Status),

    /// Say whether this host is fit for its VMs, and what mends it where it is not
    ///
    /// Looks at KVM, the hypervisor, systemd, control groups, memory, huge pages, disks and networks,
    /// and compares what is declared with what there is. Changes nothing. With an ID, only what
    /// concerns that VM.
    ///
    /// Exit codes: 0, nothing is wrong, though there may be warnings; 1, something is, or it could not
    /// be looked at; 2, wrong usage.
    Doctor(Doctor),

    /// Start a VM as the current generation has it, and let switches start it again
    ///
    /// Exit codes: 0, it runs; 1, failed; 2, wrong usage; 4, the VM failed.
    Start(OneVm),

    /// Stop a VM, by its power button first, and let switches leave it stopped
    ///
    /// It stays stopped until `nkudo start`, or the next boot of the host. The guest has its
    /// `stop-timeout` to power off; then systemd ends the VMM with SIGTERM, and 15 s later with SIGKILL.
    ///
    /// --force is for a VM that is stuck, also in a stop that somebody began: it waits for no lock, and
    /// after so many seconds it has systemd send SIGTERM, and 5 s later SIGKILL.
    ///
    /// Exit codes: 0, it does not run; 1, failed; 2, wrong usage; 4, it could not be stopped.
    Stop(Stop),

    /// Stop the vCPUs of a VM where they are, until `nkudo resume`
    ///
    /// Its memory stays, and so do its TAPs. A stop or a restart of the unit resumes it first, so that
    /// the guest can power off; a VM that systemd restarts runs.
    ///
    /// Exit codes: 0, it is paused; 1, it does not run, or its VMM refused; 2, wrong usage.
    Pause(OneVm),

    /// Let a VM that was paused go on
    ///
    /// Exit codes: 0, it runs; 1, it does not run, or its VMM refused; 2, wrong usage.
    Resume(OneVm),

    /// Take a snapshot of a VM that runs: its memory, its devices and its disks at one moment
    ///
    /// The guest stands still while the hypervisor writes its memory and the disks are copied; a filesystem that
    /// can share blocks, as XFS and btrfs can, makes the copies at once. VMs with shares, a TPM, PCI devices of
    /// the host, or a block device that they write to cannot be taken. Snapshots are in the state directory, and `nkudo purge`
    /// removes them.
    ///
    /// Exit codes: 0, taken; 1, failed, and the guest goes on; 2, wrong usage.
    Snapshot(SnapshotOf),

    /// Put a VM back to a snapshot: its memory, its devices and its disks
    ///
    /// The VM stops, if it runs, and goes on from where it was when the snapshot was taken. Its disks as they are now
    /// are kept beside the others, and put back if the VM cannot be restored. The VM has to be declared as it was
    /// then, and the hypervisor to be of the same version. It asks first.
    ///
    /// Exit codes: 0, it runs as it was; 1, failed, or not wanted; 2, wrong usage; 4, the VM could not be
    /// restored, and is as it was before.
    Restore(Restore),

    /// List snapshots: when they were taken, and how large they are
    Snapshots(Snapshots),

    /// Print what the journal has of a VM: its guest's console, its VMM, systemd and nkudo
    ///
    /// This is journalctl(1) with the matches for one VM. The guest's console is its serial port,
    /// unless the configuration sends that elsewhere; a VMM that fails says so there too.
    ///
    /// Exit codes: 0, printed; 1, failed; 2, wrong usage.
    Logs(Logs),

    /// Attach this terminal to a guest's serial port
    ///
    /// Of a VM with `serial = "socket"`. Ctrl-] leaves. Several consoles may be attached at the same time; each
    /// begins with what was printed last. The guest is never held up by any of them.
    ///
    /// Exit codes: 0, left, or the VM ended; 1, failed; 2, wrong usage.
    Console(OneVm),

    /// Open a shell in a VM, or run a command in it, by ssh(1)
    ///
    /// To an address by which the host has reached the VM of late. Keys, users and all else are ssh's own
    /// matter; the VM's host key is remembered as `nkudo-ID`.
    ///
    /// Exit codes: ssh's own; 1 where there is nobody to connect to.
    Ssh(Ssh),

    /// Put all that somebody needs to see of a host in trouble into one archive
    ///
    /// Logs, units, the generation, doctor's words, the network and versions, as one `.tar.zst`. Seeds
    /// and the configuration as written are left out, and what looks like a password or a key is masked, also in
    /// logs and command lines. Prints the ids for an incident.
    ///
    /// Exit codes: 0, written; 1, failed; 2, wrong usage.
    Collect(Collect),

    /// Call a VM's hypervisor over its API, and print the answer
    ///
    /// The endpoints are those of cloud-hypervisor's API. What is changed this way lasts until the
    /// VM's next start, and is not what the configuration says. The call is in the journal.
    ///
    /// Exit codes: 0, the VMM did it; 1, it refused, or does not answer; 2, wrong usage.
    Api(Api),

    /// Stop a VM, if it runs, and start it as the current generation has it
    ///
    /// Exit codes: 0, it runs; 1, failed; 2, wrong usage; 4, the VM failed.
    Restart(OneVm),

    /// List, fetch and remove images
    #[command(subcommand)]
    Image(ImageVerb),

    /// List the disks that nkudo made
    #[command(subcommand)]
    Disk(DiskVerb),

    /// Remove disks that are in no file any more, and snapshots, for good
    ///
    /// Without `--disk` and `--snapshot`, all disks and snapshots of a VM that is not declared any more. It says
    /// what it is about to remove, and asks.
    ///
    /// Exit codes: 0, removed; 1, failed, or not wanted; 2, wrong usage.
    Purge(Purge),

    /// Make disks of a VM anew, from what the file declares now
    ///
    /// Those that differ from what is declared, or the one that `--disk` names. The VM is restarted
    /// with the new disks; the old ones are kept beside them, and put back if it does not start. It asks
    /// first. `nkudo purge ID --disk NAME.old-1` removes an old one.
    ///
    /// Exit codes: 0, done; 1, failed, or not wanted; 2, wrong usage; 4, the VM did not start with the new
    /// disks, and has the old ones again.
    Recreate(Recreate),

    /// Print the JSON Schema of nkudo.toml, for editors
    ///
    /// taplo and the TOML extensions of editors complete and check a file whose first line is
    /// `#:schema ./nkudo.schema.json`, where this was printed into that file.
    Schema,

    /// Stop all VMs in their order, if the host shuts down; nkudo-shutdown.service runs it
    #[command(hide = true)]
    Shutdown,

    /// Hand ssh a connection to a guest's vsock; `nkudo ssh` has it run this
    #[command(hide = true)]
    Vsock(Vsock),

    /// A step of a VM's unit; systemd runs these
    #[command(subcommand, hide = true)]
    Unit(UnitStep),
}

/// The steps that a VM's unit names. Each takes what it needs from systemd's environment.
#[derive(Debug, Subcommand)]
pub enum UnitStep {
    /// Wait until the VM is ready
    Ready { id: VmId },
    /// Make it known to systemd-machined
    Register { id: VmId },
    /// Shut the guest down by its power button
    Stop {
        id: VmId,
        /// How long the guest may take. On the command line, so that a VM can be shut down whatever
        /// has become of its specification
        #[arg(long)]
        timeout: TimeSpan,
    },
    /// Say why the VM ended; fail where systemd would take a crash for a clean exit
    Post { id: VmId },
    /// Let the VM's user use its disks
    Grant { id: VmId },
    /// Take the disks back
    Revoke { id: VmId },
    /// Wait until the guest says that it is ready, or takes connections
    Await { id: VmId },
    /// Stop the VM if it was not ready in time
    GiveUp { id: VmId },
    /// Find the kernel in an image; of no VM's unit, but of one that reads that image
    TakeKernel { image: Utf8PathBuf, to: Utf8PathBuf },
    /// Let the guest of a snapshot go on, once
    Restored {
        id: VmId,
        /// What is renamed before it goes on: whoever cannot do that must not let it
        #[arg(long)]
        record: Utf8PathBuf,
    },
    /// Let a VM go on once standard input ends without a word; `nkudo snapshot` runs it
    Guard { id: VmId },
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub struct Configuration {
    /// Files to read as one configuration; `-` is standard input. [default:
    /// /etc/nkudo/nkudo.toml, then /etc/nkudo/nkudo.d/*.toml in name order]
    pub files: Vec<Utf8PathBuf>,
}

#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    pub configuration: Configuration,

    /// Take warnings for mistakes
    #[arg(long)]
    pub strict: bool,

    /// The configuration is for another host: say nothing of this one, and take a file that it
    /// names and that is not here (`user-data-file`) for one that is there
    #[arg(long)]
    pub elsewhere: bool,
}

#[derive(Debug, Args)]
pub struct Render {
    #[command(flatten)]
    pub configuration: Configuration,

    /// Print what a VM (`vm.web`), a network (`network.lan`) or the host (`host`) comes to, each
    /// value with the line or the default that it is from; make no generation
    #[arg(long, value_name = "PART", conflicts_with = "message")]
    pub explain: Option<Subject>,

    /// Why; `nkudo generations` shows it
    #[arg(long, short)]
    pub message: Option<String>,
}

#[derive(Debug, Args)]
pub struct Rollback {
    /// The generation to switch to. [default: the newest one before the current one]
    pub generation: Option<u64>,

    #[command(flatten)]
    pub how: How,
}

/// How a switch is done.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct How {
    /// Print what would be done, and why; change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Print that as JSON, in the shape that docs/switching.md describes
    #[arg(long, requires = "dry_run")]
    pub json: bool,

    /// Only these VMs, and the networks that there are to be: `web,db`
    ///
    /// All else stays as it is, and so does the current generation, unless there was nothing else to
    /// do.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub only: Option<Vec<VmId>>,

    /// Restart the VMs for which changes are pending, too
    #[arg(long)]
    pub restart: bool,

    /// Restart at most so many VMs at the same time, one group after the other
    ///
    /// Otherwise all that have to restart stop first, and start then.
    #[arg(long, value_name = "N")]
    pub restart_limit: Option<NonZeroUsize>,

    /// Begin nothing more once a VM has failed
    ///
    /// The current generation stays the one before; the next switch does the rest.
    #[arg(long)]
    pub fail_fast: bool,

    /// Start, and stop, at most so many VMs at the same time. [default: 16]
    #[arg(long, value_name = "N", env = "NKUDO_START_LIMIT")]
    pub start_limit: Option<NonZeroUsize>,
}

#[derive(Debug, Args)]
pub struct Diff {
    #[command(flatten)]
    pub configuration: Configuration,

    /// Print JSON, in the shape that docs/switching.md describes
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Generations {
    /// Print JSON, in the shape that docs/generations.md describes
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Gc {
    /// How many of the newest generations to keep
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub keep: usize,

    /// Remove only what was rendered longer ago than this: `30d`, `12h`
    #[arg(long, value_name = "SPAN")]
    pub older_than: Option<TimeSpan>,

    /// Print what would be removed; remove nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Switch {
    /// The generation to switch to, whatever the configuration says now. [default: the newest]
    pub generation: Option<u64>,

    /// Switch to the generation that was current before the boot, whatever the configuration says
    /// now; without one, there is nothing to do. What stands in the way of one VM alone leaves that one out
    #[arg(long, conflicts_with = "generation")]
    pub boot: bool,

    #[command(flatten)]
    pub how: How,
}

#[derive(Debug, Args)]
pub struct Status {
    /// Only this VM, and all that is known of it
    pub id: Option<VmId>,

    /// Look again every so many seconds, until Ctrl-C; with --json, a line each time
    #[arg(long, short, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
          value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub watch: Option<u32>,

    /// Networks instead of VMs: their links, ports, leases, forwards
    #[arg(long, conflicts_with = "id")]
    pub network: bool,

    /// Print JSON, in the shape that docs/status.md describes, for networks docs/networking.md
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Stop {
    /// The VM's id
    pub id: VmId,

    /// Do not wait longer than this for the guest; SIGTERM then, and SIGKILL after 5 s more
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "10",
          value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub force: Option<u32>,
}

#[derive(Debug, Args)]
pub struct Ssh {
    /// The VM's id
    pub id: VmId,

    /// The user in the VM. [default: ssh's own]
    #[arg(long, short = 'l')]
    pub user: Option<String>,

    /// Over the VM's vsock, whatever addresses it has
    #[arg(long)]
    pub vsock: bool,

    /// A command to run there; what follows `--` is not looked at
    #[arg(last = true)]
    pub command: Vec<std::ffi::OsString>,
}

#[derive(Debug, Args)]
pub struct Vsock {
    pub id: VmId,
    pub port: u32,
}

#[derive(Debug, Args)]
pub struct Collect {
    /// Only this VM, and the host
    pub id: Option<VmId>,

    /// The archive to write. [default: nkudo-HOST-TIME.tar.zst in the working directory]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<Utf8PathBuf>,

    /// Leave out what guests printed on their consoles
    #[arg(long)]
    pub no_console: bool,
}

#[derive(Debug, Args)]
pub struct Doctor {
    /// Only what concerns this VM
    pub id: Option<VmId>,

    /// Print JSON, in the shape that docs/status.md describes
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Logs {
    /// The VM's id
    pub id: VmId,

    /// Print what is new, too, until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,

    /// Only the guest's console, as it was printed
    #[arg(long, conflicts_with = "no_console")]
    pub console: bool,

    /// All but the guest's console
    #[arg(long)]
    pub no_console: bool,

    /// Only what is not older than this: `10min`, `yesterday`, `2026-01-31 12:00` (systemd.time(7))
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,

    /// Only the last so many lines
    #[arg(long, short = 'n', value_name = "N")]
    pub lines: Option<u32>,
}

#[derive(Debug, Args)]
pub struct Api {
    /// The VM's id
    pub id: VmId,

    /// What to do
    #[arg(value_enum, ignore_case = true)]
    pub method: ApiMethod,

    /// The endpoint: `vm.info`, `vm.counters`, `vm.resize`
    #[arg(value_parser = parse_endpoint)]
    pub endpoint: String,

    /// What to send, as JSON; `-` reads it from standard input
    pub body: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum ApiMethod {
    Get,
    Put,
}

fn parse_endpoint(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if text.is_empty() || !text.chars().all(allowed) {
        return Err(
            "an endpoint is made of letters, digits, `-` and `.`, as `vm.info` is".to_owned(),
        );
    }
    Ok(text.to_owned())
}

#[derive(Debug, Args)]
pub struct OneVm {
    /// The VM's id
    pub id: VmId,
}

#[derive(Debug, Subcommand)]
pub enum ImageVerb {
    /// List images: how large they are, where they are kept, and who uses them
    List(Listing),

    /// Fetch the images that VMs of the configuration need, before a switch does
    ///
    /// Exit codes: 0, they are there; 1, failed; 2, wrong usage; 3, mistakes in the configuration.
    Pull(Pull),

    /// Remove images that no kept generation, no disk and no running VM uses
    ///
    /// And what interrupted fetches have left. Nothing is removed if it cannot be told what is used.
    ///
    /// Exit codes: 0, done; 1, failed; 2, wrong usage.
    Gc(ImageGc),
}

#[derive(Debug, Subcommand)]
pub enum DiskVerb {
    /// List the disks that nkudo made: what from, how large they are, and whether a file declares them
    List(Listing),
}

#[derive(Debug, Args)]
pub struct Listing {
    /// Print JSON, in the shape that docs/disks.md describes
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Pull {
    #[command(flatten)]
    pub configuration: Configuration,

    /// All images that are declared, whether a VM needs them or not
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Args)]
pub struct ImageGc {
    /// Print what would be removed; remove nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Purge {
    /// The VM's id
    pub id: VmId,

    /// Only this disk, as `nkudo disk list` names it; can be given several times
    #[arg(long, value_name = "NAME")]
    pub disk: Vec<String>,

    /// Only this snapshot; can be given several times
    #[arg(long, value_name = "NAME")]
    pub snapshot: Vec<SnapshotName>,

    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct SnapshotOf {
    /// The VM's id
    pub id: VmId,

    /// What to call it: 1 to 63 of a-z, 0-9 and `-`
    pub name: SnapshotName,
}

#[derive(Debug, Args)]
pub struct Restore {
    #[command(flatten)]
    pub of: SnapshotOf,

    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct Snapshots {
    /// Only those of this VM
    pub id: Option<VmId>,

    /// Print JSON, in the shape that docs/snapshots.md describes
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Recreate {
    /// The VM's id
    pub id: VmId,

    /// Only this disk, whether it differs or not; can be given several times
    #[arg(long, value_name = "NAME")]
    pub disk: Vec<DiskName>,

    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}
