//! What a plan does without: VMs and networks that something stands in the way of.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::network::is_our_bridge;
use super::obstacle::{Obstacle, Whom};
use super::{Action, Reason, VmStep};
use crate::host::{Host, Network, NetworkName, VmId};
use crate::network;
use crate::observe::Observed;

/// Networks that are left as they are, and why: nothing of them is made, changed or removed.
pub type NetworksLeftOut = BTreeMap<NetworkName, Vec<Obstacle>>;

#[derive(Debug, Default)]
pub(super) struct LeftOut {
    vms: BTreeMap<VmId, Vec<Obstacle>>,
    pub(super) networks: NetworksLeftOut,
}

impl LeftOut {
    pub(super) fn of(networks: &NetworksLeftOut) -> Self {
        Self {
            vms: BTreeMap::new(),
            networks: networks.clone(),
        }
    }

    /// Whether the plan does without all of those whose way it stands in.
    pub(super) fn has(&self, obstacle: &Obstacle) -> bool {
        match obstacle.whom() {
            Whom::Host => false,
            Whom::Networks(networks) => networks
                .iter()
                .all(|network| self.networks.contains_key(network)),
            Whom::Vms(vms) => vms.iter().all(|id| self.vms.contains_key(id)),
        }
    }

    pub(super) fn add(&mut self, obstacle: &Obstacle) {
        match obstacle.whom() {
            Whom::Host => {}
            Whom::Networks(networks) => {
                for network in networks {
                    let all = self.networks.entry(network).or_default();
                    all.push(obstacle.clone());
                }
            }
            Whom::Vms(vms) => {
                for id in vms {
                    self.vms.entry(id).or_default().push(obstacle.clone());
                }
            }
        }
    }

    /// Leaves the VMs as they are, and those that would have to start on such a network. One that runs there runs on.
    pub(super) fn leave(&self, steps: &mut BTreeMap<VmId, VmStep>, host: &Host) {
        let mut reasons: BTreeMap<VmId, Vec<Reason>> = BTreeMap::new();
        for (id, obstacles) in &self.vms {
            let obstacles = obstacles.iter().cloned().map(Box::new);
            reasons.insert(id.clone(), obstacles.map(Reason::Obstacle).collect());
        }
        for (id, step) in &*steps {
            if !matches!(step.action, Action::Start | Action::Restart) {
                continue;
            }
            for (network, obstacles) in &self.networks {
                if is_on(id, network, host) {
                    let reason = Reason::NoNetwork(network.clone(), obstacles.clone());
                    reasons.entry(id.clone()).or_default().push(reason);
                }
            }
        }
        for (id, reasons) in reasons {
            steps.insert(id, VmStep::new(Action::Nothing, reasons));
        }
    }

    /// Whether rules cannot be loaded, so that those that there are stay.
    pub(super) fn rules(&self) -> bool {
        let is_rules =
            |one: &Obstacle| matches!(one, Obstacle::NoNft { .. } | Obstacle::RulesRefused { .. });
        self.networks.values().flatten().any(is_rules)
    }
}

/// Whether a VM has a NIC on a network.
pub(super) fn is_on(id: &VmId, network: &NetworkName, host: &Host) -> bool {
    let vm = host.vms.get(id);
    vm.is_some_and(|vm| vm.nics.iter().any(|nic| nic.network == *network))
}

/// A host as a plan for its networks goes by it.
pub(super) struct Hosts<'a> {
    /// With all networks: nothing of them is removed.
    pub(super) declared: &'a Host,
    /// Without those that are left out.
    pub(super) made: Cow<'a, Host>,
    /// With those of them that something is there of: a bridge of nkudo's, a VM that runs. They are in the rules, and in
    /// what others are told. The rules of another would apply to a link or to addresses that are somebody else's.
    pub(super) kept: Cow<'a, Host>,
}

impl<'a> Hosts<'a> {
    /// Whether a bridge is of a network that is left out: what is in it stays.
    pub(super) fn leaves(&self, bridge: &str) -> bool {
        let mut networks = self.declared.networks.iter();
        networks.any(|(name, network)| {
            let own = network.own();
            own.is_some_and(|own| own.name.as_str() == bridge)
                && !self.made.networks.contains_key(name)
        })
    }

    pub(super) fn of(declared: &'a Host, left_out: &NetworksLeftOut, observed: &Observed) -> Self {
        if left_out.is_empty() {
            return Self {
                declared,
                made: Cow::Borrowed(declared),
                kept: Cow::Borrowed(declared),
            };
        }
        let with = |keep: &dyn Fn(&NetworkName, &Network) -> bool| {
            let mut host = declared.clone();
            host.networks.retain(|name, network| keep(name, network));
            Cow::Owned(host)
        };
        let made = |name: &NetworkName| !left_out.contains_key(name);
        Self {
            declared,
            made: with(&|name, _| made(name)),
            kept: with(&|name, network| made(name) || is_there(name, network, declared, observed)),
        }
    }
}

/// The rules that there are to be, where these networks are left out.
pub(crate) fn rules_without(
    host: &Host,
    left_out: &NetworksLeftOut,
    observed: &Observed,
) -> Option<String> {
    network::rules(&Hosts::of(host, left_out, observed).kept)
}

fn is_there(name: &NetworkName, network: &Network, host: &Host, observed: &Observed) -> bool {
    let bridge = network.own().is_some_and(|own| {
        let link = observed.links.get(own.name.as_str());
        link.is_some_and(|link| is_our_bridge(&own.name, link))
    });
    bridge || observed.units.keys().any(|id| is_on(id, name, host))
}
