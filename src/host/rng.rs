//! Where the random numbers of a guest's virtio-rng are from.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A device of the host that is read from whenever the guest asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RngSource {
    /// cloud-hypervisor's own default.
    #[default]
    #[serde(rename = "/dev/urandom")]
    Urandom,
    #[serde(rename = "/dev/random")]
    Random,
    /// The host's hardware, without the kernel's generator in between (hwrng(4)). Root's alone, as the kernel makes it.
    #[serde(rename = "/dev/hwrng")]
    Hardware,
}

impl RngSource {
    pub const ALL: [Self; 3] = [Self::Urandom, Self::Random, Self::Hardware];

    pub const fn path(self) -> &'static str {
        match self {
            Self::Urandom => "/dev/urandom",
            Self::Random => "/dev/random",
            Self::Hardware => "/dev/hwrng",
        }
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde calls it with a reference"
    )]
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for RngSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())
    }
}
