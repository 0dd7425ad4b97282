//! What a switch will do, and why: a function of the wanted generation and of what was observed.
//!
//! `diff` and `switch --dry-run` print it; `apply` obeys it and decides nothing.

#![deny(clippy::disallowed_methods)]

mod change;
mod differences;
mod json;
mod left_out;
mod live;
mod needs;
mod network;
mod network_obstacle;
mod network_plan;
mod obstacle;
mod pci;
mod request;
mod services;
mod storage;
mod text;
mod tuning;
mod uplink;
mod vm;
mod waves;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use ipnet::IpNet;

use crate::generation::Manifest;
use crate::host::{DiskName, Isolation, LinkName, NetworkName, PciAddress, Vm, VmId};
use crate::network::Backend;
use crate::observe::{HeldBy, Networkd, Observed};

pub use change::{Change, Cost, changes};
pub use differences::{About, Difference, differences, obstructed};
pub use json::{PlanDocument, obstacles_document};
pub use left_out::NetworksLeftOut;
pub(crate) use left_out::rules_without;
use left_out::{Hosts, LeftOut};
pub use live::Live;
pub(crate) use network::{backend, is_our_bridge};
pub use network_obstacle::NetworkObstacle;
pub(crate) use network_plan::said;
pub use network_plan::{
    DhcpStep, NetworkManagerStep, NetworkPlan, PortOwner, PortStep, RulesReason, RulesStep, Sysctl,
    SysctlStep, VlanStep, Warning,
};
pub use obstacle::{Obstacle, Whom};
pub use pci::PciStep;
pub use request::{OnFailure, OnObstacle, Pending, Request, Switch};
pub(crate) use services::{defaults, forwarding};
pub use storage::{DiskStep, GrowWhen, ImageStep, KernelStep, differs_from_made};
pub use tuning::{TuningPlan, TuningStep, TuningWhy};
pub(crate) use uplink::is_our_vlan;
pub use vm::upgrades;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub backend: Backend,
    /// Whether networkd is there to be told of its files.
    pub networkd: Networkd,
    /// By VM; those with nothing to do are in it too, with the reason why not.
    pub vms: BTreeMap<VmId, VmStep>,
    /// What stops, in the order in which it does; the VMs of one wave at the same time.
    pub stop: Vec<Vec<VmId>>,
    /// What starts, or is starting already, likewise.
    pub start: Vec<Vec<VmId>>,
    pub bridges: BTreeMap<LinkName, BridgeStep>,
    /// TAPs of running VMs that belong into another bridge than they are in, or that are down.
    pub attach: Vec<Attach>,
    /// Files for networkd to write: name and text.
    pub write_files: BTreeMap<String, String>,
    pub remove_files: Vec<String>,
    /// How many VMs start, or stop, at the same time.
    pub at_once: NonZeroUsize,
    pub on_failure: OnFailure,
    pub on_obstacle: OnObstacle,
    /// What the image store gets before anything is stopped.
    pub images: Vec<ImageStep>,
    /// Kernels that are taken out of images then.
    pub kernels: Vec<KernelStep>,
    /// What becomes of disks, and what somebody should know of them.
    pub disks: BTreeMap<(VmId, DiskName), DiskStep>,
    /// Devices that VMs take from the host, and that it gets back.
    pub pci: BTreeMap<PciAddress, PciStep>,
    pub network: NetworkPlan,
    pub tuning: TuningPlan,
    /// Files of the administrator that change units, and of which VMs: they are left alone.
    pub drop_ins: BTreeMap<String, BTreeSet<VmId>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmStep {
    pub action: Action,
    pub reasons: Vec<Reason>,
    /// What is done to it while it runs.
    pub live: Vec<Live>,
    /// What it is after that, where that is not what its booted specification says.
    pub becomes: Option<Box<Vm>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Its unit is not loaded, or only what is left of one that failed.
    Start,
    Stop,
    Restart,
    /// It is starting as declared; the switch is done when that is.
    Wait,
    /// It runs on, and changes while it does.
    Live,
    /// It runs on, or stays stopped.
    Nothing,
    /// It runs on; what changed takes effect when it is restarted.
    Pending,
    /// It does not run any more; what it left in /run/nkudo goes.
    Clean,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It does not run.
    NotRunning,
    /// It is in no file any more.
    Undeclared,
    Changed(Vec<Change>),
    /// Its unit failed; systemd's `Result`.
    Failed(String),
    /// It failed, and waits for systemd's next try; how often that tried.
    Failing(u32),
    /// It is in the middle of its start.
    Starting,
    /// Somebody else is stopping it at this moment.
    BeingStopped,
    /// Somebody stopped it.
    Held(HeldBy),
    /// `autostart = false`.
    NotAutostarted,
    /// It is not known what it was started from.
    SpecificationLost,
    /// A TAP that it has should have is not there.
    TapGone(LinkName),
    /// Somebody changed limits of its unit: what they are, and what they should be.
    Drifted(Vec<Change>),
    /// It runs with another hypervisor or nkudo than there is by now.
    Upgraded {
        what: &'static str,
        old: String,
        new: String,
    },
    /// This nkudo makes another unit of the same specification.
    OtherUnit,
    /// A NIC goes from a bridge to a macvtap, or back, or to another uplink.
    OtherKindOfLink(LinkName),
    /// The command line says so.
    Asked,
    /// Something stands in its way.
    Obstacle(Box<Obstacle>),
    /// It would start on a network that is left out, and why that is.
    NoNetwork(NetworkName, Vec<Obstacle>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BridgeStep {
    Create {
        addresses: Vec<IpNet>,
    },
    Change {
        add: Vec<IpNet>,
        remove: Vec<IpNet>,
        /// It is to be set up.
        up: bool,
    },
    Remove,
    /// It is in no file any more, and kept for the links in it that are not nkudo's.
    KeepFor(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    pub tap: LinkName,
    pub bridge: LinkName,
    pub isolation: Isolation,
    pub amiss: TapAmiss,
}

/// What is wrong with a TAP that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapAmiss {
    /// It is in another bridge, in none, or in its own in another way.
    Elsewhere,
    /// It is where it belongs, and somebody set it down.
    Down,
}

impl Plan {
    /// Whether the host is already as it should be.
    pub fn is_empty(&self) -> bool {
        self.vms.values().all(VmStep::is_idle)
            && self
                .bridges
                .values()
                .all(|step| matches!(step, BridgeStep::KeepFor(_)))
            && self.attach.is_empty()
            && self.write_files.is_empty()
            && self.remove_files.is_empty()
            && self.network.is_empty()
            && self.tuning.is_empty()
            && self.images.is_empty()
            && self.kernels.is_empty()
            && self.pci.is_empty()
            && !self.disks.values().any(DiskStep::is_done_now)
    }

    /// The VMs that something is done to, or to a disk or device of theirs.
    pub fn touched(&self) -> BTreeSet<&VmId> {
        let vms = self.vms.iter().filter(|(_, step)| !step.is_idle());
        let disks = self.disks.iter().filter(|(_, step)| step.is_done_now());
        let pci = self.pci.values().map(|step| match step {
            PciStep::Take { vm, .. } | PciStep::GiveBack { vm, .. } => vm,
        });
        let disks = disks.map(|((id, _), _)| id);
        vms.map(|(id, _)| id).chain(disks).chain(pci).collect()
    }

    /// The VMs whose guests are interrupted.
    pub fn interrupted(&self) -> Vec<&VmId> {
        let interrupts = |step: &VmStep| {
            matches!(step.action, Action::Stop | Action::Restart) && !step.is_down()
        };
        let steps = self.vms.iter().filter(|(_, step)| interrupts(step));
        steps.map(|(id, _)| id).collect()
    }

    /// How many VMs are stopped, started or changed, each counted as often.
    pub fn pieces(&self) -> usize {
        let live = self
            .vms
            .values()
            .filter(|step| !step.live.is_empty() || step.becomes.is_some());
        let waves = self.stop.iter().chain(&self.start).map(Vec::len);
        waves.sum::<usize>() + live.count()
    }

    /// Whether units' texts are written anew, for systemd to read.
    pub fn writes_units(&self) -> bool {
        self.vms
            .values()
            .any(|step| step.live.contains(&Live::Unit))
    }

    /// The VMs that are left as they are because something stands in their way, and what does.
    pub fn left_out(&self) -> impl Iterator<Item = (&VmId, Vec<&Reason>)> {
        let stands_in_the_way =
            |reason: &&Reason| matches!(reason, Reason::Obstacle(_) | Reason::NoNetwork(..));
        let steps = self.vms.iter().map(move |(id, step)| {
            let reasons = step.reasons.iter().filter(stands_in_the_way);
            (id, reasons.collect::<Vec<_>>())
        });
        steps.filter(|(_, reasons)| !reasons.is_empty())
    }

    /// The VMs with this action.
    pub fn vms_to(&self, action: Action) -> impl Iterator<Item = &VmId> {
        self.vms
            .iter()
            .filter(move |(_, step)| step.action == action)
            .map(|(id, _)| id)
    }
}

impl VmStep {
    /// Whether nothing is done to it.
    fn is_idle(&self) -> bool {
        matches!(self.action, Action::Pending | Action::Nothing)
            && self.live.is_empty()
            && self.becomes.is_none()
    }

    /// Whether it stays stopped because somebody stopped it.
    fn is_held(&self) -> bool {
        let held = |reason: &Reason| matches!(reason, Reason::Held(_));
        self.reasons.iter().any(held)
    }

    /// Whether it is down by itself, so that stopping or restarting it takes nothing from anybody.
    fn is_down(&self) -> bool {
        self.reasons
            .iter()
            .any(|reason| matches!(reason, Reason::Failing(_) | Reason::BeingStopped))
    }
}

/// The order in which all VMs that run stop, each in an earlier wave than those it came after.
pub fn stop_order(observed: &Observed) -> Vec<Vec<VmId>> {
    let steps = observed.units.keys().map(|id| {
        let step = VmStep::new(Action::Stop, vec![Reason::Asked]);
        (id.clone(), step)
    });
    waves::stop(&steps.collect(), observed, &Request::switch())
}

/// Makes the plan, or says everything that stands in its way.
pub fn plan(
    wanted: &Manifest,
    observed: &Observed,
    request: &Request,
) -> Result<Plan, Vec<Obstacle>> {
    let mut left_out = LeftOut::default();
    loop {
        let plan = draft(&left_out, wanted, observed, request);
        let mut obstacles = obstacle::obstacles(&plan, wanted, observed, request);
        // Some are there whatever becomes of the VM or the network.
        obstacles.retain(|obstacle| !left_out.has(obstacle));
        if obstacles.is_empty() {
            return Ok(plan);
        }
        if !obstacles
            .iter()
            .all(|obstacle| request.goes_on_without(obstacle, &wanted.host))
        {
            return Err(obstacles);
        }
        // What one VM does not get, another may.
        for obstacle in &obstacles {
            left_out.add(obstacle);
        }
    }
}

/// The plan without these VMs and networks, whatever stands in its way.
fn draft(left_out: &LeftOut, wanted: &Manifest, observed: &Observed, request: &Request) -> Plan {
    let backend = network::backend(&wanted.host, observed);
    let mut vms = vm::steps(wanted, observed, request);
    left_out.leave(&mut vms, &wanted.host);
    let hosts = Hosts::of(&wanted.host, &left_out.networks, observed);
    let mut plan = Plan {
        drop_ins: vm::drop_ins(&vms, observed),
        backend,
        networkd: observed.networkd,
        stop: waves::stop(&vms, observed, request),
        start: waves::start(&vms, wanted, request),
        vms,
        at_once: request.at_once(),
        on_failure: request.on_failure(),
        on_obstacle: request.on_obstacle(),
        bridges: BTreeMap::new(),
        attach: Vec::new(),
        write_files: BTreeMap::new(),
        remove_files: Vec::new(),
        images: Vec::new(),
        kernels: Vec::new(),
        disks: BTreeMap::new(),
        pci: BTreeMap::new(),
        network: NetworkPlan {
            left_out: left_out.networks.clone(),
            ..NetworkPlan::default()
        },
        tuning: TuningPlan::default(),
    };
    storage::steps(&mut plan, wanted, observed, request);
    pci::steps(&mut plan, wanted, observed, request);
    network::steps(&mut plan, &hosts, observed, request);
    uplink::steps(&mut plan, &hosts, observed, request);
    services::steps(&mut plan, &hosts, left_out, observed, request);
    tuning::steps(&mut plan, &wanted.host.tuning, &observed.tuning, request);
    plan
}
