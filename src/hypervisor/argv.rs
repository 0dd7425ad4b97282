//! The command line of one VM.

use std::fmt::Write as _;
use std::num::NonZero;
use std::ops::RangeFrom;

use camino::Utf8Path;

use crate::host::{
    Balloon, Boot, Disk, DiskAccess, DiskFormat, FreePages, HugePages, Memory, Nic, OnOff, OnOom,
    Panic, PciAddress, Rate, Ready, RngSource, Serial, Share, Sharing, Vm, VmId,
};
use crate::snapshot::NicId;
use crate::unit::{share_socket, tpm_socket};

use super::Version;
use super::sockets::{NOTIFY_PORT, api_socket, serial_socket, vsock_socket};

/// The arguments after the program's name. `seed` is the last disk, `runtime_directory` where the VM's sockets are.
///
/// The TAPs are the unit's extra file descriptors, which systemd passes as 3 and up in the order
/// of the NICs (`ExtraFileDescriptors=`, org.freedesktop.systemd1(5)).
pub fn argv(
    id: &VmId,
    vm: &Vm,
    seed: Option<&Disk>,
    version: Version,
    runtime_directory: &Utf8Path,
) -> Vec<String> {
    let mut args = own(runtime_directory);
    let mut option = |name: &str, values: Vec<String>| {
        args.push(format!("--{name}"));
        args.extend(values);
    };
    option(
        "cpus",
        vec![format!("boot={},max={}", vm.vcpus.boot, vm.vcpus.max)],
    );
    option("memory", vec![memory(&vm.memory)]);
    if let Some(one) = &vm.memory.balloon {
        option("balloon", vec![balloon(one)]);
    }
    match &vm.boot {
        Boot::Kernel {
            kernel,
            initrd,
            cmdline,
        } => {
            option("kernel", vec![kernel.to_string()]);
            if let Some(initrd) = initrd {
                option("initramfs", vec![initrd.to_string()]);
            }
            if let Some(cmdline) = cmdline {
                option("cmdline", vec![cmdline.to_string()]);
            }
        }
        Boot::Firmware(firmware) => option("firmware", vec![firmware.to_string()]),
        // In the text of a generation alone; a switch knows the files.
        Boot::Inside { image, cmdline } => {
            option("kernel", vec![format!("<inside image {image}>")]);
            if let Some(cmdline) = cmdline {
                option("cmdline", vec![cmdline.to_string()]);
            }
        }
    }
    // One option with several values: releases 36 to 51 take no second `--disk` or `--net`.
    let disks: Vec<String> = vm
        .disks
        .iter()
        .chain(seed)
        .map(|one| disk(one, version))
        .collect();
    if !disks.is_empty() {
        option("disk", disks);
    }
    if !vm.nics.is_empty() {
        let mut next = 3..;
        option(
            "net",
            vm.nics.iter().map(|one| nic(one, &mut next)).collect(),
        );
    }
    if !vm.shares.is_empty() {
        let share = |share: &Share| format!("tag={},socket={}", share.tag, share_socket(id, share));
        option("fs", vm.shares.iter().map(share).collect());
    }
    if !vm.pci.is_empty() {
        let device =
            |address: &PciAddress| format!("path=/sys/bus/pci/devices/{address},id=pci-{address}");
        option("device", vm.pci.iter().map(device).collect());
    }
    if vm.rng != RngSource::default() {
        option("rng", vec![format!("src={}", vm.rng)]);
    }
    if vm.tpm.is_some() {
        option("tpm", vec![format!("socket={}", tpm_socket(id))]);
    }
    if vm.watchdog == OnOff::On {
        option("watchdog", Vec::new());
    }
    if vm.panic == Panic::Told {
        option("pvpanic", Vec::new());
    }
    let notifies = matches!(vm.ready, Ready::Guest { .. });
    if let Some(cid) = vm.vsock_cid.map(NonZero::get).or(notifies.then_some(CID)) {
        let socket = vsock_socket(runtime_directory);
        option("vsock", vec![format!("cid={cid},socket={socket}")]);
    }
    if notifies {
        // A system credential, which the guest's systemd finds by SMBIOS (systemd.system-credentials(7)).
        let credential =
            format!("io.systemd.credential:vmm.notify_socket=vsock-stream:2:{NOTIFY_PORT}");
        option("platform", vec![format!("oem_strings=[{credential}]")]);
    }
    let serial = match vm.serial {
        // The unit's standard output, and so the journal.
        Serial::Journal => "tty".to_owned(),
        Serial::Socket => format!("socket={}", serial_socket(runtime_directory)),
    };
    option("serial", vec![serial]);
    option("console", vec!["off".to_owned()]);
    args
}

/// Of a guest that has a vsock device because its `ready` needs one. Each VMM has its own socket, so
/// that no two have to differ.
const CID: u32 = 3;

/// The arguments for the VM of a snapshot, whose configuration has all but the TAPs. `nics` is what that calls
/// the VM's NICs; the guest stands still until the VMM is told to let it go on.
pub fn restoring_argv(
    vm: &Vm,
    source: &Utf8Path,
    nics: &[NicId],
    runtime_directory: &Utf8Path,
) -> Vec<String> {
    let mut args = own(runtime_directory);
    let mut restore = format!("source_url={}", quoted(&format!("file://{source}")));
    let mut next = 3..;
    let nics: Vec<String> = vm
        .nics
        .iter()
        .zip(nics)
        .map(|(nic, id)| format!("{id}@[{}]", fds(nic, &mut next).join(",")))
        .collect();
    if !nics.is_empty() {
        let _ = write!(restore, ",net_fds=[{}]", nics.join(","));
    }
    args.extend(["--restore".to_owned(), restore]);
    args
}

/// What is the VMM's own.
fn own(runtime_directory: &Utf8Path) -> Vec<String> {
    let options = [
        (
            "api-socket",
            format!("path={}", api_socket(runtime_directory)),
        ),
        // The unit's own /tmp: `nkudo unit post` reads there whether a vCPU failed, because
        // cloud-hypervisor exits with 0 on that as on a guest's power-off.
        ("log-file", "/tmp/cloud-hypervisor.log".to_owned()),
        // Likewise: whether the guest panicked, and whether it ever booted, is told nowhere else.
        (
            "event-monitor",
            "path=/tmp/cloud-hypervisor.events".to_owned(),
        ),
    ];
    let options = options.into_iter();
    options
        .flat_map(|(name, value)| [format!("--{name}"), value])
        .collect()
}

fn memory(memory: &Memory) -> String {
    let mut text = format!("size={}", memory.size);
    if memory.max > memory.size {
        let more = memory.max.bytes() - memory.size.bytes();
        let _ = write!(text, ",hotplug_method=virtio-mem,hotplug_size={more}");
    }
    match memory.hugepages {
        HugePages::Off => {}
        HugePages::Default => text.push_str(",hugepages=on"),
        HugePages::Of(size) => {
            let _ = write!(text, ",hugepages=on,hugepage_size={size}");
        }
    }
    match memory.sharing {
        Sharing::Private => {}
        Sharing::Shared => text.push_str(",shared=on"),
        Sharing::Mergeable => text.push_str(",mergeable=on"),
    }
    text
}

fn balloon(balloon: &Balloon) -> String {
    let on_oom = match balloon.on_oom {
        OnOom::Keep => "off",
        OnOom::Deflate => "on",
    };
    let reporting = match balloon.free_pages {
        FreePages::Kept => "off",
        FreePages::Reported => "on",
    };
    let size = balloon.size;
    format!("size={size},deflate_on_oom={on_oom},free_page_reporting={reporting}")
}

/// The file descriptors of a TAP's queues: systemd passes them in the order of the NICs.
fn fds(nic: &Nic, next: &mut RangeFrom<u32>) -> Vec<String> {
    let pairs = usize::from(nic.queues.get());
    next.by_ref().take(pairs).map(|fd| fd.to_string()).collect()
}

fn nic(nic: &Nic, next: &mut RangeFrom<u32>) -> String {
    let pairs = usize::from(nic.queues.get());
    let fds = fds(nic, next);
    let fds = match fds.as_slice() {
        [one] => one.clone(),
        several => format!("[{}]", several.join(",")),
    };
    format!("fd={fds},mac={},num_queues={}", nic.mac, 2 * pairs)
}

fn disk(disk: &Disk, version: Version) -> String {
    let mut text = format!("path={},serial={}", quoted(disk.path.as_str()), disk.name);
    // By this id `vm.resize-disk` names it.
    let _ = write!(text, ",id={}", disk_id(disk));
    if disk.access == DiskAccess::ReadOnly {
        text.push_str(",readonly=on");
    }
    if version.knows_image_type() {
        text.push_str(match disk.format {
            DiskFormat::Raw => ",image_type=raw",
            DiskFormat::Qcow2 => ",image_type=qcow2",
        });
        // Off unless it is asked for: a qcow2 file that somebody else wrote could name any file.
        if disk.backing.is_some() {
            text.push_str(",backing_files=on");
        }
    }
    if let Some(rate) = disk.rate_limit.bandwidth {
        limited(&mut text, "bw", rate);
    }
    if let Some(rate) = disk.rate_limit.iops {
        limited(&mut text, "ops", rate);
    }
    text
}

/// A token bucket that is filled every second; cloud-hypervisor counts the time in milliseconds.
fn limited(text: &mut String, what: &str, rate: Rate) {
    let _ = write!(text, ",{what}_size={},{what}_refill_time=1000", rate.rate);
    if let Some(burst) = rate.burst {
        let _ = write!(text, ",{what}_one_time_burst={burst}");
    }
}

/// What cloud-hypervisor knows a disk by.
pub fn disk_id(disk: &Disk) -> String {
    format!("disk-{}", disk.name)
}

/// A value of a `key=value,…` option: in quotes when it holds what splits or nests options.
///
/// cloud-hypervisor reads a doubled quote as one (option_parser). It also trims white space at
/// both ends of a value, which the quotes stop.
pub fn quoted(value: &str) -> String {
    let plain = !value.is_empty()
        && !value.contains([',', '[', ']', '"'])
        && !value.contains(char::is_whitespace);
    if plain {
        value.to_owned()
    } else {
        format!("\"{}\"", value.replace('"', "\"\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nic_of_a_snapshot_gets_its_queues_in_their_order() {
        let nic = |queues: u8| Nic {
            network: "lan".parse().unwrap(),
            mac: crate::host::Mac::derived("vm", "web/0"),
            tap: crate::host::LinkName::tap(&"web".parse().unwrap(), 0),
            address: Vec::new(),
            gateway: Vec::new(),
            queues: serde_json::from_value(queues.into()).unwrap(),
            trust: crate::host::Trust::Checked,
        };
        let mut next = 3..;
        assert_eq!(fds(&nic(2), &mut next), ["3", "4"]);
        assert_eq!(fds(&nic(1), &mut next), ["5"]);
    }

    #[test]
    fn only_values_that_need_quotes_have_them() {
        assert_eq!(quoted("/srv/web.raw"), "/srv/web.raw");
        assert_eq!(quoted("/srv/a,b.raw"), "\"/srv/a,b.raw\"");
        assert_eq!(quoted("/srv/a\"b"), "\"/srv/a\"\"b\"");
    }
}
