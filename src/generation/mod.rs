//! A generation: everything that a configuration leads to, as a tree of files in memory.
//!
//! Rendering is a function of its input: the same configuration and the same programs give the
//! same bytes. `manifest.json` is what nkudo itself reads again; the other files are for people,
//! for `systemd-analyze verify` and for `diff`.

mod gc_roots;
mod manifest;
mod render;
mod store;
mod store_paths;

pub use gc_roots::{GcRoots, Unneeded};
pub use manifest::{Input, Manifest, Origin, Record, Role};
pub use render::{Generation, Rendering, vm_digest};
pub use store::{Current, Store, StoreError, Stored, Unreadable};
pub use store_paths::{StorePath, paths, paths_of_disk};
