//! `after`: the VMs named there exist, and no VM waits for itself.

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostic::{Diagnostic, Place};
use super::nearest::did_you_mean;
use super::sink::Sink;
use crate::host::VmId;

/// For each VM, those that it names in `after`, and where.
pub(super) type After = BTreeMap<VmId, Vec<(VmId, Place)>>;

pub(super) fn check(sink: &Sink, declared: &BTreeSet<&VmId>, after: &After) {
    for (id, others) in after {
        for (other, place) in others {
            if other == id {
                let message = format!("VM `{id}` cannot start after itself");
                sink.report(Diagnostic::new(place.clone(), message));
            } else if !declared.contains(other) {
                let message = format!("VM `{other}` is not declared");
                let names = declared
                    .iter()
                    .filter(|name| **name != id)
                    .map(|name| name.as_str());
                let hint = did_you_mean(other.as_str(), names);
                sink.report_absence(
                    Diagnostic::new(place.clone(), message)
                        .label(format!("`{id}` is to start after it"))
                        .maybe_hint(hint),
                );
            }
        }
    }
    let mut done = BTreeSet::new();
    for id in after.keys() {
        walk(sink, after, id, &mut Vec::new(), &mut done);
    }
}

/// Depth first. `path` leads from where the walk began to `id`; VMs in `done` need no second look.
fn walk<'a>(
    sink: &Sink,
    after: &'a After,
    id: &'a VmId,
    path: &mut Vec<(&'a VmId, &'a Place)>,
    done: &mut BTreeSet<&'a VmId>,
) {
    for (other, place) in after.get(id).into_iter().flatten() {
        if other == id || done.contains(other) {
            continue;
        }
        path.push((id, place));
        if let Some(start) = path.iter().position(|(one, _)| *one == other) {
            report_cycle(sink, &path[start..]);
        } else {
            walk(sink, after, other, path, done);
        }
        path.pop();
    }
    done.insert(id);
}

fn report_cycle(sink: &Sink, cycle: &[(&VmId, &Place)]) {
    let Some((first, rest)) = cycle.split_first() else {
        return;
    };
    let mut names: Vec<String> = cycle.iter().map(|(id, _)| format!("`{id}`")).collect();
    names.push(format!("`{}`", first.0));
    let message = format!("VMs wait for each other: {}", names.join(" after "));
    let mut diagnostic = Diagnostic::new(first.1.clone(), message);
    for (_, place) in rest {
        diagnostic = diagnostic.also((*place).clone(), "");
    }
    sink.report(diagnostic.hint("leave out one of these"));
}
