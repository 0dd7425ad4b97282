//! What is on or off.

use serde::{Deserialize, Serialize};

/// What a field says that nothing else is to be said of. It is off where nobody says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnOff {
    #[default]
    Off,
    On,
}

impl OnOff {
    pub const fn of(wanted: bool) -> Self {
        if wanted { Self::On } else { Self::Off }
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde calls it with a reference"
    )]
    pub(super) fn is_off(&self) -> bool {
        *self == Self::Off
    }
}
