//! A network: a bridge, and what the host has on it.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{LinkName, Mac};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Network {
    pub bridge: LinkName,
    /// The host's own addresses on the bridge, each with its prefix length, in the file's order.
    pub address: Vec<IpNet>,
}

impl Network {
    /// The Ethernet address of a bridge that nkudo made.
    ///
    /// It follows from the link's name alone, so it is there from the moment the link is, and
    /// tells a bridge of nkudo's from one of somebody else's, whichever backend made it, without
    /// a record to disagree. It also keeps the bridge's address from following its ports' as
    /// they come and go, which is what the kernel does with a bridge that was given none.
    pub fn bridge_mac(bridge: &LinkName) -> Mac {
        Mac::derived("bridge", bridge.as_str())
    }
}
