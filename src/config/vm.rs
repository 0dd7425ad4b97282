//! `[vm.<id>]`.

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU8, NonZeroU32};

use super::address::Taken;
use super::cloud_init::cloud_init;
use super::cursor::{Table, Value};
use super::device;
use super::diagnostic::Diagnostic;
use super::disk::{self, DiskUses};
use super::image::half_a_cmdline;
use super::memory;
use super::order::After;
use super::pci;
use super::ready::ready;
use super::share;
use super::unique::Unique;
use super::values;
use crate::host::{
    AbsolutePath, Autostart, Boot, Disk, HugePages, Image, ImageBoot, ImageFile, ImageName, Limits,
    LinkName, Mac, Memory, Network, NetworkName, OnChange, OnOff, OnTimeout, Panic, PciAddress,
    Ready, Restart, RngSource, Serial, Size, TimeSpan, Vcpus, Vm, VmId,
};
use crate::seed::{self, FirstBoot};

/// What VMs must not both have, and what they refer to.
#[derive(Debug)]
pub(super) struct Shared<'n> {
    pub(super) networks: BTreeSet<&'n NetworkName>,
    /// Those that are wrong themselves are absent in it.
    pub(super) images: &'n BTreeMap<ImageName, Option<Image>>,
    pub(super) state_dir: &'n AbsolutePath,
    /// Those of them that have no mistakes.
    pub(super) lowered: &'n BTreeMap<NetworkName, Network>,
    pub(super) addresses: Taken,
    pub(super) macs: Unique<Mac>,
    pub(super) taps: Unique<LinkName>,
    pub(super) disks: DiskUses,
    pub(super) after: After,
    /// Of VMs that have one.
    pub(super) first_boots: BTreeMap<VmId, FirstBoot>,
    pub(super) pci: Unique<PciAddress>,
    cids: Unique<NonZeroU32>,
}

impl<'n> Shared<'n> {
    pub(super) fn new(
        networks: impl Iterator<Item = &'n NetworkName>,
        lowered: &'n BTreeMap<NetworkName, Network>,
        images: &'n BTreeMap<ImageName, Option<Image>>,
        state_dir: &'n AbsolutePath,
    ) -> Self {
        Self {
            networks: networks.collect(),
            lowered,
            addresses: Taken::default(),
            images,
            state_dir,
            macs: Unique::default(),
            taps: Unique::default(),
            disks: DiskUses::default(),
            after: After::new(),
            first_boots: BTreeMap::new(),
            pci: Unique::default(),
            cids: Unique::default(),
        }
    }
}

pub(super) fn vm(value: &Value<'_>, id: &VmId, shared: &mut Shared<'_>) -> Option<Vm> {
    let mut table = value.table()?;
    let one = Vcpus {
        boot: NonZeroU8::MIN,
        max: NonZeroU8::MIN,
    };
    // All are read before the first `?`: each reports its own mistakes.
    let vcpus = table.read("vcpus", one, vcpus);
    let memory = table.read("memory", memory::default(), memory::memory);
    let disks = table.read("disk", Vec::new(), |value| disk::disks(value, id, shared));
    let boot = boot(value, id, &mut table, disks.as_deref(), shared);
    let boot_vcpus = vcpus.map(|vcpus| vcpus.boot);
    let nics = table.read("nic", Vec::new(), |value| {
        device::nics(value, id, boot_vcpus, shared)
    });
    let cloud_init = table.optional("cloud-init", |value| {
        refuse_seeds_name(value, id, disks.as_deref());
        cloud_init(value, id, shared)
    });
    let directories_value = table.take("share");
    let directories = match &directories_value {
        Some(value) => share::shares(value, id),
        None => Some(Vec::new()),
    };
    let memory = memory::shared(memory, directories_value.as_ref(), directories.as_deref());
    let (devices, memory) = pci::devices(&mut table, id, shared, memory);
    let tpm = table.optional("tpm", |value| {
        let state = format!("{}/vms/{id}/tpm", shared.state_dir).parse().ok();
        value.boolean().map(|wanted| state.filter(|_| wanted))
    });
    let rng = table.read("rng", RngSource::default(), rng);
    let watchdog = table.read("watchdog", OnOff::Off, |value| {
        value.boolean().map(OnOff::of)
    });
    let panic = table.read("pvpanic", Panic::Unseen, |value| {
        value.boolean().map(Panic::of)
    });
    let vsock_cid = table.optional("vsock-cid", |value| cid(value, id, shared));
    let serial = table.read("serial", Serial::Journal, |value| {
        let words = [("journal", Serial::Journal), ("socket", Serial::Socket)];
        values::choice(value, &words)
    });
    let autostart = table.read("autostart", Autostart::Yes, |value| {
        Some(if value.boolean()? {
            Autostart::Yes
        } else {
            Autostart::No
        })
    });
    let restart = table.read("restart", Restart::OnFailure, |value| {
        let words = [
            ("no", Restart::No),
            ("on-failure", Restart::OnFailure),
            ("always", Restart::Always),
        ];
        values::choice(value, &words)
    });
    let on_change = table.read("on-change", OnChange::Restart, |value| {
        values::choice(
            value,
            &[("restart", OnChange::Restart), ("defer", OnChange::Defer)],
        )
    });
    let start_timeout = table.read("start-timeout", TimeSpan::from_secs(120), values::time_span);
    let stop_timeout = table.read("stop-timeout", TimeSpan::from_secs(90), values::time_span);
    let vmm = Ready::Vmm {
        on_timeout: OnTimeout::Continue,
    };
    let ready = table.read("ready", vmm, |value| {
        ready(value, id, nics.as_deref(), shared)
    });
    let after = table.read("after", BTreeSet::new(), |value| after(value, id, shared));
    let limits = table.read("limits", Limits::default(), |value| {
        limits(value, memory.as_ref())
    });
    table.finish();
    Some(Vm {
        vcpus: vcpus?,
        memory: memory?,
        boot: boot?,
        disks: disks?,
        nics: nics?,
        cloud_init: cloud_init?,
        shares: directories?,
        pci: devices?,
        rng: rng?,
        tpm: tpm?.flatten(),
        watchdog: watchdog?,
        panic: panic?,
        vsock_cid: vsock_cid?,
        serial: serial?,
        // A word of the host's, which is read after all VMs.
        machined: OnOff::Off,
        autostart: autostart?,
        restart: restart?,
        on_change: on_change?,
        start_timeout: start_timeout?,
        stop_timeout: stop_timeout?,
        ready: ready?,
        after: after?,
        limits: limits?,
    })
}

/// Two disks of one name would be two of one serial number.
fn refuse_seeds_name(value: &Value<'_>, id: &VmId, disks: Option<&[Disk]>) {
    let mut disks = disks.into_iter().flatten();
    if let Some(disk) = disks.find(|disk| disk.name.as_str() == seed::NAME) {
        let message = format!(
            "VM `{id}` has a disk `{}` already, as its seed is called",
            disk.name
        );
        value.sink.report(
            Diagnostic::new(value.key_place.clone(), message).hint("give the disk another `name`"),
        );
    }
}

fn vcpu_count(value: &Value<'_>) -> Option<NonZeroU8> {
    NonZeroU8::new(u8::try_from(value.integer(1, 254)?).ok()?)
}

fn vcpus(value: &Value<'_>) -> Option<Vcpus> {
    if value.is_integer() {
        let count = vcpu_count(value)?;
        return Some(Vcpus {
            boot: count,
            max: count,
        });
    }
    if !value.is_table() {
        value.wrong_type("an integer or a table");
        return None;
    }
    let mut table = value.table()?;
    let boot = table.read("boot", NonZeroU8::MIN, vcpu_count);
    let max_value = table.take("max");
    if let Some(boot) = boot {
        table.derived("max", &boot);
    }
    table.finish();
    let max = match &max_value {
        Some(value) => vcpu_count(value)?,
        None => boot?,
    };
    let boot = boot?;
    if max < boot {
        let value = max_value.as_ref()?;
        value.error(format!(
            "`max` is {max}, which is fewer than the {boot} vCPUs at boot"
        ));
        return None;
    }
    Some(Vcpus { boot, max })
}

/// The kernel that the VM's first disk's image has.
fn image_boot<'s>(
    disks: &'s [Disk],
    shared: &Shared<'s>,
) -> Option<(&'s ImageName, &'s ImageBoot)> {
    let image = disks.first()?.origin.image()?;
    let boot = shared.images.get(image)?.as_ref()?.boot.as_ref()?;
    Some((image, boot))
}

fn boot(
    vm: &Value<'_>,
    id: &VmId,
    table: &mut Table<'_>,
    disks: Option<&[Disk]>,
    shared: &Shared<'_>,
) -> Option<Boot> {
    let kernel_value = table.take("kernel");
    let firmware_value = table.take("firmware");
    let initrd_value = table.take("initrd");
    let cmdline_value = table.take("cmdline");
    let kernel = kernel_value.as_ref().map(values::path);
    let firmware = firmware_value.as_ref().map(values::path);
    let initrd = initrd_value.as_ref().map(values::path);
    let cmdline = cmdline_value
        .as_ref()
        .map(|value| values::parsed(value, "a kernel command line", None));

    match (&kernel_value, &firmware_value) {
        (Some(kernel), Some(firmware)) => {
            vm.sink.report(
                Diagnostic::new(
                    firmware.key_place.clone(),
                    format!("VM `{id}` has both a `kernel` and a `firmware`"),
                )
                .also(kernel.key_place.clone(), "the kernel")
                .hint("leave out one: a firmware finds its kernel on the first disk"),
            );
            return None;
        }
        (None, None) => {
            // Which kernel there is, is only known when the disks are right.
            let image = image_boot(disks?, shared);
            if let Some((name, image)) = image.filter(|_| initrd_value.is_none()) {
                return match image {
                    ImageBoot::Beside {
                        kernel,
                        initrd,
                        cmdline: of_image,
                    } => {
                        let file = |file: &ImageFile| file.path(shared.state_dir);
                        let cmdline = present(cmdline)?;
                        Some(Boot::Kernel {
                            kernel: file(kernel),
                            initrd: initrd.as_ref().map(file),
                            cmdline: cmdline.or_else(|| of_image.clone()),
                        })
                    }
                    ImageBoot::Inside {
                        cmdline: of_image, ..
                    } => {
                        let cmdline = cmdline_value.as_ref().map(half_a_cmdline);
                        Some(Boot::Inside {
                            image: name.clone(),
                            cmdline: present(cmdline)?.or_else(|| of_image.clone()),
                        })
                    }
                };
            }
            vm.sink.report_absence(
                Diagnostic::new(
                    vm.key_place.clone(),
                    format!("VM `{id}` has nothing to boot"),
                )
                .hint("give it a `kernel`, or a `firmware` that boots its first disk, or make that disk from an image with a `kernel`"),
            );
            return None;
        }
        _ => {}
    }
    if firmware_value.is_some() {
        let extra: Vec<_> = [&initrd_value, &cmdline_value]
            .into_iter()
            .flatten()
            .collect();
        for value in &extra {
            let message = format!("`{}` needs a `kernel`, and VM `{id}` has none", value.key);
            vm.sink.report(
                Diagnostic::new(value.key_place.clone(), message)
                    .hint("what a firmware boots is on the disk, and brings its own"),
            );
        }
        return firmware?.map(Boot::Firmware).filter(|_| extra.is_empty());
    }
    Some(Boot::Kernel {
        kernel: kernel??,
        initrd: present(initrd)?,
        cmdline: present(cmdline)?,
    })
}

/// Absent is good, bad is not.
#[expect(
    clippy::option_option,
    reason = "the outer one is whether the file is good here"
)]
fn present<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        None => Some(None),
        Some(value) => value.map(Some),
    }
}

fn rng(value: &Value<'_>) -> Option<RngSource> {
    let mut table = value.table()?;
    let source = table.read("source", RngSource::default(), |value| {
        values::choice(value, &RngSource::ALL.map(|source| (source.path(), source)))
    });
    table.finish();
    source
}

fn cid(value: &Value<'_>, id: &VmId, shared: &mut Shared<'_>) -> Option<NonZeroU32> {
    // 0 to 2 are the hypervisor's, the local and the host's own; the last is "any" (vsock(7)).
    let number = value.integer(3, i64::from(u32::MAX) - 1)?;
    let cid = NonZeroU32::new(u32::try_from(number).ok()?)?;
    shared
        .cids
        .claim(value.sink, cid, &value.place, &format!("VM `{id}`"), || {
            format!("two VMs have the vsock CID {cid}")
        });
    Some(cid)
}

fn after(value: &Value<'_>, id: &VmId, shared: &mut Shared<'_>) -> Option<BTreeSet<VmId>> {
    let mut all = Some(BTreeSet::new());
    for element in value.array("an array of VMs' names")? {
        let other = values::parsed::<VmId>(&element, "the name of a VM", None);
        if let Some(other) = &other {
            let waits = shared.after.entry(id.clone()).or_default();
            waits.push((other.clone(), element.place.clone()));
        }
        all = all.zip(other).map(|(mut all, other)| {
            all.insert(other);
            all
        });
    }
    all
}

fn limits(value: &Value<'_>, memory: Option<&Memory>) -> Option<Limits> {
    let mut table = value.table()?;
    let cpu_weight = table.optional("cpu-weight", values::weight);
    let cpu_quota = table.optional("cpu-quota", values::cpu_quota);
    let high_value = table.take("memory-high");
    let max_value = table.take("memory-max");
    let io_weight = table.optional("io-weight", values::weight);
    let tasks_max = table.optional("tasks-max", values::positive);
    table.finish();
    let memory_high = present(high_value.as_ref().map(values::size));
    let memory_max = present(max_value.as_ref().map(values::size));
    if let (Some(value), Some(Some(max))) = (&max_value, memory_max) {
        memory_max_is_enough(value, max, memory);
        let high = high_value.as_ref().zip(memory_high.flatten());
        if let Some((high_value, high)) = high.filter(|(_, high)| *high > max) {
            value.sink.report(
                high_value
                    .diagnostic(format!(
                        "`memory-high` is {high}, which is more than `memory-max`"
                    ))
                    .also(
                        value.place.clone(),
                        "the VM is killed before it is slowed down",
                    ),
            );
        }
    }
    Some(Limits {
        cpu_weight: cpu_weight?,
        cpu_quota: cpu_quota?,
        memory_high: memory_high?,
        memory_max: memory_max?,
        io_weight: io_weight?,
        tasks_max: tasks_max?,
    })
}

/// Huge pages are not counted in a control group's memory (cgroup-v2, `memory_hugetlb_accounting`).
fn memory_max_is_enough(value: &Value<'_>, max: Size, memory: Option<&Memory>) {
    let counted = memory.filter(|memory| memory.hugepages == HugePages::Off);
    if let Some(memory) = counted.filter(|memory| max < memory.size) {
        value.error_with_hint(
            format!(
                "`memory-max` is {max}, which is less than the VM's memory, {}",
                memory.size
            ),
            "the VM would be killed as soon as the guest uses its memory",
        );
    }
}
