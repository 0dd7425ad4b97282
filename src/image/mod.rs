//! The image store: `<state-dir>/images/`.
//!
//! A file of it is named by its source's checksum and by what was made of that, so the same name is the same
//! content, and one that is there is whole. What is being fetched is `.<sha256>.partial` until its checksum is
//! right: a fetch that was interrupted goes on where it stopped.

mod certificate;
mod fetch;
pub mod inside;
mod kernel;
mod progress;
mod proxy;
pub mod qemu;
mod sandbox;
mod sparse;
mod store;
mod unpack;
mod verify;

pub use fetch::{FetchError, Patience, fetch};
pub use progress::Progress;
pub use store::{PARTIAL, Store};
pub use verify::{VerifyError, verify};
