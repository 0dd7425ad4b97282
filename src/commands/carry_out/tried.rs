//! What a run has found out by trying, and no look at the host can tell.

use std::collections::BTreeMap;

use crate::apply::NotMade;
use crate::host::{Host, NetworkName};
use crate::observe::{Observed, Rules};
use crate::plan::{OnFailure, OnObstacle, Plan, Request, Switch};

#[derive(Debug, Default)]
pub(super) struct Tried {
    /// Networks that could not be made, and why.
    not_made: BTreeMap<NetworkName, String>,
    /// Why the firewall rules were refused.
    refused: Option<String>,
}

impl Tried {
    /// Whether there is more to do without the networks that could not be made: what is asked for then.
    pub(super) fn goes_on(
        &mut self,
        not_made: &NotMade,
        plan: &Plan,
        request: &Request,
        host: &Host,
    ) -> Option<Request> {
        let all = || crate::network::with_rules(host);
        let (networks, request) = match not_made {
            NotMade::Networks(networks) => (networks.keys().cloned().collect(), request.clone()),
            NotMade::RulesRefused(_) => (all(), request.clone()),
            NotMade::RulesNotLoaded(_) => (all(), after_stops(request)),
        };
        let is_new = networks
            .iter()
            .any(|network| !plan.network.left_out.contains_key(network));
        if !is_new || !request.goes_on_without_networks(&networks, host) {
            return None;
        }
        match not_made {
            NotMade::Networks(networks) => self.not_made.extend(networks.clone()),
            NotMade::RulesRefused(why) | NotMade::RulesNotLoaded(why) => {
                self.refused = Some(why.clone());
            }
        }
        Some(request)
    }

    pub(super) fn add_to(&self, observed: &mut Observed) {
        observed.network.not_made.clone_from(&self.not_made);
        if let Some(why) = &self.refused {
            observed.network.rules = Rules::Refused(why.clone());
        }
    }
}

/// VMs have stopped by then: those that need no rules are started again.
fn after_stops(request: &Request) -> Request {
    match request {
        Request::Switch(switch) if switch.on_failure == OnFailure::GoOn => {
            Request::Switch(Switch {
                on_obstacle: OnObstacle::LeaveOut,
                ..switch.clone()
            })
        }
        other => other.clone(),
    }
}
