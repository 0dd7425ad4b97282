//! `[[vm.<id>.disk]]` and `[[vm.<id>.nic]]`.

use std::collections::BTreeMap;

use super::cursor::Value;
use super::diagnostic::{Diagnostic, Place};
use super::nearest::did_you_mean;
use super::unique::Unique;
use super::values;
use super::vm::Shared;
use crate::host::{
    AbsolutePath, Disk, DiskAccess, DiskFormat, DiskName, LinkName, Mac, NetworkName, Nic, VmId,
};

const DISK_LATER: [&str; 5] = ["image", "size", "filesystem", "label", "overlay"];
const NIC_LATER: [&str; 1] = ["address"];

/// A unit gets a TAP for each NIC as a file descriptor, and one D-Bus message carries 16.
const MOST_NICS: usize = 16;

/// Which VM uses a path as a disk, and how.
#[derive(Debug, Default)]
pub(super) struct DiskUses(BTreeMap<AbsolutePath, (Place, VmId, DiskAccess)>);

impl DiskUses {
    /// A path can be shared only while nobody writes.
    fn claim(&mut self, value: &Value<'_>, id: &VmId, path: &AbsolutePath, access: DiskAccess) {
        let Some((place, other, other_access)) = self.0.get(path) else {
            self.0
                .insert(path.clone(), (value.place.clone(), id.clone(), access));
            return;
        };
        if access == DiskAccess::ReadOnly && *other_access == DiskAccess::ReadOnly {
            return;
        }
        value.sink.report(
            value
                .diagnostic(format!("`{path}` is used as a disk twice"))
                .label(format!("used again by VM `{id}`"))
                .also(place.clone(), format!("used first by VM `{other}`"))
                .hint("two can share a disk only if each has it with `read-only = true`"),
        );
    }
}

/// The tables of `[[vm.<id>.<what>]]`.
fn elements<'a>(value: &Value<'a>, id: &VmId) -> Option<Vec<Value<'a>>> {
    if value.is_table() {
        let what = value.key;
        value.sink.report(
            Diagnostic::new(
                value.key_place.clone(),
                format!("`{what}`: expected an array of tables, found a table"),
            )
            .hint(format!("write `[[vm.{id}.{what}]]`, once for each")),
        );
        return None;
    }
    value.array("an array of tables")
}

pub(super) fn disks(value: &Value<'_>, id: &VmId, shared: &mut Shared<'_>) -> Option<Vec<Disk>> {
    let mut names = Unique::default();
    let read: Vec<Option<Disk>> = elements(value, id)?
        .iter()
        .enumerate()
        .map(|(index, element)| disk(element, id, index, &mut names, shared))
        .collect();
    read.into_iter().collect()
}

fn disk(
    value: &Value<'_>,
    id: &VmId,
    index: usize,
    names: &mut Unique<DiskName>,
    shared: &mut Shared<'_>,
) -> Option<Disk> {
    let mut table = value.table()?;
    table.refuse_later(&DISK_LATER);
    let path_value = table.take("path");
    let name_value = table.take("name");
    let format = table.optional("format", |value| {
        values::choice(
            value,
            &[("raw", DiskFormat::Raw), ("qcow2", DiskFormat::Qcow2)],
        )
    });
    let access = table.read("read-only", DiskAccess::ReadWrite, |value| {
        Some(if value.boolean()? {
            DiskAccess::ReadOnly
        } else {
            DiskAccess::ReadWrite
        })
    });
    let path = if let Some(value) = &path_value {
        values::path(value)
    } else {
        let message = format!("this disk of VM `{id}` has no `path`");
        value.sink.report_absence(value.diagnostic(message));
        None
    };
    if let (Some(value), Some(path), Some(access)) = (&path_value, &path, access) {
        shared.disks.claim(value, id, path, access);
    }
    let name: Option<DiskName> = match &name_value {
        Some(value) => values::parsed(value, "the name of a disk", None),
        None => format!("disk{index}").parse().ok(),
    };
    if let Some(name) = &name {
        let place = name_value
            .as_ref()
            .map_or(&value.place, |value| &value.place);
        names.claim(value.sink, name.clone(), place, "this disk", || {
            format!("two disks of VM `{id}` have the name `{name}`")
        });
    }
    let format = match (format?, &path_value, &path) {
        (Some(format), _, _) => Some(format),
        (None, Some(value), Some(path)) => format_of(value, path),
        _ => None,
    };
    if let (Some(name), Some(format)) = (&name, format) {
        table.derived("name", name);
        table.derived(
            "format",
            &match format {
                DiskFormat::Raw => "raw",
                DiskFormat::Qcow2 => "qcow2",
            },
        );
    }
    table.finish();
    Some(Disk {
        name: name?,
        path: path?,
        format: format?,
        access: access?,
    })
}

/// The format that a path's extension tells.
fn format_of(value: &Value<'_>, path: &AbsolutePath) -> Option<DiskFormat> {
    match path.as_path().extension() {
        Some("qcow2") => Some(DiskFormat::Qcow2),
        Some("raw" | "img") => Some(DiskFormat::Raw),
        _ => {
            // Never guessed from the content: a guest that writes a qcow2 header to a raw disk
            // would choose which of the host's files it reads.
            value.error_with_hint(
                format!("the name of `{path}` does not tell its format"),
                "add `format = \"raw\"` or `format = \"qcow2\"`",
            );
            None
        }
    }
}

pub(super) fn nics(value: &Value<'_>, id: &VmId, shared: &mut Shared<'_>) -> Option<Vec<Nic>> {
    let elements = elements(value, id)?;
    if let Some(extra) = elements.get(MOST_NICS) {
        let message = format!(
            "VM `{id}` has {} NICs; the most that one can have is {MOST_NICS}",
            elements.len()
        );
        extra
            .sink
            .report(extra.diagnostic(message).label("one too many"));
    }
    let read: Vec<Option<Nic>> = elements
        .iter()
        .take(MOST_NICS)
        .zip(0..)
        .map(|(element, index)| nic(element, id, index, shared))
        .collect();
    read.into_iter().collect()
}

fn nic(value: &Value<'_>, id: &VmId, index: u8, shared: &mut Shared<'_>) -> Option<Nic> {
    let mut table = value.table()?;
    table.refuse_later(&NIC_LATER);
    let network_value = table.take("network");
    let mac_value = table.take("mac");

    let network = if let Some(value) = &network_value {
        network(value, shared)
    } else {
        let message = format!("this NIC of VM `{id}` has no `network`");
        value
            .sink
            .report_absence(value.diagnostic(message).hint(declared(shared)));
        None
    };
    let who = format!("NIC {index} of VM `{id}`");
    let (mac, place) = match &mac_value {
        Some(value) => {
            let hint = "leave `mac` out, and it is derived from the VM's name";
            (
                values::parsed::<Mac>(value, "the address of a NIC", Some(hint)),
                &value.place,
            )
        }
        None => (
            Some(Mac::derived("vm", &format!("{id}/{index}"))),
            &value.place,
        ),
    };
    if let Some(mac) = mac {
        table.derived("mac", &mac);
        shared.macs.claim(value.sink, mac, place, &who, || {
            format!("two NICs have the MAC {mac}")
        });
    }
    let tap = LinkName::tap(id, index);
    // Long names are hashed, and two hashes may be equal.
    shared
        .taps
        .claim(value.sink, tap.clone(), &value.place, &who, || {
            format!("two NICs get the link name `{tap}`; give one of the VMs another name")
        });
    table.finish();
    Some(Nic {
        network: network?,
        mac: mac?,
        tap,
    })
}

fn network(value: &Value<'_>, shared: &Shared<'_>) -> Option<NetworkName> {
    let name: NetworkName = values::parsed(value, "the name of a network", None)?;
    if shared.networks.contains(&name) {
        return Some(name);
    }
    let names = shared.networks.iter().map(|name| name.as_str());
    let hint = match did_you_mean(name.as_str(), names) {
        Some(near) => format!("{near} {}", declared(shared)),
        None => declared(shared),
    };
    value.sink.report_absence(
        value
            .diagnostic(format!("network `{name}` is not declared"))
            .hint(hint),
    );
    None
}

/// A hint: the networks that there are.
fn declared(shared: &Shared<'_>) -> String {
    let names: Vec<String> = shared
        .networks
        .iter()
        .map(|name| format!("`{name}`"))
        .collect();
    match names.as_slice() {
        [] => "no network is declared: add a `[network.<name>]`".to_owned(),
        [one] => format!("the declared network is {one}"),
        _ => format!("the declared networks are {}", names.join(", ")),
    }
}
