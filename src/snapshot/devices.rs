//! What a VM must not have for a snapshot to be whole.

#![deny(clippy::disallowed_methods)]

use crate::booted::Booted;
use crate::host::{DiskAccess, Vm};
use crate::plan::{Cost, changes};

/// Why there can be no snapshot of such a VM; none where there can.
pub fn refusals(vm: &Vm) -> Vec<String> {
    let shares = vm.shares.iter().map(|share| {
        format!(
            "share {}: virtiofsd serves it, and what that knows of the guest's open files is in no snapshot",
            share.tag
        )
    });
    let tpm = vm.tpm.iter().map(|_| {
        "its TPM: swtpm has its state, and would go on from a later one than the guest".to_owned()
    });
    let pci = vm.pci.iter().map(|device| {
        format!("PCI device {device}: what it holds for the guest is in no snapshot")
    });
    let blocks = vm.disks.iter().filter_map(|disk| {
        let is_written = disk.access == DiskAccess::ReadWrite && disk.path.starts_with("/dev/");
        is_written.then(|| {
            format!(
                "disk {}: {} is a block device, which a restore would have to overwrite",
                disk.name, disk.path
            )
        })
    });
    shares.chain(tpm).chain(pci).chain(blocks).collect()
}

/// How a VM is declared otherwise than it was, in what its memory goes with.
///
/// What can change while a VM runs is given to it after the restore, but for disks: those that it has are those of
/// the snapshot.
pub fn differences(was: &Booted, declared: &Vm) -> Vec<String> {
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    changes(was, declared)
        .into_iter()
        .filter(|change| {
            change.cost == Cost::Restart
                || (change.cost == Cost::Live && change.field.starts_with("disk."))
        })
        .map(|change| {
            let (old, new) = (or_none(change.old), or_none(change.new));
            format!("{}: it was {old}, and {new} is declared", change.field)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, load};

    fn vm(keys: &str) -> Vm {
        let text = format!("[vm.web]\nkernel = \"/srv/web\"\n{keys}");
        let name = "nkudo.toml".to_owned();
        let host = load(&[Source { name, text }]).host.unwrap();
        host.vms[&"web".parse().unwrap()].clone()
    }

    #[test]
    fn what_has_its_state_elsewhere_or_would_be_overwritten_is_named() {
        let refused = |keys: &str, of: &str| {
            let refusals = refusals(&vm(keys));
            assert_eq!(refusals.len(), 1, "{refusals:?}");
            assert!(refusals[0].starts_with(of), "{refusals:?}");
        };
        refused("tpm = true", "its TPM");
        refused("[[vm.web.pci]]\naddress = \"0000:01:00.0\"", "PCI device");
        refused(
            "[[vm.web.share]]\ntag = \"home\"\nsource = \"/srv/home\"",
            "share home",
        );
        let disk = "[[vm.web.disk]]\nname = \"data\"\nformat = \"raw\"\npath = ";
        refused(&format!("{disk}\"/dev/vg/data\""), "disk data");
        for fine in [
            format!("{disk}\"/srv/data.raw\""),
            format!("{disk}\"/dev/vg/data\"\nread-only = true"),
            "vsock-cid = 3\nwatchdog = true\npvpanic = true".to_owned(),
        ] {
            assert_eq!(refusals(&vm(&fine)), [""; 0]);
        }
    }

    #[test]
    fn what_changes_while_a_vm_runs_may_differ_but_for_disks() {
        let programs = crate::unit::Programs {
            hypervisor: "/usr/bin/cloud-hypervisor".into(),
            hypervisor_version: crate::hypervisor::Version::MINIMUM,
            nkudo: "/usr/bin/nkudo".into(),
            virtiofsd: None,
            swtpm: None,
        };
        let memory = "memory = { size = \"1G\", max = \"2G\" }\n";
        let was = vm(memory);
        let was = Booted::new(&"web".parse().unwrap(), &was, 1, "digest", &programs);
        let differences = |keys: &str| differences(&was, &vm(keys));
        assert_eq!(
            differences(&format!("{memory}limits.cpu-weight = 7")),
            [""; 0]
        );
        assert_eq!(
            differences("memory = { size = \"2G\", max = \"2G\" }"),
            [""; 0]
        );
        assert_eq!(
            differences("memory = { size = \"1G\", max = \"3G\" }"),
            ["memory.max: it was 2G, and 3G is declared"]
        );
        let disk = "[[vm.web.disk]]\nname = \"data\"\npath = \"/srv/data.raw\"";
        assert_eq!(
            differences(&format!("{memory}{disk}")),
            ["disk.data.path: it was none, and /srv/data.raw is declared"]
        );
    }
}
