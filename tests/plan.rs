//! Each directory of `tests/plan/` is a sentence that must be true of a plan.
//!
//! - `before.toml`: the configuration that the host is at; absent on a host that nkudo never touched.
//!   All of it runs: bridges, TAPs, files for networkd, units of VMs with autostart.
//! - `after.toml`: the configuration that is switched to.
//! - `observed.toml`: how the host differs from that; see `Differs`.
//! - `plan.txt`: what is printed.
//! - `plan.json`, where there is one: what is printed with `--json`.
//! - `differences.txt`, where there is one: what of the networks is not as declared, in `doctor`'s words.
//!
//! `NKUDO_BLESS=1 cargo test --test plan` writes the texts anew.

#![expect(
    clippy::unwrap_used,
    reason = "a case that is wrong fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use nkudo::booted::{Booted, FormatVersion};
use nkudo::config::{self, Source};
use nkudo::disk::{DiskRecord, ImageSeen};
use nkudo::generation::{Manifest, Origin, Rendering};
use nkudo::host::{
    AbsolutePath, Autostart, DiskAccess, DiskFormat, DiskName, Family, Image, ImageFile,
    InsideKernel, IommuGroup, Isolation, Network, PciAddress, Setting, Size, Tuning, Vm, VmId,
};
use nkudo::hypervisor::Version;
use nkudo::network::{self, Backend};
use nkudo::observe::{
    Admin, Below, Closer, DhcpUnit, DroppingChain, HeldBy, Holder, Hypervisor, Iommu, Link,
    LinkKind, MadeDisk, Needs, NetworkFacts, NetworkManager, Networkd, Noted, Observed, PagePool,
    PciDevice, PciDevices, Remains, Route, Rules, Specification, Storage, SystemdVersion, Traffic,
    TuningFacts, Unit, UnitFacts, UnitOrigin, UnitState, Vfio,
};
use nkudo::pci::Taken;
use nkudo::plan::{
    OnObstacle, Pending, Plan, PlanDocument, Reason, Request, Switch, differences,
    obstacles_document, plan,
};
use nkudo::status::status;
use nkudo::unit::{Programs, limit_values, read_limits};
use serde::Deserialize;

/// `observed.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Differs {
    /// `start web`, `stop web`, `restart web`; without it, a switch.
    request: Option<String>,
    /// Options of the switch.
    only: Option<BTreeSet<VmId>>,
    restart: bool,
    restart_limit: Option<NonZeroUsize>,
    /// What VMs were started with: an older nkudo's unit, the path of another nkudo, the version of
    /// another hypervisor.
    started_with: BTreeMap<VmId, StartedWith>,
    systemd: Option<u32>,
    /// `absent`: networkd does not run.
    networkd: Option<Presence>,
    /// The version of the hypervisor, or why it cannot be run.
    hypervisor: Option<String>,
    held: BTreeSet<VmId>,
    /// VMs that `systemctl stop` stopped.
    held_by_systemd: BTreeSet<VmId>,
    unit: BTreeMap<VmId, UnitDiffers>,
    link: BTreeMap<String, LinkDiffers>,
    unit_files: Vec<String>,
    /// Files for networkd that are missing.
    missing_files: Vec<String>,
    /// nkudo's firewall rules: `gone`, `changed`, or why nft cannot be run.
    rules: Option<String>,
    /// Chains of others that drop what is forwarded: `ip filter FORWARD`.
    dropping: Vec<String>,
    /// Routes of the host's over eth1: `link`, or `gateway`.
    routes: BTreeMap<String, String>,
    /// `absent`: it is not installed.
    dnsmasq: Option<Presence>,
    /// It is not there, otherwise.
    network_manager: Option<NetworkManagerIs>,
    /// Whether IPv6 is forwarded on all links or none.
    old_kernel: bool,
    /// VMs whose booted specification is missing.
    lost: BTreeSet<VmId>,
    /// Disks, by VM and name.
    disk: BTreeMap<VmId, BTreeMap<DiskName, DiskDiffers>>,
    /// Names in the image store, besides those that `before` needs.
    images: BTreeSet<String>,
    /// Paths that a process has locked, and which: `qemu-system-x86`, or `VM web`.
    locked: BTreeMap<AbsolutePath, String>,
    /// PCI devices of the host.
    pci: BTreeMap<PciAddress, PciIs>,
    /// `absent`: none is on.
    iommu: Option<Presence>,
    /// `absent`: the kernel has no vfio-pci.
    vfio: Option<Presence>,
    /// Files and directories that there are not.
    missing: BTreeSet<camino::Utf8PathBuf>,
    /// Huge pages, by their size.
    pages: BTreeMap<Size, PagesAre>,
    /// As at a boot: what stands in the way of one VM, stands in its way alone.
    boot: bool,
    /// Programs that there are not.
    missing_programs: BTreeSet<String>,
    tuning: TuningDiffers,
}

/// The kernel's settings, by path. One that nothing is said of is 0, or a governor `powersave`, unless `before` sets it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct TuningDiffers {
    has: BTreeMap<String, String>,
    missing: BTreeSet<String>,
    /// Whether the kernel was asked for other values, and what it made of them is noted.
    became: BTreeMap<String, String>,
    /// Whether nkudo's own note of what was there before is lost.
    note_lost: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct PagesAre {
    total: u64,
    free: Option<u64>,
    #[serde(default)]
    reserved: u64,
    #[serde(default)]
    more: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct PciIs {
    driver: Option<String>,
    group: Option<IommuGroup>,
    #[serde(default)]
    uses: Vec<String>,
    #[serde(default)]
    links: Vec<String>,
    /// By nkudo.
    taken: Option<Taken>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum NetworkManagerIs {
    /// Of what `before` has.
    Told,
    Untold,
}

/// A disk that is not there as `before` declares it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct DiskDiffers {
    #[serde(default)]
    is: Option<Presence>,
    size: Option<Size>,
    format: Option<DiskFormat>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct StartedWith {
    nkudo: Option<String>,
    hypervisor: Option<String>,
    other_unit: bool,
    /// The memory that it was booted with.
    memory: Option<Size>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Presence {
    Present,
    Absent,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct UnitDiffers {
    /// systemd's ActiveState, or `absent`.
    #[serde(default = "active")]
    state: String,
    #[serde(default)]
    sub_state: String,
    #[serde(default)]
    result: String,
    #[serde(default)]
    restarts: u32,
    /// The file of a unit that is not transient.
    file: Option<String>,
    /// Whether nothing says that nkudo made it.
    #[serde(default)]
    foreign: bool,
    /// Lines of drop-ins that SetUnitProperties made.
    #[serde(default)]
    set: String,
    /// Files of drop-ins that the administrator made.
    #[serde(default)]
    drop_ins: Vec<String>,
}

fn active() -> String {
    "active".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct LinkDiffers {
    #[serde(default)]
    is: Option<Presence>,
    kind: Option<String>,
    /// `foreign`, or `ours`.
    mac: Option<String>,
    master: Option<String>,
    addresses: Option<Vec<ipnet::IpNet>>,
    #[serde(default)]
    down: bool,
}

#[test]
fn every_plan_is_as_its_sentence_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plan");
    let bless = std::env::var_os("NKUDO_BLESS").is_some();
    let mut cases: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    let mut differing = String::new();
    for case in &cases {
        let name = case.file_name().unwrap().to_str().unwrap();
        let (text, json, differences) = planned(case);
        let mut files = vec![("plan.txt", text)];
        if case.join("plan.json").exists() {
            files.push(("plan.json", json));
        }
        if case.join("differences.txt").exists() {
            files.push(("differences.txt", differences));
        }
        for (file, planned) in files {
            let recorded_in = case.join(file);
            if bless {
                fs::write(&recorded_in, planned).unwrap();
                continue;
            }
            let recorded = fs::read_to_string(&recorded_in).unwrap_or_default();
            if recorded != planned {
                let diff = similar::TextDiff::from_lines(&recorded, &planned);
                writeln!(differing, "=== {name}/{file}\n{}", diff.unified_diff()).unwrap();
            }
        }
    }
    assert!(
        differing.is_empty(),
        "NKUDO_BLESS=1 accepts these:\n{differing}"
    );
}

/// The plan as text and as JSON, and what of the networks differs.
fn planned(case: &Path) -> (String, String, String) {
    let read = |file: &str| fs::read_to_string(case.join(file)).unwrap_or_default();
    let differs: Differs = toml::from_str(&read("observed.toml"))
        .unwrap_or_else(|err| panic!("{}: {err}", case.display()));
    let mut before = manifest(&read("before.toml"), case);
    let seen = storage(&before, &Differs::default());
    nkudo::disk::as_made(&mut before.host, &seen);
    let mut after = manifest(&read("after.toml"), case);
    let observed = observed(&before, &after, &differs);
    if let Hypervisor::Found(version) = observed.hypervisor {
        after.programs.hypervisor_version = version;
    }
    nkudo::disk::as_made(&mut after.host, &observed.storage);
    let request = match differs.request.as_deref().map(|text| text.split_once(' ')) {
        None => Request::Switch(Switch {
            only: differs.only.clone(),
            pending: if differs.restart {
                Pending::CarryOut
            } else {
                Pending::Leave
            },
            restart_limit: differs.restart_limit,
            on_obstacle: if differs.boot {
                OnObstacle::LeaveOut
            } else {
                OnObstacle::Refuse
            },
            ..Switch::default()
        }),
        Some(Some(("start", id))) => Request::Start(id.parse().unwrap()),
        Some(Some(("stop", id))) => Request::Stop(id.parse().unwrap()),
        Some(Some(("restart", id))) => Request::Restart(id.parse().unwrap()),
        other => panic!("{}: {other:?}", case.display()),
    };
    let differing =
        differences(&after, &observed, &request)
            .iter()
            .fold(String::new(), |mut text, one| {
                writeln!(text, "{:?}: {one}", one.about).unwrap();
                text
            });
    let (text, json) = match plan(&after, &observed, &request) {
        Ok(plan) => {
            status_shows_the_same_upgrades(&plan, &after, &observed, case);
            let json = serde_json::to_string_pretty(&PlanDocument::of(&plan)).unwrap() + "\n";
            let mut text = plan.to_string();
            if plan.is_empty() {
                text.push_str("nothing to do\n");
            }
            for (word, waves) in [("stop", &plan.stop), ("start", &plan.start)] {
                // Order is worth a line where there is one.
                if waves.len() > 1 {
                    let waves: Vec<String> = waves
                        .iter()
                        .map(|wave| {
                            let ids: Vec<&str> = wave.iter().map(VmId::as_str).collect();
                            ids.join(" ")
                        })
                        .collect();
                    writeln!(text, "order to {word}: {}", waves.join(", then ")).unwrap();
                }
            }
            (text, json)
        }
        Err(obstacles) => {
            let json = serde_json::to_string_pretty(&obstacles_document(&obstacles)).unwrap();
            let text = obstacles.iter().fold(String::new(), |mut text, obstacle| {
                writeln!(text, "error: {obstacle}").unwrap();
                text
            });
            (text, json + "\n")
        }
    };
    (text, json, differing)
}

/// `nkudo status` says of upgrades what the plan says.
fn status_shows_the_same_upgrades(plan: &Plan, after: &Manifest, observed: &Observed, case: &Path) {
    let status = status(Some((2, after)), None, observed, &Closer::default());
    for (id, step) in &plan.vms {
        let planned: Vec<String> = step
            .reasons
            .iter()
            .filter(|reason| matches!(reason, Reason::Upgraded { .. } | Reason::OtherUnit))
            .map(ToString::to_string)
            .collect();
        let vm = status.vms.iter().find(|vm| vm.id == *id);
        let upgrades = vm.into_iter().flat_map(|vm| &vm.upgrades);
        let shown: Vec<String> = upgrades.map(|upgrade| upgrade.text.clone()).collect();
        assert_eq!(shown, planned, "{id} in {}", case.display());
    }
}

fn programs() -> Programs {
    Programs {
        hypervisor: "/usr/bin/cloud-hypervisor".into(),
        hypervisor_version: Version {
            major: 53,
            minor: 0,
        },
        nkudo: "/usr/bin/nkudo".into(),
        virtiofsd: Some("/usr/libexec/virtiofsd".into()),
        swtpm: Some("/usr/bin/swtpm".into()),
    }
}

fn manifest(text: &str, case: &Path) -> Manifest {
    let sources = [Source {
        name: "nkudo.toml".to_owned(),
        text: text.to_owned(),
    }];
    let outcome = config::load(&sources);
    let Some(host) = outcome.host else {
        let said = config::render(&outcome.diagnostics, &sources);
        panic!("{}: {said}", case.display());
    };
    let rendering = Rendering {
        first_boots: &outcome.first_boots,
        host: &host,
        programs: &programs(),
        origin: Origin::Default,
        inputs: &[],
    };
    rendering.generation(1).unwrap().manifest
}

/// A host that is as `before` says, but for what differs.
fn observed(before: &Manifest, after: &Manifest, differs: &Differs) -> Observed {
    let networkd = match differs.networkd {
        Some(Presence::Absent) => Networkd::Absent,
        _ => Networkd::Runs,
    };
    let backend = match networkd {
        Networkd::Runs => Backend::Networkd,
        Networkd::Absent => Backend::Netlink,
    };
    let mut observed = Observed {
        systemd: SystemdVersion(differs.systemd.unwrap_or(257)),
        networkd,
        hypervisor: match &differs.hypervisor {
            None => Hypervisor::Found(programs().hypervisor_version),
            Some(text) => match format!("cloud-hypervisor v{text}").parse() {
                Ok(version) => Hypervisor::Found(version),
                Err(_) => Hypervisor::Unusable(text.clone()),
            },
        },
        units: BTreeMap::new(),
        unit_files: differs.unit_files.clone(),
        links: links(before),
        networkd_files: network::files(&before.host, backend),
        remains: BTreeMap::new(),
        held: held(differs),
        obstructed: BTreeMap::new(),
        needs: needs(differs),
        storage: storage(before, differs),
        pci: pci_devices(differs),
        network: network_facts(before, backend, differs),
        tuning: tuning_facts(&before.host.tuning, &after.host.tuning, &differs.tuning),
    };
    for (id, vm) in &before.host.vms {
        if vm.autostart == Autostart::No {
            continue;
        }
        observed.units.insert(id.clone(), unit(before, id));
        let booted = booted(before, id, vm, differs);
        let remains = Remains {
            specification: Specification::Known(Box::new(booted)),
            root: true,
        };
        observed.remains.insert(id.clone(), remains);
    }
    observed
        .networkd_files
        .retain(|name, _| !differs.missing_files.contains(name));
    for id in &differs.lost {
        observed.remains.remove(id);
    }
    for (id, change) in &differs.unit {
        change_unit(&mut observed, before, id, change);
    }
    for (name, change) in &differs.link {
        change_link(&mut observed, name, change);
    }
    observed
}

/// Huge pages of 2 MiB are what there is of them by default.
fn needs(differs: &Differs) -> Needs {
    let pools = differs.pages.iter().map(|(size, is)| {
        let pool = PagePool {
            total: is.total,
            free: is.free.unwrap_or(is.total),
            reserved: is.reserved,
            more: is.more,
        };
        (*size, pool)
    });
    let missing = differs.missing.iter();
    Needs {
        missing: missing
            .map(|path| (path.clone(), "No such file or directory".to_owned()))
            .collect(),
        hugepages: pools.collect(),
        default_hugepage: Some(Size::from_mib(2)),
    }
}

fn held(differs: &Differs) -> BTreeMap<VmId, HeldBy> {
    let by = |ids: &BTreeSet<VmId>, by: HeldBy| -> Vec<_> {
        ids.iter().map(|id| (id.clone(), by)).collect()
    };
    let mut held = by(&differs.held, HeldBy::Nkudo);
    held.extend(by(&differs.held_by_systemd, HeldBy::Systemd));
    held.into_iter().collect()
}

fn booted(before: &Manifest, id: &VmId, vm: &Vm, differs: &Differs) -> Booted {
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

/// The kernel in every image of `before` that is booted by it.
fn inside() -> InsideKernel {
    InsideKernel {
        version: "6.12".to_owned(),
        kernel: "ab".repeat(32).parse().unwrap(),
        initrd: None,
        cmdline: "root=PARTUUID=1 ro console=ttyS0".parse().unwrap(),
    }
}

/// The disks and images that `before` needs, but for what differs.
fn storage(before: &Manifest, differs: &Differs) -> Storage {
    let mut storage = Storage::default();
    let host = &before.host;
    for (id, vm) in &host.vms {
        for disk in vm.disks.iter().filter(|disk| disk.origin.is_made()) {
            let image = disk.origin.image().map(|name| &host.images[name]);
            let seen = image.map(|image| ImageSeen {
                identity: image.disk.identity(),
                path: image.disk.path(&host.state_dir),
                format: image.format,
                length: 2 << 30,
                modified: 0,
                kernel: None,
                initrd: None,
                inside: image.inside().map(|_| inside()),
            });
            let made = MadeDisk {
                format: disk.format,
                size: disk.origin.size().or(Some(Size::from_mib(2048))),
                allocated: Size::from_mib(1),
                record: Some(DiskRecord {
                    version: FormatVersion,
                    origin: disk.origin.clone(),
                    image: seen,
                }),
                below: Below::Whole,
            };
            let disks = storage.disks.entry(id.clone()).or_default();
            disks.insert(disk.name.clone(), made);
        }
    }
    for file in host.images.values().flat_map(Image::files) {
        if let ImageFile::Stored(file) = file {
            storage.images.insert(file.name());
        }
    }
    for record in host.images.values().filter_map(Image::inside) {
        storage.inside.insert(record, inside());
    }
    storage.images.extend(differs.images.iter().cloned());
    for (id, disks) in &differs.disk {
        for (name, change) in disks {
            let disks = storage.disks.entry(id.clone()).or_default();
            if change.is == Some(Presence::Absent) {
                disks.remove(name);
                continue;
            }
            let made = disks.entry(name.clone()).or_insert(MadeDisk {
                format: DiskFormat::Raw,
                size: None,
                allocated: Size::from_mib(1),
                record: None,
                below: Below::Whole,
            });
            made.size = change.size.or(made.size);
            made.format = change.format.unwrap_or(made.format);
        }
    }
    for (path, who) in &differs.locked {
        let vm = who.strip_prefix("VM ").map(|id| id.parse().unwrap());
        let holder = Holder {
            pid: 4321,
            command: vm
                .as_ref()
                .map_or(who.as_str(), |_| "cloud-hyperviso")
                .to_owned(),
            vm,
            access: DiskAccess::ReadWrite,
        };
        storage.held.insert(path.as_path().to_owned(), holder);
    }
    storage.missing = nkudo::disk::PROGRAMS
        .into_iter()
        .filter(|program| differs.missing_programs.contains(*program))
        .collect();
    storage
}

fn pci_devices(differs: &Differs) -> PciDevices {
    let mut devices = PciDevices {
        iommu: differs.iommu.map_or(Iommu::On, |_| Iommu::Off),
        vfio: differs.vfio.map_or(Vfio::There, |_| Vfio::Missing),
        ..PciDevices::default()
    };
    for (address, is) in &differs.pci {
        let device = PciDevice {
            driver: is.driver.clone(),
            group: is.group,
            uses: is.uses.clone(),
            links: is.links.clone(),
        };
        devices.there.insert(*address, device);
        if let Some(taken) = &is.taken {
            devices.taken.insert(*address, taken.clone());
        }
    }
    devices
}

fn network_manager(before: &Manifest, differs: &Differs) -> NetworkManager {
    match differs.network_manager {
        None => NetworkManager::Absent,
        Some(NetworkManagerIs::Untold) => NetworkManager::There(None),
        Some(NetworkManagerIs::Told) => {
            NetworkManager::There(network::network_manager(&before.host))
        }
    }
}

/// Everything else of the network that is as `before` says, but for what differs.
fn network_facts(before: &Manifest, backend: Backend, differs: &Differs) -> NetworkFacts {
    let host = &before.host;
    let rules = match (differs.rules.as_deref(), network::rules(host)) {
        (Some("gone"), _) | (None, None) => Rules::Absent,
        (Some("changed"), _) => Rules::Changed,
        (None, Some(text)) => Rules::Loaded(text),
        (Some(why), _) => Rules::Unusable(why.to_owned()),
    };
    let mut facts = NetworkFacts {
        rules,
        dropping: differs.dropping.iter().map(|text| dropping(text)).collect(),
        dnsmasq: differs
            .dnsmasq
            .map_or(Some("/usr/sbin/dnsmasq".into()), |_| None),
        network_manager: network_manager(before, differs),
        ..NetworkFacts::default()
    };
    let links = links(before);
    let eth0 = links["eth0"].index;
    let mut route = |destination: &str, link: u32, on_link: bool| {
        facts.routes.push(Route {
            destination: destination.parse().unwrap(),
            link,
            on_link,
        });
    };
    route("0.0.0.0/0", eth0, false);
    route("::/0", eth0, false);
    route("203.0.113.0/24", eth0, true);
    for (destination, via) in &differs.routes {
        route(destination, links["eth1"].index, via == "link");
    }
    for (family, forwards) in [("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)] {
        let forwards = host
            .networks
            .values()
            .filter_map(Network::own)
            .any(|bridge| bridge.forwards(forwards));
        let key = if family == "ipv4" {
            "forwarding"
        } else {
            "force_forwarding"
        };
        for name in links.keys().filter(|name| !name.starts_with("nkt-")) {
            if differs.old_kernel && family == "ipv6" {
                continue;
            }
            let bridge = host
                .networks
                .values()
                .filter_map(Network::own)
                .find(|b| b.name.as_str() == name.as_str());
            let on = match bridge {
                Some(bridge) => bridge.forwards(if family == "ipv4" {
                    Family::Ipv4
                } else {
                    Family::Ipv6
                }),
                None => forwards && name == "eth0",
            };
            let sysctl = format!("net/{family}/conf/{name}/{key}");
            if on {
                facts.sysctls.ours.insert(sysctl.clone(), "1".to_owned());
            }
            facts
                .sysctls
                .seen
                .insert(sysctl, if on { "1" } else { "0" }.to_owned());
        }
        facts
            .sysctls
            .seen
            .insert(format!("net/{family}/conf/all/forwarding"), "0".to_owned());
    }
    facts
        .sysctls
        .seen
        .insert("net/ipv6/conf/eth0/accept_ra".to_owned(), "1".to_owned());
    for (name, network) in &host.networks {
        if let Some(own) = network.own()
            && let Some(uplink) = &own.uplink
            && uplink.vlan.is_none()
        {
            facts
                .uplinks
                .insert(uplink.link.to_string(), own.name.to_string());
        }
        if backend == Backend::Netlink
            && let Some(digest) = nkudo::unit::dhcp_digest(host, name)
        {
            let unit = DhcpUnit {
                state: UnitState::Active,
                digest: Some(digest),
            };
            facts.dhcp.insert(name.clone(), unit);
        }
    }
    facts
}

fn tuning_facts(before: &Tuning, after: &Tuning, differs: &TuningDiffers) -> TuningFacts {
    let mut facts = TuningFacts {
        sysctl_file: nkudo::tuning::sysctl(before),
        tmpfiles_file: nkudo::tuning::tmpfiles(before),
        governors: ["performance", "powersave"].map(str::to_owned).into(),
        ..TuningFacts::default()
    };
    let paths = |setting: &Setting| match setting {
        Setting::CpuGovernor => ["policy0", "policy1"]
            .map(|policy| setting.path().replace("policy*", policy))
            .to_vec(),
        _ => vec![setting.path()],
    };
    for setting in after.settings().keys() {
        let value = match setting {
            Setting::CpuGovernor => "powersave",
            _ => "0",
        };
        for path in paths(setting) {
            facts.seen.insert(path, value.to_owned());
        }
    }
    for (setting, value) in before.settings() {
        for path in paths(&setting) {
            let noted = Noted {
                before: match setting {
                    Setting::CpuGovernor => "powersave".to_owned(),
                    _ => "0".to_owned(),
                },
                set: differs.became.get(&path).unwrap_or(&value).clone(),
            };
            facts.seen.insert(path.clone(), noted.set.clone());
            if !differs.note_lost {
                facts.noted.insert(path, noted);
            }
        }
    }
    facts.seen.extend(differs.has.clone());
    facts.seen.retain(|path, _| !differs.missing.contains(path));
    facts
}

/// `inet filter forward`
fn dropping(text: &str) -> DroppingChain {
    let words: Vec<&str> = text.split(' ').collect();
    let [family, table, chain] = words.as_slice() else {
        panic!("{text} is no chain");
    };
    DroppingChain {
        family: (*family).to_owned(),
        table: (*table).to_owned(),
        chain: (*chain).to_owned(),
    }
}

/// The bridges, and the TAPs in them.
fn links(before: &Manifest) -> BTreeMap<String, Link> {
    let mut links = BTreeMap::new();
    let mut next = 2..;
    let link = |index, kind| Link {
        index,
        kind,
        mac: None,
        master: None,
        isolation: Isolation::Off,
        below: None,
        traffic: Traffic::default(),
        admin: Admin::Up,
        addresses: BTreeSet::new(),
    };
    // The host's own, which its default route leads over, and another one.
    for name in ["eth0", "eth1"] {
        let mut own = link(next.next().unwrap(), LinkKind::Other);
        if name == "eth0" {
            own.addresses.insert("203.0.113.5/24".parse().unwrap());
        }
        links.insert(name.to_owned(), own);
    }
    for network in before.host.networks.values() {
        let mut master = None;
        if let Some(own) = network.own() {
            let mut bridge = link(next.next().unwrap(), LinkKind::Bridge);
            bridge.mac = Some(Network::bridge_mac(&own.name).octets());
            bridge.addresses.extend(&own.address);
            bridge.addresses.insert("fe80::1/64".parse().unwrap());
            master = Some(bridge.index);
            links.insert(own.name.to_string(), bridge);
        }
        let Some(uplink) = network.uplink() else {
            continue;
        };
        if let Some(vlan) = &uplink.vlan {
            let mut port = link(next.next().unwrap(), LinkKind::Vlan(vlan.id.get()));
            port.mac = Some(Network::vlan_mac(&vlan.link).octets());
            port.below = links.get(uplink.link.as_str()).map(|link| link.index);
            links.insert(vlan.link.to_string(), port);
        }
        if let Some(port) = links.get_mut(uplink.port().as_str()) {
            port.master = master;
        }
    }
    for vm in before.host.vms.values() {
        if vm.autostart == Autostart::No {
            continue;
        }
        for nic in &vm.nics {
            let mut tap = link(next.next().unwrap(), LinkKind::Tun);
            let network = &before.host.networks[&nic.network];
            tap.isolation = network.isolation;
            if let Some(bridge) = network.bridge() {
                tap.master = links.get(bridge.as_str()).map(|link| link.index);
            } else {
                tap.kind = LinkKind::Macvtap;
                let below = network.uplink().map(|uplink| uplink.port().as_str());
                tap.below = below
                    .and_then(|name| links.get(name))
                    .map(|link| link.index);
            }
            links.insert(nic.tap.to_string(), tap);
        }
    }
    links
}

fn unit(before: &Manifest, id: &VmId) -> Unit {
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

fn change_unit(observed: &mut Observed, before: &Manifest, id: &VmId, change: &UnitDiffers) {
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

fn change_link(observed: &mut Observed, name: &str, change: &LinkDiffers) {
    if change.is == Some(Presence::Absent) {
        let gone = observed.links.remove(name);
        // A link that goes lets go of its ports.
        for link in observed.links.values_mut() {
            if link.master == gone.as_ref().map(|gone| gone.index) {
                link.master = None;
            }
        }
        return;
    }
    let master = change
        .master
        .as_ref()
        .map(|name| observed.links[name].index);
    let count = u32::try_from(observed.links.len()).unwrap();
    let link = observed.links.entry(name.to_owned()).or_insert(Link {
        index: 100 + count,
        kind: LinkKind::Other,
        mac: None,
        master: None,
        isolation: Isolation::Off,
        below: None,
        traffic: Traffic::default(),
        admin: Admin::Up,
        addresses: BTreeSet::new(),
    });
    match change.kind.as_deref() {
        Some("bridge") => link.kind = LinkKind::Bridge,
        Some("tun") => link.kind = LinkKind::Tun,
        Some("macvtap") => link.kind = LinkKind::Macvtap,
        Some("other") => link.kind = LinkKind::Other,
        None => {}
        other => panic!("{other:?} is no kind"),
    }
    match change.mac.as_deref() {
        Some("foreign") => link.mac = Some([2, 0, 0, 0, 0, 1]),
        Some("ours") => {
            link.mac = Some(Network::bridge_mac(&name.parse().unwrap()).octets());
        }
        None => {}
        other => panic!("{other:?} is no mac"),
    }
    link.master = master.or(link.master);
    if let Some(addresses) = &change.addresses {
        link.addresses = addresses.iter().copied().collect();
    }
    if change.down {
        link.admin = Admin::Down;
    }
}
