//! Each directory of `tests/plan/` is a sentence that must be true of a plan.
//!
//! - `before.toml`: the configuration that the host is at; absent on a host that nkudo never touched.
//!   All of it runs: bridges, TAPs, files for networkd, units of VMs with autostart.
//! - `after.toml`: the configuration that is switched to.
//! - `observed.toml`: how the host differs from that; see `Differs`.
//! - `plan.txt`: what is printed.
//!
//! `NKUDO_BLESS=1 cargo test --test plan` writes the texts anew.

#![expect(
    clippy::unwrap_used,
    reason = "a case that is wrong fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use nkudo::booted::{Booted, FormatVersion};
use nkudo::config::{self, Source};
use nkudo::generation::{Manifest, Origin, Rendering};
use nkudo::host::{Autostart, Network, VmId};
use nkudo::hypervisor::Version;
use nkudo::network::{self, Backend};
use nkudo::observe::{
    Admin, Hypervisor, Link, LinkKind, Networkd, Observed, Remains, Specification, SystemdVersion,
    Unit, UnitFacts, UnitOrigin, UnitState,
};
use nkudo::plan::{Request, plan};
use nkudo::unit::Programs;
use serde::Deserialize;

/// `observed.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Differs {
    /// `start web`, `stop web`, `restart web`; without it, a switch.
    request: Option<String>,
    systemd: Option<u32>,
    /// `absent`: networkd does not run.
    networkd: Option<Presence>,
    /// The version of the hypervisor, or why it cannot be run.
    hypervisor: Option<String>,
    held: BTreeSet<VmId>,
    unit: BTreeMap<VmId, UnitDiffers>,
    link: BTreeMap<String, LinkDiffers>,
    unit_files: Vec<String>,
    /// Files for networkd that are missing.
    missing_files: Vec<String>,
    /// VMs whose booted specification is missing.
    lost: BTreeSet<VmId>,
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
    state: String,
    #[serde(default)]
    sub_state: String,
    #[serde(default)]
    result: String,
    #[serde(default)]
    restarts: u32,
    /// The file of a unit that is not transient.
    file: Option<String>,
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
        let planned = planned(case);
        let recorded_in = case.join("plan.txt");
        if bless {
            fs::write(&recorded_in, planned).unwrap();
            continue;
        }
        let recorded = fs::read_to_string(&recorded_in).unwrap_or_default();
        if recorded != planned {
            let diff = similar::TextDiff::from_lines(&recorded, &planned);
            writeln!(differing, "=== {name}\n{}", diff.unified_diff()).unwrap();
        }
    }
    assert!(
        differing.is_empty(),
        "NKUDO_BLESS=1 accepts these:\n{differing}"
    );
}

fn planned(case: &Path) -> String {
    let read = |file: &str| fs::read_to_string(case.join(file)).unwrap_or_default();
    let differs: Differs = toml::from_str(&read("observed.toml"))
        .unwrap_or_else(|err| panic!("{}: {err}", case.display()));
    let before = manifest(&read("before.toml"), case);
    let after = manifest(&read("after.toml"), case);
    let observed = observed(&before, &differs);
    let request = match differs.request.as_deref().map(|text| text.split_once(' ')) {
        None => Request::Switch,
        Some(Some(("start", id))) => Request::Start(id.parse().unwrap()),
        Some(Some(("stop", id))) => Request::Stop(id.parse().unwrap()),
        Some(Some(("restart", id))) => Request::Restart(id.parse().unwrap()),
        other => panic!("{}: {other:?}", case.display()),
    };
    match plan(&after, &observed, &request) {
        Ok(plan) if plan.is_empty() => format!("{plan}nothing to do\n"),
        Ok(plan) => {
            let mut text = plan.to_string();
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
            text
        }
        Err(obstacles) => obstacles.iter().fold(String::new(), |mut text, obstacle| {
            writeln!(text, "error: {obstacle}").unwrap();
            text
        }),
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
        host: &host,
        programs: &programs(),
        origin: Origin::Default,
        inputs: &[],
    };
    rendering.generation(1).unwrap().manifest
}

/// A host that is as `before` says, but for what differs.
fn observed(before: &Manifest, differs: &Differs) -> Observed {
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
        networkd_files: network::files(&before.host.networks, backend),
        remains: BTreeMap::new(),
        held: differs.held.clone(),
    };
    for (id, vm) in &before.host.vms {
        if vm.autostart == Autostart::No {
            continue;
        }
        observed.units.insert(id.clone(), unit(before, id));
        let booted = Booted {
            version: FormatVersion,
            id: id.clone(),
            generation: 1,
            digest: before.digests[id].clone(),
            vm: vm.clone(),
        };
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

/// The bridges, and the TAPs in them.
fn links(before: &Manifest) -> BTreeMap<String, Link> {
    let mut links = BTreeMap::new();
    let mut next = 2..;
    let link = |index, kind| Link {
        index,
        kind,
        mac: None,
        master: None,
        admin: Admin::Up,
        addresses: BTreeSet::new(),
    };
    for network in before.host.networks.values() {
        let mut bridge = link(next.next().unwrap(), LinkKind::Bridge);
        bridge.mac = Some(Network::bridge_mac(&network.bridge).octets());
        bridge.addresses.extend(&network.address);
        bridge.addresses.insert("fe80::1/64".parse().unwrap());
        links.insert(network.bridge.to_string(), bridge);
    }
    for vm in before.host.vms.values() {
        if vm.autostart == Autostart::No {
            continue;
        }
        for nic in &vm.nics {
            let mut tap = link(next.next().unwrap(), LinkKind::Tun);
            let bridge = &before.host.networks[&nic.network].bridge;
            tap.master = Some(links[bridge.as_str()].index);
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
    unit.state = state;
    unit.sub_state.clone_from(&change.sub_state);
    unit.facts = Some(UnitFacts {
        main_pid: 1000,
        result: change.result.clone(),
        restarts: change.restarts,
        active_since: 1,
        drop_ins: Vec::new(),
    });
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
        admin: Admin::Up,
        addresses: BTreeSet::new(),
    });
    match change.kind.as_deref() {
        Some("bridge") => link.kind = LinkKind::Bridge,
        Some("tun") => link.kind = LinkKind::Tun,
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
