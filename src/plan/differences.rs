//! What of the host's networks is not as declared: what a switch would still do to them, in words.

use std::fmt;

use super::left_out::{LeftOut, NetworksLeftOut};
use super::network_plan::{DhcpStep, PortStep, RulesReason, RulesStep, VlanStep};
use super::obstacle::Obstacle;
use super::{Action, BridgeStep, Plan, Reason, Request, TapAmiss, draft, network_obstacle};
use crate::generation::Manifest;
use crate::host::{Host, LinkName, NetworkName};
use crate::network::Backend;
use crate::observe::Observed;

/// Something of a network that is not as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub about: About,
    pub what: String,
    /// Who makes bridges here.
    pub backend: Backend,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    Network(NetworkName),
    /// The server that hands out a network's addresses.
    Dhcp(NetworkName),
    Rules,
    Forwarding,
    /// Links of no network that is declared.
    Links,
}

/// What differs of the networks, as far as the request is about them, but for those that a plan has left out.
pub fn differences(
    wanted: &Manifest,
    observed: &Observed,
    request: &Request,
    left_out: &NetworksLeftOut,
) -> Vec<Difference> {
    let left_out = LeftOut::of(left_out);
    let plan = draft(&left_out, wanted, observed, request);
    let mut found = Found {
        host: &wanted.host,
        backend: plan.backend,
        all: Vec::new(),
    };
    found.bridges(&plan);
    found.links(&plan);
    found.taps(&plan);
    found.services(&plan);
    for obstacle in network_obstacle::obstacles(&plan, wanted, observed) {
        if !left_out.has(&obstacle) {
            found.obstacle(&obstacle);
        }
    }
    found.all
}

/// The networks that something stands in the way of now.
pub fn obstructed(wanted: &Manifest, observed: &Observed) -> NetworksLeftOut {
    let request = Request::what_is_left();
    let mut left_out = LeftOut::default();
    loop {
        let plan = draft(&left_out, wanted, observed, &request);
        let mut obstacles = network_obstacle::obstacles(&plan, wanted, observed);
        obstacles.retain(|obstacle| !left_out.has(obstacle));
        if obstacles.is_empty() {
            return left_out.networks;
        }
        for obstacle in &obstacles {
            left_out.add(obstacle);
        }
    }
}

struct Found<'a> {
    host: &'a Host,
    backend: Backend,
    all: Vec<Difference>,
}

impl Found<'_> {
    fn add(&mut self, about: About, what: String) {
        self.all.push(Difference {
            about,
            what,
            backend: self.backend,
        });
    }

    /// The network whose bridge or uplink a link is.
    fn of_link(&self, link: &LinkName) -> About {
        let mut networks = self.host.networks.iter();
        let found = networks.find(|(_, network)| {
            network.bridge() == Some(link)
                || network
                    .uplink()
                    .is_some_and(|uplink| uplink.port() == link || uplink.link == *link)
        });
        found.map_or(About::Links, |(name, _)| About::Network(name.clone()))
    }

    fn bridges(&mut self, plan: &Plan) {
        for (bridge, step) in &plan.bridges {
            let about = self.of_link(bridge);
            match step {
                BridgeStep::Create { .. } => {
                    self.add(about, format!("the bridge {bridge} is gone"));
                }
                BridgeStep::Change { add, remove, up } => {
                    if *up {
                        self.add(about.clone(), format!("the bridge {bridge} is down"));
                    }
                    for address in add {
                        let what = format!("the bridge {bridge} lacks {address}");
                        self.add(about.clone(), what);
                    }
                    for address in remove {
                        let what = format!("the bridge {bridge} has {address} besides");
                        self.add(about.clone(), what);
                    }
                }
                BridgeStep::Remove => {
                    let what = format!("the bridge {bridge} is there, and no network has it");
                    self.add(About::Links, what);
                }
                BridgeStep::KeepFor(_) => {}
            }
        }
        for (file, word) in plan
            .write_files
            .keys()
            .map(|file| (file, "not as declared"))
            .chain(plan.remove_files.iter().map(|file| (file, "one too many")))
        {
            self.add(About::Links, format!("networkd's file {file} is {word}"));
        }
    }

    fn links(&mut self, plan: &Plan) {
        for (link, step) in &plan.network.vlans {
            let word = match step {
                VlanStep::Create { .. } => "is gone, or another than is declared",
                VlanStep::SetUp => "is down",
                VlanStep::Remove => "is there, and no network has it",
            };
            let about = self.of_link(link);
            self.add(about, format!("the VLAN's link {link} {word}"));
        }
        for (link, step) in &plan.network.ports {
            match step {
                PortStep::Put { bridge, .. } => {
                    let about = self.of_link(bridge);
                    self.add(
                        about,
                        format!("the link {link} is not in {bridge}, or down"),
                    );
                }
                PortStep::Release { bridge } => {
                    let what = format!("the link {link} is in {bridge} still");
                    self.add(About::Links, what);
                }
            }
        }
        for link in &plan.network.macvtaps {
            let what = format!("the macvtap {link} is there, and its VM does not run");
            self.add(About::Links, what);
        }
    }

    fn taps(&mut self, plan: &Plan) {
        for attach in &plan.attach {
            let about = self.of_link(&attach.bridge);
            let (tap, bridge) = (&attach.tap, &attach.bridge);
            let what = match attach.amiss {
                TapAmiss::Elsewhere => format!("the TAP {tap} is not in {bridge} as it should be"),
                TapAmiss::Down => format!("the TAP {tap} is down"),
            };
            self.add(about, what);
        }
        for (id, step) in &plan.vms {
            if step.action != Action::Restart {
                continue;
            }
            for reason in &step.reasons {
                let (tap, word) = match reason {
                    Reason::TapGone(tap) => (tap, "is gone"),
                    Reason::OtherKindOfLink(tap) => (tap, "is of another kind, or on another link"),
                    _ => continue,
                };
                let vm = self.host.vms.get(id);
                let nic = vm.and_then(|vm| vm.nics.iter().find(|nic| nic.tap == *tap));
                let about = nic.map_or(About::Links, |nic| About::Network(nic.network.clone()));
                self.add(about, format!("the link {tap} of VM {id} {word}"));
            }
        }
    }

    fn services(&mut self, plan: &Plan) {
        match &plan.network.rules {
            RulesStep::Keep => {}
            RulesStep::Remove => self.add(
                About::Rules,
                "the firewall rules are there, and no network needs them".to_owned(),
            ),
            RulesStep::Load { why, .. } => {
                let word = match why {
                    RulesReason::Absent => "gone",
                    RulesReason::Damaged => "not as they were loaded: somebody changed them",
                    RulesReason::Changed { .. } => "those of another configuration",
                };
                self.add(About::Rules, format!("the firewall rules are {word}"));
            }
        }
        for sysctl in &plan.network.sysctls.set {
            let name = sysctl.name.replace('/', ".");
            let what = match &sysctl.old {
                Some(old) => format!("{name} is {old}, and has to be {}", sysctl.new),
                None => format!("{name} has to be {}", sysctl.new),
            };
            self.add(About::Forwarding, what);
        }
        for (network, step) in &plan.network.dhcp {
            let word = match step {
                DhcpStep::Start => "does not run",
                DhcpStep::Restart => "does not run, or hands out something else than is declared",
                DhcpStep::Stop => "runs, and no network needs it",
            };
            let what = format!("the DHCP server of network {network} {word}");
            self.add(About::Dhcp(network.clone()), what);
        }
    }

    fn obstacle(&mut self, obstacle: &Obstacle) {
        let about = match obstacle {
            Obstacle::Network { network, .. } => About::Network(network.clone()),
            Obstacle::NoNft { .. } | Obstacle::RulesRefused { .. } => About::Rules,
            _ => About::Links,
        };
        self.add(about, obstacle.without_subject());
    }
}

impl Difference {
    /// Who may have done it, after nkudo had just made it as declared.
    pub fn whose_hand(&self) -> String {
        match (&self.about, self.backend) {
            (About::Network(_) | About::Links, Backend::Networkd) => {
                "`networkctl status` names the .network file that holds for a link: one of /etc/systemd/network goes before nkudo's"
                    .to_owned()
            }
            (About::Network(_) | About::Links, Backend::Netlink) => {
                "`ip monitor` shows who changes links: what manages the host's has to leave those that begin with `nk` alone".to_owned()
            }
            (About::Rules, _) => {
                "`nft monitor` shows who changes them: a firewall has to flush its own tables alone, not the whole ruleset".to_owned()
            }
            (About::Forwarding, _) => {
                "`grep -r forward /etc/sysctl.d /etc/sysctl.conf` and networkd's `IPv4Forwarding=` set it too".to_owned()
            }
            (About::Dhcp(network), _) => format!("`journalctl -u nkudo-dhcp@{network}` says why"),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}
