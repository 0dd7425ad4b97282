//! `[network.<name>]`.

use schemars::JsonSchema;

use super::value::{Cidr, LinkName};

/// A network is a bridge of the host, which VMs' NICs are on. A bridge that does not exist is made;
/// one that does and is not nkudo's is used as it is.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NetworkTable {
    /// The bridge's name.
    ///
    /// It cannot begin with `nkt-`, which VMs' own links do. Two networks cannot have one bridge.
    ///
    /// Default: `nk-<name>`; a hash in place of a name of more than 12 characters
    /// Example: `bridge = "br0"`
    /// Becomes: `Name=` in systemd.netdev(5)
    pub bridge: Option<LinkName>,

    /// The host's own addresses on the bridge.
    ///
    /// Not the network's own address (`192.168.100.0/24`). The prefixes of two networks cannot overlap.
    ///
    /// Default: `[]`
    /// Example: `address = ["192.168.100.1/24", "fd00:100::1/64"]`
    /// Becomes: `Address=` in systemd.network(5)
    pub address: Option<Vec<Cidr>>,
}
