//! nkudo makes a Linux host be what one TOML file says of its virtual machines.
//!
//! The modules, in the order in which data flows through them:
//!
//! ```text
//! TOML text ──► config ──► host ──► generation          pure
//!                                       │
//! systemd, netlink, store ──► observed ─┤
//!                                       ▼
//!                                     plan              pure
//!                                       ▼
//!                            apply ──► outcome ──► report
//! ```

pub mod apply;
pub mod boot_file;
pub mod booted;
pub mod cli;
pub mod collect;
pub mod commands;
pub mod config;
pub mod connections;
pub mod console;
pub mod diagnosis;
pub mod disk;
pub mod doctor;
pub mod document;
pub mod files;
pub mod generation;
pub mod host;
pub mod hypervisor;
pub mod image;
pub mod interruption;
pub mod journal;
pub mod link;
pub mod machined;
pub mod network;
pub mod network_status;
pub mod nft;
pub mod observe;
pub mod pci;
pub mod plan;
pub mod programs;
pub mod seed;
pub mod snapshot;
pub mod status;
pub mod steps;
pub mod systemd;
pub mod talk;
pub mod tuning;
pub mod unit;
pub mod vmm;
pub mod vsock;
