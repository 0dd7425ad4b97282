//! The units of VMs, and what these were started with.

use nkudo::booted::Booted;
use nkudo::generation::Manifest;
use nkudo::host::{Vm, VmId};
use nkudo::observe::{Observed, Unit, UnitFacts, UnitOrigin, UnitState};
use nkudo::unit::{limit_values, read_limits};

use super::differs::{Differs, UnitDiffers};
use super::programs;

pub(super) fn booted(before: &Manifest, id: &VmId, vm: &Vm, differs: &Differs) -> Booted {
    let mut programs = programs();
    let with = differs.started_with.get(id);
    if let Some(nkudo) = with.and_then(|with| with.nkudo.as_ref()) {
        programs.nkudo = nkudo.into();
    }
    if let Some(version) = with.and_then(|with| with.hypervisor.as_ref()) {
        let version = format!("cloud-hypervisor v{version}");
        programs.hypervisor_version = version.parse().unwrap();
    }
    let mut booted = Booted::new(id, vm, 1, &before.digests[id], &programs);
    if let Some(memory) = with.and_then(|with| with.memory) {
        booted.boot_memory = memory;
        booted = booted.becoming(vm);
    }
    if with.is_some_and(|with| with.other_unit) {
        "another".clone_into(&mut booted.unit);
    }
    booted
}

pub(super) fn unit(before: &Manifest, id: &VmId) -> Unit {
    Unit {
        state: UnitState::Active,
        sub_state: "running".to_owned(),
        origin: UnitOrigin::Transient,
        digest: before.digests.get(id).cloned(),
        generation: Some(1),
        limits: before
            .host
            .vms
            .get(id)
            .map(|vm| limit_values(&vm.limits))
            .unwrap_or_default(),
        drop_ins: Vec::new(),
        facts: None,
    }
}

pub(super) fn change_unit(
    observed: &mut Observed,
    before: &Manifest,
    id: &VmId,
    change: &UnitDiffers,
) {
    let state = match change.state.as_str() {
        "absent" => {
            if let Some(vm) = before.host.vms.get(id) {
                for nic in &vm.nics {
                    observed.links.remove(nic.tap.as_str());
                }
            }
            observed.units.remove(id);
            return;
        }
        "active" => UnitState::Active,
        "activating" => UnitState::Activating,
        "deactivating" => UnitState::Deactivating,
        "failed" => UnitState::Failed,
        other => panic!("{other} is no state"),
    };
    let unit = observed
        .units
        .entry(id.clone())
        .or_insert_with(|| unit(before, id));
    read_limits(&mut unit.limits, &change.set);
    if change.foreign {
        unit.digest = None;
    }
    unit.state = state;
    unit.sub_state.clone_from(&change.sub_state);
    unit.facts = Some(UnitFacts {
        main_pid: 1000,
        result: change.result.clone(),
        restarts: change.restarts,
        since: 1,
    });
    unit.drop_ins.clone_from(&change.drop_ins);
    if let Some(file) = &change.file {
        unit.origin = UnitOrigin::File(file.clone());
    }
}
