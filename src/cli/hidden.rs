//! What systemd and ssh run, and nobody types.

use camino::Utf8PathBuf;
use clap::{Args, Subcommand};

use crate::host::{TimeSpan, VmId};

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

#[derive(Debug, Args)]
pub struct Vsock {
    pub id: VmId,
    pub port: u32,
}
