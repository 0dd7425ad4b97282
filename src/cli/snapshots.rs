//! Snapshots.

use clap::Args;

use crate::host::{SnapshotName, VmId};

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
