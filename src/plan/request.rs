//! What is asked for: what is to become of the host, or of one VM.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use super::left_out::is_on;
use super::obstacle::{Obstacle, Whom};
use crate::host::{Host, NetworkName, VmId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Switch(Switch),
    /// One VM, and what it needs; whether it is held or not started by a switch does not matter.
    Start(VmId),
    Stop(VmId),
    Restart(VmId),
}

/// Everything is to be as the generation says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    /// Only these VMs, and what they need; `None` is all of the host.
    pub only: Option<BTreeSet<VmId>>,
    pub pending: Pending,
    /// How many VMs restart at the same time, one such group after the other; `None` stops all of
    /// them before the first starts.
    pub restart_limit: Option<NonZeroUsize>,
    pub on_failure: OnFailure,
    pub on_obstacle: OnObstacle,
    /// How many VMs start, or stop, at the same time.
    pub at_once: NonZeroUsize,
}

/// What becomes of changes that wait for a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pending {
    Leave,
    /// The VMs that they wait for are restarted now.
    CarryOut,
}

/// What becomes of the rest when a VM fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    GoOn,
    /// No further VM is stopped, changed or started.
    Stop,
}

/// What becomes of the rest when something stands in the way of some VMs or networks alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnObstacle {
    /// Nothing is changed at all, unless all that is wrong is a file that is missing.
    Refuse,
    /// They are left as they are: at a boot nobody is there to mend it.
    LeaveOut,
}

/// Enough to hide the waiting, and far from the bus's limits (128 calls of one client).
const AT_ONCE: NonZeroUsize = NonZeroUsize::new(16).unwrap();

impl Default for Switch {
    fn default() -> Self {
        Self {
            only: None,
            pending: Pending::Leave,
            restart_limit: None,
            on_failure: OnFailure::GoOn,
            on_obstacle: OnObstacle::Refuse,
            at_once: AT_ONCE,
        }
    }
}

impl Request {
    /// A switch of all of the host, as it is without options.
    pub fn switch() -> Self {
        Self::Switch(Switch::default())
    }

    /// A look at what there is still to do, whatever stands in the way of some VMs and networks.
    pub fn what_is_left() -> Self {
        Self::Switch(Switch {
            on_obstacle: OnObstacle::LeaveOut,
            ..Switch::default()
        })
    }

    pub(super) fn on_obstacle(&self) -> OnObstacle {
        match self {
            Self::Switch(switch) => switch.on_obstacle,
            _ => OnObstacle::Refuse,
        }
    }

    /// Whether those whose way it stands in are left out, and all else is done.
    pub(super) fn goes_on_without(&self, obstacle: &Obstacle, host: &Host) -> bool {
        match obstacle.whom() {
            Whom::Host => false,
            Whom::Networks(networks) => self.goes_on_without_networks(&networks, host),
            Whom::Vms(_) => {
                self.on_obstacle() == OnObstacle::LeaveOut || obstacle.fails_its_vm_alone()
            }
        }
    }

    /// Likewise. What is asked for some VMs alone does not depend on the networks of others.
    pub fn goes_on_without_networks(&self, networks: &BTreeSet<NetworkName>, host: &Host) -> bool {
        let needs = |id: &VmId| networks.iter().any(|network| is_on(id, network, host));
        match self {
            Self::Switch(Switch {
                on_obstacle: OnObstacle::LeaveOut,
                ..
            }) => true,
            Self::Switch(Switch { only: None, .. }) => false,
            Self::Switch(Switch {
                only: Some(only), ..
            }) => !only.iter().any(needs),
            Self::Start(id) | Self::Restart(id) | Self::Stop(id) => !needs(id),
        }
    }

    pub(super) fn at_once(&self) -> NonZeroUsize {
        match self {
            Self::Switch(switch) => switch.at_once,
            _ => AT_ONCE,
        }
    }

    pub(super) fn on_failure(&self) -> OnFailure {
        match self {
            Self::Switch(switch) => switch.on_failure,
            _ => OnFailure::GoOn,
        }
    }

    pub(super) fn restart_limit(&self) -> Option<NonZeroUsize> {
        match self {
            Self::Switch(switch) => switch.restart_limit,
            _ => None,
        }
    }

    /// Whether it is about all that there is on the host, so that what nobody needs any more goes.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Self::Switch(Switch { only: None, .. }))
    }
}
