//! What becomes of a host's network besides bridges and TAPs.

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;

use super::left_out::NetworksLeftOut;
use super::obstacle::Obstacle;
use super::text::HostStep;
use crate::host::{LinkName, NetworkName, Vlan};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkPlan {
    /// Networks that the rest of the plan does without.
    pub left_out: NetworksLeftOut,
    pub vlans: BTreeMap<LinkName, VlanStep>,
    /// Uplinks and VLANs' links that go into a bridge, or out of it.
    pub ports: BTreeMap<LinkName, PortStep>,
    /// Macvtaps of VMs that do not run.
    pub macvtaps: Vec<LinkName>,
    pub rules: RulesStep,
    pub sysctls: SysctlStep,
    pub dhcp: BTreeMap<NetworkName, DhcpStep>,
    /// What becomes of the file for NetworkManager, where that is there.
    pub network_manager: Option<NetworkManagerStep>,
    /// What somebody should know of, and what stops nothing.
    pub warnings: Vec<Warning>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VlanStep {
    /// One of the name that is there is removed first.
    Create {
        vlan: Vlan,
        uplink: LinkName,
    },
    SetUp,
    Remove,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortStep {
    Put { bridge: LinkName, whose: PortOwner },
    Release { bridge: String },
}

/// Who made a link that goes into a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortOwner {
    /// nkudo: a VLAN's.
    Nkudo,
    /// The host: it is noted that nkudo put it there.
    Host,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RulesStep {
    #[default]
    Keep,
    Load {
        text: String,
        why: RulesReason,
    },
    Remove,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RulesReason {
    /// There are none.
    Absent,
    /// Somebody changed them, or it is not known who loaded them.
    Damaged,
    /// Lines that go and lines that come.
    Changed { old: Vec<String>, new: Vec<String> },
}

/// Kernel settings, by their path below /proc/sys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SysctlStep {
    /// In this order.
    pub set: Vec<Sysctl>,
    /// What is noted as nkudo's afterwards; nothing where that stays as it is.
    pub note: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    pub name: String,
    /// Nothing for a link that is made by this plan.
    pub old: Option<String>,
    pub new: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DhcpStep {
    Start,
    /// With other arguments. Leases are kept.
    Restart,
    Stop,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkManagerStep {
    Keep,
    /// With this text.
    Write(String),
    Remove,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// Another table drops what networks need to be passed on.
    Dropped {
        chain: String,
        bridges: Vec<LinkName>,
    },
    /// A route by a gateway covers, or lies in, a network's prefix.
    Covered {
        bridge: LinkName,
        prefix: IpNet,
        route: IpNet,
        link: String,
    },
}

impl NetworkPlan {
    pub fn is_empty(&self) -> bool {
        self.vlans.is_empty()
            && self.ports.is_empty()
            && self.macvtaps.is_empty()
            && self.rules == RulesStep::Keep
            && self.sysctls == SysctlStep::default()
            && self.dhcp.is_empty()
            && matches!(self.network_manager, None | Some(NetworkManagerStep::Keep))
    }
}

impl NetworkPlan {
    /// Why a network is left out.
    pub fn why(&self, network: &NetworkName) -> String {
        let obstacles = self.left_out.get(network);
        said(obstacles.map_or(&[], Vec::as_slice))
    }

    /// In the order of the text.
    pub(super) fn host_steps(&self) -> Vec<HostStep> {
        let mut steps = Vec::new();
        let mut step = |kind, name: &dyn fmt::Display, action, text: String| {
            steps.push(HostStep {
                kind,
                name: name.to_string(),
                action,
                text,
            });
        };
        for network in self.left_out.keys() {
            let text = format!("network {network}: leave out: {}", self.why(network));
            step("network", network, "leave-out", text);
        }
        let action = match self.network_manager {
            Some(NetworkManagerStep::Write(_)) => Some("write"),
            Some(NetworkManagerStep::Remove) => Some("remove"),
            None | Some(NetworkManagerStep::Keep) => None,
        };
        if let Some(action) = action {
            let text = format!("NetworkManager file nkudo.conf: {action}");
            step("network-manager-file", &"nkudo.conf", action, text);
        }
        for (link, vlan) in &self.vlans {
            let (action, what) = match vlan {
                VlanStep::Create { vlan, uplink } => (
                    "create",
                    format!("create, VLAN {} of {uplink}", vlan.id.get()),
                ),
                VlanStep::SetUp => ("change", "set up".to_owned()),
                VlanStep::Remove => ("remove", "remove: no network has it any more".to_owned()),
            };
            step("link", link, action, format!("link {link}: {what}"));
        }
        for (link, port) in &self.ports {
            let (action, what) = match port {
                PortStep::Put { bridge, .. } => ("attach", format!("put into {bridge}")),
                PortStep::Release { bridge } => ("detach", format!("take out of {bridge}")),
            };
            step("link", link, action, format!("link {link}: {what}"));
        }
        for link in &self.macvtaps {
            let text = format!("macvtap {link}: remove: its VM does not run");
            step("link", link, "remove", text);
        }
        for sysctl in &self.sysctls.set {
            step("sysctl", &sysctl.name, "change", sysctl.to_string());
        }
        if let Some((action, text)) = self.rules.said() {
            step("rules", &"nkudo", action, text);
        }
        for (network, dhcp) in &self.dhcp {
            let (action, what) = match dhcp {
                DhcpStep::Start => ("start", "start"),
                DhcpStep::Restart => ("restart", "restart: what it hands out changed"),
                DhcpStep::Stop => ("stop", "stop: nobody needs it any more"),
            };
            let text = format!("DHCP server of network {network}: {what}");
            step("dhcp", network, action, text);
        }
        for warning in &self.warnings {
            let bridge = warning.bridge();
            step("warning", &bridge, "keep", format!("warning: {warning}"));
        }
        steps
    }
}

/// What stands in a network's way, where that is named already.
pub(crate) fn said(obstacles: &[Obstacle]) -> String {
    let texts: Vec<String> = obstacles.iter().map(Obstacle::without_subject).collect();
    texts.join("; ")
}

impl RulesStep {
    /// What it does, in a word and for people.
    fn said(&self) -> Option<(&'static str, String)> {
        let mut text = "firewall rules: ".to_owned();
        let action = match self {
            Self::Keep => return None,
            Self::Remove => {
                text.push_str("remove: no network needs them any more");
                "remove"
            }
            Self::Load { why, .. } => match why {
                RulesReason::Absent => {
                    text.push_str("load");
                    "load"
                }
                RulesReason::Damaged => {
                    text.push_str("load: they were changed by somebody else");
                    "load"
                }
                RulesReason::Changed { old, new } => {
                    text.push_str("change");
                    for (sign, lines) in [("-", old), ("+", new)] {
                        for line in lines {
                            text.push_str("\n    ");
                            text.push_str(sign);
                            text.push(' ');
                            text.push_str(line);
                        }
                    }
                    "change"
                }
            },
        };
        Some((action, text))
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, old, new } = self;
        let why = match new.as_str() {
            "0" => "no network needs it any more",
            "2" => "so that the host keeps its routes while it forwards IPv6",
            _ => "networks need it",
        };
        match old {
            Some(old) => write!(f, "kernel setting {name}: {old} → {new}: {why}"),
            None => write!(f, "kernel setting {name}: {new}: {why}"),
        }
    }
}

impl Warning {
    /// The bridge that it is about, or the first of them.
    fn bridge(&self) -> String {
        match self {
            Self::Dropped { bridges, .. } => bridges
                .first()
                .map_or_else(String::new, ToString::to_string),
            Self::Covered { bridge, .. } => bridge.to_string(),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dropped { chain, bridges } => {
                let names: Vec<&str> = bridges.iter().map(LinkName::as_str).collect();
                write!(
                    f,
                    "the {chain} drops what it does not accept, and packets to and from {} with it, \
                     unless it has rules of its own that accept them",
                    names.join(", ")
                )
            }
            Self::Covered {
                bridge,
                prefix,
                route,
                link,
            } => write!(
                f,
                "{prefix} of {bridge} overlaps the host's route to {route} over {link}: what is in \
                 both is reached over the narrower one"
            ),
        }
    }
}
