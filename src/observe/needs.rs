//! What VMs need of the host before they can start, beside what nkudo makes for them.

use std::collections::BTreeMap;
use std::fs;

use camino::{Utf8Path, Utf8PathBuf};

use super::capacity::{meminfo, page_size};
use crate::files;
use crate::host::{Host, HugePages, Needed, Size, Vm};

/// Where the kernel has a directory for each size of huge pages.
const HUGEPAGES: &str = "/sys/kernel/mm/hugepages";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Files that a VM cannot do without and that are not there, or not what they have to be, with the reason.
    pub missing: BTreeMap<Utf8PathBuf, String>,
    /// By the size of their pages.
    pub hugepages: BTreeMap<Size, PagePool>,
    /// The size of those that nobody names a size for.
    pub default_hugepage: Option<Size>,
}

/// The kernel's huge pages of one size (Documentation/admin-guide/mm/hugetlbpage.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PagePool {
    /// All that there are, those beyond what was asked for among them.
    pub total: u64,
    pub free: u64,
    /// Of those that are free: promised to somebody.
    pub reserved: u64,
    /// How many more may be made of ordinary memory when somebody asks.
    pub more: u64,
}

/// Looks for the files of all VMs, and at huge pages where a VM has them.
pub fn needs(host: &Host) -> Needs {
    let images = host.state_dir.as_path().join("images");
    let mut missing = BTreeMap::new();
    for (what, path) in host.vms.values().flat_map(Vm::needed) {
        // A switch fetches those.
        if !path.starts_with(&images)
            && let Some(why) = amiss(&what, path)
        {
            missing.insert(path.to_owned(), why);
        }
    }
    let has_huge_pages = |vm: &Vm| vm.memory.hugepages != HugePages::Off;
    if !host.vms.values().any(has_huge_pages) {
        return Needs {
            missing,
            ..Needs::default()
        };
    }
    Needs {
        missing,
        hugepages: page_pools(),
        default_hugepage: default_hugepage(),
    }
}

fn amiss(what: &Needed, path: &Utf8Path) -> Option<String> {
    match (fs::metadata(path), what) {
        (Err(err), _) => Some(err.to_string()),
        (Ok(file), Needed::Share(_)) if !file.is_dir() => Some("it is no directory".to_owned()),
        (Ok(_), _) => None,
    }
}

/// The size that nobody names.
pub fn default_hugepage() -> Option<Size> {
    meminfo("Hugepagesize:")
}

/// All that the kernel has. What cannot be read counts as none.
pub fn page_pools() -> BTreeMap<Size, PagePool> {
    let directory = Utf8Path::new(HUGEPAGES);
    let mut pools = BTreeMap::new();
    for name in files::names(directory).unwrap_or_default() {
        let Some(size) = page_size(&name) else {
            continue;
        };
        let read = |file: &str| -> u64 {
            let text = fs::read_to_string(directory.join(&name).join(file));
            text.ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(0)
        };
        let pool = PagePool {
            total: read("nr_hugepages"),
            free: read("free_hugepages"),
            reserved: read("resv_hugepages"),
            more: read("nr_overcommit_hugepages").saturating_sub(read("surplus_hugepages")),
        };
        pools.insert(size, pool);
    }
    pools
}
