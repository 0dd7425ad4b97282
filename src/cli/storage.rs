//! Images, and the disks that nkudo made.

use clap::{Args, Subcommand};

use crate::host::{DiskName, SnapshotName, VmId};

use super::Configuration;

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
