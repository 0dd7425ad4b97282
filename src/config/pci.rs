//! `[[vm.<id>.pci]]`.

use super::cursor::{Table, Value};
use super::device::elements;
use super::diagnostic::Diagnostic;
use super::values;
use super::vm::Shared;
use crate::host::{Memory, PciAddress, Sharing, VmId};

/// The VM's devices, and its memory where that can be what it is beside them.
pub(super) fn devices(
    table: &mut Table<'_>,
    id: &VmId,
    shared: &mut Shared<'_>,
    memory: Option<Memory>,
) -> (Option<Vec<PciAddress>>, Option<Memory>) {
    let Some(value) = table.take("pci") else {
        return (Some(Vec::new()), memory);
    };
    let devices = array(&value, id, shared);
    let is_none = devices.as_ref().is_some_and(Vec::is_empty);
    let memory = memory.filter(|memory| is_none || fits(memory, &value));
    (devices, memory)
}

fn array(value: &Value<'_>, id: &VmId, shared: &mut Shared<'_>) -> Option<Vec<PciAddress>> {
    let read: Vec<Option<PciAddress>> = elements(value, id)?
        .iter()
        .map(|element| device(element, id, shared))
        .collect();
    read.into_iter().collect()
}

fn device(value: &Value<'_>, id: &VmId, shared: &mut Shared<'_>) -> Option<PciAddress> {
    let mut table = value.table()?;
    let address_value = table.take("address");
    table.finish();
    let Some(value) = &address_value else {
        let message = format!("this PCI device of VM `{id}` has no `address`");
        value
            .sink
            .report_absence(value.diagnostic(message).hint("`lspci -D` lists addresses"));
        return None;
    };
    let hint = Some("`lspci -D` lists addresses");
    let address: PciAddress = values::parsed(value, "the address of a PCI device", hint)?;
    let who = format!("VM `{id}`");
    shared
        .pci
        .claim(value.sink, address, &value.place, &who, || {
            format!("the PCI device {address} is handed over twice")
        });
    Some(address)
}

/// Whether the memory can be that of a VM with devices: they write to any of it at any time, so the kernel keeps all
/// of it where it is.
fn fits(memory: &Memory, value: &Value<'_>) -> bool {
    let refuse = |what: &str, why: &str| {
        let message = format!("a VM with PCI devices cannot have {what}");
        value
            .sink
            .report(Diagnostic::new(value.key_place.clone(), message).hint(why));
    };
    let balloon = memory.balloon.is_some();
    let mergeable = memory.sharing == Sharing::Mergeable;
    if balloon {
        refuse(
            "a `balloon`",
            "a device goes on writing to pages that the guest has given back",
        );
    }
    if mergeable {
        refuse(
            "`mergeable` memory",
            "a device writes to all of the guest's memory, and such pages are not merged",
        );
    }
    !balloon && !mergeable
}
