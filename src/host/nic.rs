//! A VM's network card.

use serde::{Deserialize, Serialize};

use super::{LinkName, Mac, NetworkName};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Nic {
    pub network: NetworkName,
    /// The guest's Ethernet address.
    pub mac: Mac,
    /// The host's end. Derived from the VM's id and the NIC's place in the file.
    pub tap: LinkName,
}
