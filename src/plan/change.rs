//! What differs between two specifications of a VM, field by field, and what each difference costs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::booted::Booted;
use crate::host::{Disk, HugePages, Vm};

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// As the file has it: `memory.size`, `disk.data.path`, `nic[0].network`.
    pub field: String,
    /// `None` where it was not there.
    pub old: Option<String>,
    pub new: Option<String>,
    pub cost: Cost,
}

/// What has to be done to the running VM for a change to take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cost {
    /// It concerns what switches do, not the VM.
    Nothing,
    /// It is done while the VM runs.
    Live,
    Restart,
}

/// The differences, in the order of the fields' names.
///
/// Compared is nkudo's own resolved specification, not the unit's text and not what the VMM says:
/// an upgrade of either must not look like a change of the VM.
pub fn changes(booted: &Booted, wanted: &Vm) -> Vec<Change> {
    // Most are as they were, and comparing them so costs next to nothing.
    if booted.vm == *wanted {
        return Vec::new();
    }
    let (old, new) = (fields(&booted.vm), fields(wanted));
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name))
        .filter(|name| !follows(name, &old, &new))
        .map(|name| Change {
            field: name.clone(),
            old: old.get(name).cloned(),
            new: new.get(name).cloned(),
            cost: cost(name, booted, wanted),
        })
        .collect()
}

/// Whether another field's difference says this one's: a maximum that is not more than the size,
/// the rest of a disk or NIC that is wholly new or gone.
fn follows(name: &str, old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> bool {
    let same =
        |fields: &BTreeMap<String, String>, other: &str| fields.get(name) == fields.get(other);
    match name {
        "memory.max" => same(old, "memory.size") && same(new, "memory.size"),
        // Its word where there is none; the size says that.
        "memory.balloon" => true,
        "vcpus.max" => same(old, "vcpus.boot") && same(new, "vcpus.boot"),
        _ => {
            let Some((device, field)) = name.rsplit_once('.') else {
                return false;
            };
            let essential = match device.split(['.', '[']).next() {
                Some("disk") => "path",
                Some("nic") => "network",
                Some("cloud-init") => "instance-id",
                Some("memory") if device == "memory.balloon" => "size",
                _ => return false,
            };
            let essential_name = format!("{device}.{essential}");
            field != essential
                && (old.contains_key(&essential_name) != new.contains_key(&essential_name))
        }
    }
}

fn cost(field: &str, booted: &Booted, wanted: &Vm) -> Cost {
    let first = field.split(['.', '[']).next().unwrap_or(field);
    let live = match first {
        // What is `ready` counts when nkudo starts it.
        "autostart" | "on-change" | "after" | "ready" => return Cost::Nothing,
        // First boot is to run again, and runs at a boot; or there is a seed more or less.
        "cloud-init" => !field.ends_with(".instance-id"),
        "limits" | "restart" | "start-timeout" | "stop-timeout" | "host" => true,
        // The TAP moves to the other bridge; the guest sees nothing of it.
        "nic" => is_the_hosts(field) && booted.vm.nics.len() == wanted.nics.len(),
        "vcpus" => field == "vcpus.boot" && booted.vm.vcpus.max == wanted.vcpus.max,
        "memory" if field == BALLOON_SIZE => balloon_fits(booted, wanted),
        "memory" => field == "memory.size" && memory_fits(booted, wanted),
        // What a disk that is there was made from is not what the VM runs on; steps of the plan say
        // what becomes of the disk.
        "disk" if ORIGIN.iter().any(|key| field.ends_with(key)) => return Cost::Nothing,
        "disk" => disk_can_be_plugged(field, booted, wanted),
        _ => false,
    };
    if live { Cost::Live } else { Cost::Restart }
}

/// Whether a NIC's key is about the host's end of it: its bridge, what the rules let pass, and what
/// DHCP hands out.
fn is_the_hosts(field: &str) -> bool {
    let keys = [".network", ".address", ".gateway", ".trust"];
    keys.iter().any(|key| field.ends_with(key))
}

/// What the guest is asked to do without.
const BALLOON_SIZE: &str = "memory.balloon.size";

/// Whether the balloon that there is can be as large as wanted, also after a restart by systemd: the VMM
/// refuses to start with one that is not smaller than the memory at boot.
fn balloon_fits(booted: &Booted, wanted: &Vm) -> bool {
    let (old, new) = (booted.vm.memory.balloon, wanted.memory.balloon);
    old.is_some() && new.is_some_and(|new| new.size < booted.boot_memory)
}

/// Whether the memory can become as large as wanted while the VM runs: virtio-mem plugs in blocks of
/// 2 MiB between what the VM was booted with and its maximum (cloud-hypervisor's docs/memory.md).
fn memory_fits(booted: &Booted, wanted: &Vm) -> bool {
    const BLOCK: u64 = 2 << 20;
    let (old, new) = (&booted.vm.memory, &wanted.memory);
    let rest = (&new.max, new.hugepages, new.sharing);
    rest == (&old.max, old.hugepages, old.sharing)
        && new.hugepages == HugePages::Off
        && new.size >= booted.boot_memory
        && (new.size.bytes() - booted.boot_memory.bytes()).is_multiple_of(BLOCK)
}

/// Whether a disk that differs is one that came or went, and not the first: a VM boots from that.
fn disk_can_be_plugged(field: &str, booted: &Booted, wanted: &Vm) -> bool {
    let is_it = |disk: &&Disk| field.starts_with(&format!("disk.{}.", disk.name));
    let first = |disks: &[Disk]| disks.first().map(|disk| disk.name.clone());
    let (old, new) = (&booted.vm.disks, &wanted.disks);
    let comes_or_goes = match (old.iter().find(is_it), new.iter().find(is_it)) {
        (Some(_), None) => true,
        // The image below an overlay is bound into the sandbox at the start only.
        (None, Some(disk)) => disk.backing.is_none(),
        _ => false,
    };
    comes_or_goes && (old.is_empty() || first(old) == first(new))
}

/// The fields of a disk's origin.
const ORIGIN: [&str; 5] = [".image", ".size", ".filesystem", ".label", ".origin"];

/// Every field that is no table itself, by its path, as text.
fn fields(vm: &Vm) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    // A Vm is made of texts, numbers, lists and maps with text keys, which always have a JSON form.
    if let Ok(mut value) = serde_json::to_value(vm) {
        value["ready"] = json!({ "when": vm.ready.when(), "on-timeout": vm.ready.on_timeout() });
        flatten(&mut fields, String::new(), &value);
    }
    fields
}

fn flatten(fields: &mut BTreeMap<String, String>, path: String, value: &Value) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                flatten(fields, joined(&path, key), member);
            }
        }
        Value::Array(items) if items.iter().all(Value::is_string) => {
            if !items.is_empty() {
                let words: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                fields.insert(path, words.join(", "));
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                // A disk is known by its name: another place in the list is no other disk.
                let place = match item.get("name").and_then(Value::as_str) {
                    Some(name) => format!("{path}.{name}"),
                    None => format!("{path}[{index}]"),
                };
                flatten(fields, place, item);
            }
        }
        Value::String(text) => {
            fields.insert(path, text.clone());
        }
        other => {
            fields.insert(path, other.to_string());
        }
    }
}

/// The path as the file has it, not as the resolved specification nests it.
fn joined(path: &str, key: &str) -> String {
    match (path, key) {
        ("", "disks") => "disk".to_owned(),
        ("", "nics") => "nic".to_owned(),
        ("", "boot") => "boot".to_owned(),
        ("", "machined") => "host.machined".to_owned(),
        ("boot", "kernel") => "boot.kernel".to_owned(),
        ("boot", "firmware") => "firmware".to_owned(),
        ("boot", "inside") => "boot.inside".to_owned(),
        ("boot.inside", "image") => "image.kernel".to_owned(),
        ("cloud-init", "keys") => "cloud-init".to_owned(),
        ("boot.kernel" | "boot.inside" | "", key) => key.to_owned(),
        (disk, "image" | "clone" | "overlay" | "volume") if disk.ends_with(".origin") => {
            disk.strip_suffix(".origin").unwrap_or(disk).to_owned()
        }
        (path, key) => format!("{path}.{key}"),
    }
}
