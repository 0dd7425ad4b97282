//! What VMs need of the host and it does not have: files, huge pages.

use std::collections::BTreeMap;

use super::{Action, Obstacle, Plan};
use crate::generation::Manifest;
use crate::host::{Setting, Size, Vm, VmId};
use crate::observe::{Observed, PagePool, Specification, UnitState};

pub(super) fn obstacles(plan: &Plan, wanted: &Manifest, observed: &Observed) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    for (id, vm) in starting(plan, wanted) {
        for (what, path) in vm.needed() {
            if let Some(why) = observed.needs.missing.get(path) {
                obstacles.push(Obstacle::MissingFile {
                    vm: id.clone(),
                    what,
                    path: path.to_owned(),
                    why: why.clone(),
                });
            }
        }
    }
    obstacles.extend(pages(plan, wanted, observed));
    obstacles
}

/// In the order in which they start.
fn starting<'a>(plan: &'a Plan, wanted: &'a Manifest) -> impl Iterator<Item = (&'a VmId, &'a Vm)> {
    let starts = |id: &&VmId| {
        let step = plan.vms.get(*id);
        step.is_some_and(|step| matches!(step.action, Action::Start | Action::Restart))
    };
    let ids = plan.start.iter().flatten().filter(starts);
    ids.filter_map(|id| Some((id, wanted.host.vms.get(id)?)))
}

/// Pages of one size, as they are shared out.
#[derive(Debug, Clone, Copy, Default)]
struct Left {
    total: u64,
    /// Minus what the VMs that run on are declared to have: the kernel gives a VM its pages one by one, when the guest
    /// touches its memory, and ends a VM for which there is none.
    undeclared: u64,
    /// What is free now, and what is given back by VMs that stop.
    free: u64,
}

impl Left {
    const fn pages(self) -> u64 {
        if self.undeclared < self.free {
            self.undeclared
        } else {
            self.free
        }
    }
}

/// Each VM that starts takes its pages from what is left for it.
fn pages(plan: &Plan, wanted: &Manifest, observed: &Observed) -> Vec<Obstacle> {
    let needs = &observed.needs;
    let page_of = |vm: &Vm| vm.memory.hugepages.page(needs.default_hugepage);
    let count = |vm: &Vm, page: Size| vm.memory.size.bytes().div_ceil(page.bytes().max(1));
    let mut left: BTreeMap<Size, Left> = BTreeMap::new();
    let tuned = plan
        .tuning
        .set
        .iter()
        .filter_map(|step| match step.setting {
            Setting::HugePages(page) => Some(page),
            _ => None,
        });
    for page in needs.hugepages.keys().copied().chain(tuned) {
        let pool = needs.hugepages.get(&page).copied().unwrap_or_default();
        left.insert(page, before(page, pool, plan));
    }
    for (id, unit) in &observed.units {
        let Some(Specification::Known(booted)) = observed
            .remains
            .get(id)
            .map(|remains| &remains.specification)
        else {
            continue;
        };
        let Some(page) = page_of(&booted.vm) else {
            continue;
        };
        let has = !matches!(unit.state, UnitState::Failed | UnitState::Inactive);
        let (pages, left) = (count(&booted.vm, page), left.entry(page).or_default());
        match plan.vms.get(id).map(|step| step.action) {
            _ if !has => {}
            Some(Action::Stop | Action::Restart | Action::Start) => {
                left.free = left.free.saturating_add(pages);
            }
            _ => left.undeclared = left.undeclared.saturating_sub(pages),
        }
    }
    let mut obstacles = Vec::new();
    for (id, vm) in starting(plan, wanted) {
        let Some(page) = page_of(vm) else { continue };
        let (need, left) = (count(vm, page), left.entry(page).or_default());
        if need <= left.pages() {
            left.undeclared -= need;
            left.free -= need;
        } else {
            obstacles.push(Obstacle::TooFewPages {
                vm: id.clone(),
                page,
                need,
                left: left.pages(),
                total: left.total,
            });
        }
    }
    obstacles
}

/// The pages as they are once the host's tuning is set, before any VM has one.
fn before(page: Size, pool: PagePool, plan: &Plan) -> Left {
    let tuned = plan
        .tuning
        .set
        .iter()
        .find(|step| step.setting == Setting::HugePages(page));
    let total = tuned
        .and_then(|step| step.new.parse().ok())
        .unwrap_or(pool.total);
    let used = pool.total.saturating_sub(pool.free);
    let free = total.saturating_sub(used);
    let all = total.saturating_add(pool.more);
    Left {
        total,
        undeclared: all,
        free: free
            .saturating_sub(pool.reserved)
            .saturating_add(pool.more)
            .min(all),
    }
}
