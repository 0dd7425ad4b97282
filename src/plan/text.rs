//! A plan for people to read.

use std::fmt::{self, Write as _};

use serde::Serialize;

use super::{
    Action, Attach, BridgeStep, Change, Cost, DiskStep, GrowWhen, PciStep, Plan, Reason, TapAmiss,
    VmStep, network_plan,
};
use crate::host::{DiskOrigin, Isolation, Location, VmId};
use crate::observe::HeldBy;

/// One thing that a plan does to the host, not to a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct HostStep {
    /// What it is about: `network`, `bridge`, `tap`, `networkd-file`, `pci`, `systemd`.
    pub(super) kind: &'static str,
    pub(super) name: String,
    /// `create`, `change`, `remove`, `keep`, `attach`, `write`, `reload`.
    pub(super) action: &'static str,
    /// For people; one or more lines.
    pub(super) text: String,
}

impl Plan {
    /// What it does to the host, in the order of the text.
    pub(super) fn host_steps(&self) -> Vec<HostStep> {
        let mut steps = self.storage_steps();
        for (bridge, step) in &self.bridges {
            let (action, text) = bridge_step(step);
            steps.push(HostStep {
                kind: "bridge",
                name: bridge.to_string(),
                action,
                text: format!("bridge {bridge}: {text}"),
            });
        }
        steps.extend(self.attach.iter().map(tap_step));
        let file = |name: &String, action: &'static str| HostStep {
            kind: "networkd-file",
            name: name.clone(),
            action,
            text: format!("networkd file {name}: {action}"),
        };
        steps.extend(self.write_files.keys().map(|name| file(name, "write")));
        steps.extend(self.remove_files.iter().map(|name| file(name, "remove")));
        steps.extend(self.network.host_steps());
        steps.extend(self.tuning.host_steps());
        steps.extend(self.drop_ins.iter().map(|(path, vms)| {
            let vms: Vec<&VmId> = vms.iter().collect();
            HostStep {
                kind: "drop-in",
                name: path.clone(),
                action: "keep",
                text: format!(
                    "drop-in {path}: keep it: it is the administrator's, and changes the unit of {}",
                    listed(&vms)
                ),
            }
        }));
        if self.writes_units() {
            steps.push(HostStep {
                kind: "systemd",
                name: "systemd".to_owned(),
                action: "reload",
                text: "systemd: read units anew (daemon-reload)".to_owned(),
            });
        }
        steps
    }
}

impl Plan {
    fn storage_steps(&self) -> Vec<HostStep> {
        let images = self.images.iter().map(|step| {
            let vms: Vec<&VmId> = step.vms.iter().collect();
            let action = match step.file.from {
                Location::Url(_) => "fetch",
                Location::Path(_) => "unpack",
            };
            let (image, from) = (&step.image, &step.file.from);
            HostStep {
                kind: "image",
                name: image.clone(),
                action,
                text: format!("image {image}: {action} {from}, for {}", listed(&vms)),
            }
        });
        let kernels = self.kernels.iter().map(|step| {
            let vms: Vec<&VmId> = step.vms.iter().collect();
            let image = &step.image;
            HostStep {
                kind: "image",
                name: image.to_string(),
                action: "take-kernel",
                text: format!("image {image}: take its kernel out, for {}", listed(&vms)),
            }
        });
        let disks = self.disks.iter().map(|((id, name), step)| HostStep {
            kind: "disk",
            name: format!("{id}/{name}"),
            action: match step {
                DiskStep::Make(_) => "make",
                DiskStep::Grow { .. } => "grow",
                DiskStep::KeepAsMade { .. } | DiskStep::KeepUnused => "keep",
            },
            text: format!("disk {name} of {id}: {step}"),
        });
        let devices = self.pci.iter().map(|(address, step)| HostStep {
            kind: "pci",
            name: address.to_string(),
            action: match step {
                PciStep::Take { .. } => "take",
                PciStep::GiveBack { .. } => "give-back",
            },
            text: format!("PCI device {address}: {step}"),
        });
        images.chain(kernels).chain(disks).chain(devices).collect()
    }
}

fn tap_step(attach: &Attach) -> HostStep {
    let tap = &attach.tap;
    let (action, text) = match attach.amiss {
        TapAmiss::Down => ("set-up", "set up".to_owned()),
        TapAmiss::Elsewhere => {
            let isolated = match attach.isolation {
                Isolation::Off => "",
                Isolation::On => ", isolated",
            };
            ("attach", format!("put into {}{isolated}", attach.bridge))
        }
    };
    HostStep {
        kind: "tap",
        name: tap.to_string(),
        action,
        text: format!("TAP {tap}: {text}"),
    }
}

fn bridge_step(step: &BridgeStep) -> (&'static str, String) {
    match step {
        BridgeStep::Create { addresses } if addresses.is_empty() => ("create", "create".to_owned()),
        BridgeStep::Create { addresses } => {
            ("create", format!("create, with {}", listed(addresses)))
        }
        BridgeStep::Change { add, remove, up } => {
            let mut text = "change".to_owned();
            if *up {
                text.push_str("\n    set up");
            }
            for address in add {
                let _ = write!(text, "\n    add {address}");
            }
            for address in remove {
                let _ = write!(text, "\n    remove {address}");
            }
            ("change", text)
        }
        BridgeStep::Remove => ("remove", "remove: no network has it any more".to_owned()),
        BridgeStep::KeepFor(links) => (
            "keep",
            format!(
                "keep, though no network has it any more: {} in it, not nkudo's",
                match links.len() {
                    1 => format!("the link {} is", links[0]),
                    _ => format!("the links {} are", listed(links)),
                }
            ),
        ),
    }
}

impl fmt::Display for Plan {
    /// Only what there is to say: a VM that runs as declared is not mentioned. Nothing at all when
    /// there is nothing to do and nothing that somebody should know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in self.host_steps() {
            writeln!(f, "{}", step.text)?;
        }
        for (id, step) in &self.vms {
            if let Some(word) = word(step) {
                writeln!(f, "VM {id}: {word}")?;
                for change in step.changes() {
                    writeln!(f, "    {change}{}", note(step, change))?;
                }
            }
        }
        let interrupted = self.interrupted();
        if !interrupted.is_empty() {
            writeln!(f, "downtime: {}", listed(&interrupted))?;
        } else if self.vms.values().any(|step| !step.live.is_empty()) {
            writeln!(f, "downtime: none")?;
        }
        Ok(())
    }
}

/// Where the changes of one VM do not all cost the same, what each does.
fn note(step: &VmStep, change: &Change) -> &'static str {
    match (step.action, change.cost) {
        (Action::Live, Cost::Live) if change.field.starts_with("cloud-init.") => {
            " (for a first boot)"
        }
        (Action::Pending, Cost::Live) => " (live)",
        (Action::Pending, Cost::Nothing) => " (now)",
        _ => "",
    }
}

/// What becomes of a VM and why, in a line; nothing where there is nothing to say.
fn word(step: &VmStep) -> Option<String> {
    let why = step
        .reasons
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    let action = match step.action {
        Action::Start => "start",
        Action::Stop => "stop",
        Action::Restart => "restart",
        Action::Wait => "wait",
        Action::Live => "change while it runs",
        Action::Pending => "pending until it is restarted",
        Action::Clean => "remove what it left behind",
        Action::Nothing if step.reasons.is_empty() => return None,
        // What only concerns switches has taken effect by being read.
        Action::Nothing if step.becomes.is_some() => return Some("nothing to do to it".to_owned()),
        Action::Nothing => "leave alone",
    };
    Some(if why.is_empty() {
        action.to_owned()
    } else {
        format!("{action}: {why}")
    })
}

impl VmStep {
    /// All fields that differ, of whatever reason.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.reasons.iter().flat_map(|reason| match reason {
            Reason::Changed(changes) | Reason::Drifted(changes) => changes.as_slice(),
            _ => &[],
        })
    }
}

impl fmt::Display for DiskStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Make(origin) => match origin {
                DiskOrigin::Existing | DiskOrigin::Image { .. } => f.write_str("use it")?,
                DiskOrigin::Clone { image, .. } => write!(f, "make a copy of image {image}")?,
                DiskOrigin::Overlay { image, .. } => {
                    write!(f, "make an overlay over image {image}")?;
                }
                DiskOrigin::Volume { filesystem, .. } => {
                    f.write_str("make it, empty")?;
                    if let Some(filesystem) = filesystem {
                        write!(f, ", with {filesystem}")?;
                    }
                }
            },
            Self::Grow { from, to, when } => {
                let when = match when {
                    GrowWhen::WhileItRuns => " while it runs",
                    GrowWhen::WhileItIsStopped => "",
                    GrowWhen::AtNextStart => " when it is restarted",
                };
                write!(f, "grow from {from} to {to}{when}")?;
            }
            Self::KeepAsMade { made, declared } => write!(
                f,
                "keep it: it was made as {made}, and is declared as {declared} now; `nkudo recreate` makes it anew"
            )?,
            Self::KeepUnused => f.write_str(
                "keep it, though nobody declares it any more; `nkudo purge` removes it",
            )?,
        }
        match self {
            Self::Make(origin) => match origin.size() {
                Some(size) => write!(f, ", {size}"),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

impl fmt::Display for PciStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let driver = |driver: &Option<String>| match driver {
            Some(name) => format!("the driver {name}"),
            None => "no driver".to_owned(),
        };
        match self {
            Self::Take { vm, from } => {
                write!(f, "bind to vfio-pci, for {vm}; it has {} now", driver(from))
            }
            Self::GiveBack { vm, to } => {
                write!(f, "give back from {vm} to the host; it had {}", driver(to))
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning => f.write_str("it does not run"),
            Self::Undeclared => f.write_str("it is not declared any more"),
            Self::Changed(_) => f.write_str("it changed"),
            Self::Drifted(_) => f.write_str("somebody changed its unit"),
            Self::Upgraded { what, old, new } => {
                write!(f, "it runs with the {what} {old}, and there is {new} now")
            }
            Self::OtherUnit => f.write_str("this nkudo makes another unit of it"),
            Self::Failed(result) => write!(f, "its unit failed ({result})"),
            Self::Failing(tries) => {
                write!(f, "it failed and waits for a restart ({tries} so far)")
            }
            Self::Starting => f.write_str("it is starting"),
            Self::BeingStopped => f.write_str("it is being stopped at this moment"),
            Self::Held(HeldBy::Nkudo) => f.write_str("it is held (`nkudo stop`)"),
            Self::Held(HeldBy::Systemd) => f.write_str("it is held (`systemctl stop`)"),
            Self::NotAutostarted => f.write_str("autostart is false"),
            Self::SpecificationLost => f.write_str("it is not known what it was started from"),
            Self::TapGone(tap) => write!(f, "its TAP {tap} is gone"),
            Self::OtherKindOfLink(tap) => write!(f, "its NIC {tap} is to be another kind of link"),
            Self::Asked => f.write_str("asked for"),
            Self::Obstacle(obstacle) => f.write_str(&obstacle.without_subject()),
            Self::NoNetwork(network, obstacles) => {
                let why = network_plan::said(obstacles);
                write!(f, "its network {network} is left out: {why}")
            }
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.field)?;
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => write!(f, "{old} → {new}"),
            (None, Some(new)) => write!(f, "{new} is new"),
            (Some(old), None) => write!(f, "{old} is gone"),
            (None, None) => Ok(()),
        }
    }
}

fn listed<T: ToString>(items: &[T]) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
