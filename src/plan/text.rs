//! A plan for people to read.

use std::fmt;

use super::{Action, BridgeStep, Change, Cost, Plan, Reason, VmStep};

impl fmt::Display for Plan {
    /// Only what there is to say: a VM that runs as declared is not mentioned. Nothing at all when
    /// there is nothing to do and nothing that somebody should know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bridge, step) in &self.bridges {
            write!(f, "bridge {bridge}: ")?;
            match step {
                BridgeStep::Create { addresses } if addresses.is_empty() => writeln!(f, "create")?,
                BridgeStep::Create { addresses } => {
                    writeln!(f, "create, with {}", listed(addresses))?;
                }
                BridgeStep::Change { add, remove, up } => {
                    writeln!(f, "change")?;
                    if *up {
                        writeln!(f, "    set up")?;
                    }
                    for address in add {
                        writeln!(f, "    add {address}")?;
                    }
                    for address in remove {
                        writeln!(f, "    remove {address}")?;
                    }
                }
                BridgeStep::Remove => writeln!(f, "remove: no network has it any more")?,
                BridgeStep::KeepFor(links) => writeln!(
                    f,
                    "keep, though no network has it any more: {} in it, not nkudo's",
                    match links.len() {
                        1 => format!("the link {} is", links[0]),
                        _ => format!("the links {} are", listed(links)),
                    }
                )?,
            }
        }
        for attach in &self.attach {
            writeln!(f, "TAP {}: put into {}", attach.tap, attach.bridge)?;
        }
        for name in self.write_files.keys() {
            writeln!(f, "networkd file {name}: write")?;
        }
        for name in &self.remove_files {
            writeln!(f, "networkd file {name}: remove")?;
        }
        for (id, step) in &self.vms {
            if let Some(word) = word(step) {
                writeln!(f, "VM {id}: {word}")?;
                for change in changes(step) {
                    writeln!(f, "    {change}")?;
                }
            }
        }
        Ok(())
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
        Action::Pending => "pending until it is restarted",
        Action::Clean => "remove what it left behind",
        Action::Nothing if step.reasons.is_empty() => return None,
        // What only concerns switches has taken effect by being read.
        Action::Nothing => match changes(step).map(|change| change.cost).max() {
            Some(Cost::Live) => return Some("change while it runs".to_owned()),
            Some(Cost::Nothing) => return Some("nothing to do to it".to_owned()),
            _ => "leave alone",
        },
    };
    Some(if why.is_empty() {
        action.to_owned()
    } else {
        format!("{action}: {why}")
    })
}

fn changes(step: &VmStep) -> impl Iterator<Item = &Change> {
    step.reasons.iter().flat_map(|reason| match reason {
        Reason::Changed(changes) => changes.as_slice(),
        _ => &[],
    })
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning => f.write_str("it does not run"),
            Self::Undeclared => f.write_str("it is not declared any more"),
            Self::Changed(_) => f.write_str("it changed"),
            Self::Failed(result) => write!(f, "its unit failed ({result})"),
            Self::Failing(tries) => {
                write!(f, "it failed and waits for a restart ({tries} so far)")
            }
            Self::Starting => f.write_str("it is starting"),
            Self::BeingStopped => f.write_str("it is being stopped at this moment"),
            Self::Held => f.write_str("it is held (`nkudo stop`)"),
            Self::NotAutostarted => f.write_str("autostart is false"),
            Self::SpecificationLost => f.write_str("it is not known what it was started from"),
            Self::TapGone(tap) => write!(f, "its TAP {tap} is gone"),
            Self::Asked => f.write_str("asked for"),
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
