//! Network links: what rtnetlink and the TUN driver do for nkudo.

mod messages;
mod netlink;
mod tap;

pub use netlink::{LinkError, Netlink};
pub use tap::{open_macvtap, open_tap};
