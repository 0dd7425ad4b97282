//! How much CPU time it takes to make a status of 1,000 VMs that run out of what was seen of them: the parts that need no host.
//! `make bench` prints it; what a host adds is measured with VMs on one, there too.
//!
//! It fails where 1,000 VMs take 100 ms or more.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark that cannot run fails by panicking, and prints what it found"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nkudo::booted::Booted;
use nkudo::config::{self, Source};
use nkudo::document::FormatVersion;
use nkudo::generation::{Manifest, Origin};
use nkudo::host::{Host, Isolation, VmId};
use nkudo::hypervisor::Version;
use nkudo::observe::{
    Admin, Closer, Hypervisor, Link, LinkKind, Needs, NetworkFacts, Networkd, Observed, PciDevices,
    Remains, Specification, Storage, SystemdVersion, Traffic, TuningFacts, Unit, UnitFacts,
    UnitOrigin, UnitState,
};
use nkudo::status::status;
use nkudo::unit::{LimitValues, Programs};

const VMS: usize = 1_000;
const LIMIT: Duration = Duration::from_millis(100);
/// The least of so many runs: others work on the machine too.
const RUNS: usize = 5;

fn main() -> ExitCode {
    let host = host();
    let json: Vec<Vec<u8>> = host
        .vms
        .iter()
        .map(|(id, vm)| Booted::new(id, vm, 1, "d1", &programs()).to_json().unwrap())
        .collect();
    let manifest = manifest(host);
    let text = manifest.to_json().unwrap();
    let mut parts: [(&str, Duration); 4] = [
        ("manifest", Duration::MAX),
        ("booted specifications", Duration::MAX),
        ("status", Duration::MAX),
        ("JSON", Duration::MAX),
    ];
    for _ in 0..RUNS {
        let mut part = 0;
        let mut least = |begun: Instant| {
            parts[part].1 = parts[part].1.min(begun.elapsed());
            part += 1;
        };
        let begun = Instant::now();
        let manifest = Manifest::from_json(&text).unwrap();
        least(begun);
        let begun = Instant::now();
        let booted: Vec<Booted> = json
            .iter()
            .map(|json| Booted::from_json(json).unwrap())
            .collect();
        least(begun);
        let observed = observed(booted, &manifest.host);
        let begun = Instant::now();
        let status = status(Some((1, &manifest)), Some(1), &observed, &Closer::default());
        least(begun);
        assert_eq!(status.vms.len(), VMS);
        assert!(status.vms.iter().all(|vm| vm.upgrades.is_empty()));
        let begun = Instant::now();
        assert!(!serde_json::to_string_pretty(&status).unwrap().is_empty());
        least(begun);
    }
    let all: Duration = parts.iter().map(|(_, took)| *took).sum();
    for (name, took) in parts.iter().chain([&("all", all)]) {
        println!("{name:>24} {took:>12.1?}");
    }
    if all < LIMIT {
        ExitCode::SUCCESS
    } else {
        println!("too slow: the limit is {LIMIT:?}");
        ExitCode::FAILURE
    }
}

fn host() -> Host {
    let mut text = "[network.lan]\naddress = [\"10.0.0.1/16\"]\n".to_owned();
    for number in 0..VMS {
        write!(
            text,
            "[vm.vm-{number}]\nkernel = \"/srv/vmlinux\"\nmemory = \"256M\"\n[[vm.vm-{number}.disk]]\npath = \
             \"/srv/{number}.raw\"\nformat = \"raw\"\n[[vm.vm-{number}.nic]]\nnetwork = \"lan\"\n"
        )
        .unwrap();
    }
    let outcome = config::load(&[Source {
        name: "nkudo.toml".to_owned(),
        text,
    }]);
    outcome.host.unwrap()
}

fn programs() -> Programs {
    Programs {
        hypervisor: "/usr/bin/cloud-hypervisor".into(),
        hypervisor_version: Version {
            major: 53,
            minor: 0,
        },
        nkudo: "/usr/bin/nkudo".into(),
        virtiofsd: None,
        swtpm: None,
    }
}

fn manifest(host: Host) -> Manifest {
    Manifest {
        version: FormatVersion,
        id: String::new(),
        rendered_by: String::new(),
        programs: programs(),
        origin: Origin::Default,
        inputs: Vec::new(),
        digests: host
            .vms
            .keys()
            .map(|id| (id.clone(), "d1".to_owned()))
            .collect(),
        host,
    }
}

fn observed(booted: Vec<Booted>, host: &Host) -> Observed {
    let unit = |_: &VmId| Unit {
        state: UnitState::Active,
        sub_state: "running".to_owned(),
        origin: UnitOrigin::Transient,
        digest: Some("d1".to_owned()),
        generation: Some(1),
        limits: LimitValues::new(),
        drop_ins: Vec::new(),
        facts: Some(UnitFacts {
            main_pid: 1000,
            result: "success".to_owned(),
            restarts: 0,
            since: 1,
        }),
    };
    let link = |index, kind, master| Link {
        index,
        kind,
        mac: None,
        master,
        isolation: Isolation::Off,
        below: None,
        traffic: Traffic::default(),
        admin: Admin::Up,
        addresses: std::collections::BTreeSet::new(),
    };
    let mut links = BTreeMap::from([("nk-lan".to_owned(), link(1, LinkKind::Bridge, None))]);
    let nics = host.vms.values().flat_map(|vm| &vm.nics);
    for (index, nic) in (2..).zip(nics) {
        links.insert(nic.tap.to_string(), link(index, LinkKind::Tun, Some(1)));
    }
    let remains = |booted: Booted| {
        let id = booted.id.clone();
        let specification = Specification::Known(Box::new(booted));
        let root = true;
        (
            id,
            Remains {
                specification,
                root,
            },
        )
    };
    Observed {
        systemd: SystemdVersion(257),
        networkd: Networkd::Runs,
        hypervisor: Hypervisor::Found(programs().hypervisor_version),
        units: host.vms.keys().map(|id| (id.clone(), unit(id))).collect(),
        unit_files: Vec::new(),
        links,
        networkd_files: BTreeMap::new(),
        remains: booted.into_iter().map(remains).collect(),
        held: BTreeMap::new(),
        network: NetworkFacts::default(),
        storage: Storage::default(),
        tuning: TuningFacts::default(),
        needs: Needs::default(),
        obstructed: BTreeMap::new(),
        pci: PciDevices::default(),
    }
}
