//! The command line; the doc comments are its help.

mod generations;
mod hidden;
mod looking;
mod snapshots;
mod storage;
mod vm;

use camino::Utf8PathBuf;
use clap::{Parser, Subcommand};

pub use generations::{Check, Configuration, Diff, Gc, Generations, How, Render, Rollback, Switch};
pub use hidden::{UnitStep, Vsock};
pub use looking::{Collect, Doctor, Logs, Status};
pub use snapshots::{Restore, SnapshotOf, Snapshots};
pub use storage::{DiskVerb, ImageGc, ImageVerb, Listing, Pull, Purge, Recreate};
pub use vm::{Api, ApiMethod, OneVm, Ssh, Stop};

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
    /// Looks at KVM, the hypervisor, systemd, control groups, memory, huge pages, the host's tuning, disks, PCI devices
    /// and networks, and compares what is declared with what there is. Changes nothing. With an ID, only what
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
    /// It waits for no other nkudo, such as a switch that waits for this guest to be ready, but for a snapshot of this VM.
    ///
    /// --force is for a VM that is stuck, also in a stop that somebody began: it does not wait for a snapshot either, and
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
    /// While it is taken, other VMs are switched; what would change this one waits, but for a forced stop.
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
    /// To the declared address, else what DHCP has handed out, else one by which the host has heard of the VM, else over
    /// its vsock. Keys, users and all else are ssh's own matter; the VM's host key is remembered as `nkudo-ID`.
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
    /// Without `--disk` and `--snapshot`, all disks and snapshots of a VM that is not declared any more, and its TPM. It says
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
