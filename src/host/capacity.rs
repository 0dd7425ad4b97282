//! What the host has for VMs.

use std::collections::BTreeMap;

use super::Size;

/// Each `None` is what could not be found out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capacity {
    pub memory: Option<Size>,
    pub cpus: Option<u32>,
    /// How many huge pages the kernel keeps, by their size.
    pub hugepages: BTreeMap<Size, u64>,
}
