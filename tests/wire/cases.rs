//! What must be true whatever systemd does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use nkudo::apply::{Apply, Outcome};
use nkudo::config::{self, Source};
use nkudo::generation::{Manifest, Origin, Rendering};
use nkudo::host::VmId;
use nkudo::hypervisor::Version;
use nkudo::observe::{
    Hypervisor, Needs, NetworkFacts, Networkd, Observed, PciDevices, Storage, SystemdVersion,
    TuningFacts,
};
use nkudo::plan::{OnFailure, Request, Switch, plan};
use nkudo::systemd::JobError;
use nkudo::unit::Programs;

use super::systemd::{Shared, Start, connect, locked};

pub(crate) const CASES: &[(&str, fn())] = &[
    (
        "a_refused_property_fails_its_vm_and_no_other",
        a_refused_property_fails_its_vm_and_no_other,
    ),
    (
        "a_job_that_times_out_or_fails_is_said_with_its_result",
        a_job_that_times_out_or_fails_is_said_with_its_result,
    ),
    (
        "a_bus_that_dies_half_way_ends_the_switch_at_once",
        a_bus_that_dies_half_way_ends_the_switch_at_once,
    ),
    (
        "with_fail_fast_nothing_is_begun_after_a_failure",
        with_fail_fast_nothing_is_begun_after_a_failure,
    ),
    (
        "a_job_of_another_path_is_no_answer",
        a_job_of_another_path_is_no_answer,
    ),
];

fn manifest(ids: &[&str]) -> Manifest {
    let vms = ids.iter().map(|id| {
        format!(
            "[vm.{id}]\nmemory = \"64M\"\nkernel = \"/srv/{id}\"\nlimits = {{ memory-high = \"1G\" }}\n"
        )
    });
    let text = vms.collect::<Vec<_>>().concat();
    let name = "nkudo.toml".to_owned();
    let outcome = config::load(&[Source { name, text }]);
    let host = outcome.host.unwrap();
    let programs = Programs {
        hypervisor: "/usr/bin/cloud-hypervisor".into(),
        hypervisor_version: version(),
        nkudo: "/usr/bin/nkudo".into(),
        virtiofsd: None,
        swtpm: None,
    };
    let rendering = Rendering {
        host: &host,
        programs: &programs,
        origin: Origin::Named,
        inputs: &[],
        first_boots: &outcome.first_boots,
    };
    rendering.generation(1).unwrap().manifest
}

fn version() -> Version {
    Version {
        major: 53,
        minor: 0,
    }
}

/// Switches an empty host to these VMs, on a systemd that does this.
fn switch(ids: &[&str], starts: &[(&str, Start)], switch: Switch) -> (Outcome, Shared) {
    run(async {
        let (connections, state) = connect(starts).await;
        let wanted = manifest(ids);
        let observed = Observed {
            systemd: SystemdVersion(257),
            networkd: Networkd::Absent,
            hypervisor: Hypervisor::Found(version()),
            units: BTreeMap::new(),
            unit_files: Vec::new(),
            links: BTreeMap::new(),
            networkd_files: BTreeMap::new(),
            remains: BTreeMap::new(),
            held: BTreeMap::new(),
            obstructed: BTreeMap::new(),
            needs: Needs::default(),
            storage: Storage::default(),
            tuning: TuningFacts::default(),
            pci: PciDevices::default(),
            network: NetworkFacts::default(),
        };
        let plan = plan(&wanted, &observed, &Request::Switch(switch)).unwrap();
        let jobs = connections.jobs().await.unwrap();
        let apply = Apply {
            connections: &connections,
            jobs: &jobs,
            wanted: &wanted,
            generation: 1,
            directory: "/nonexistent".into(),
            dnsmasq: None,
            no_images: &BTreeMap::new(),
            no_kernels: &BTreeMap::new(),
            restoration: None,
        };
        (apply.run(&plan).await, state)
    })
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(work)
}

fn failed(outcome: &Outcome) -> BTreeMap<&str, String> {
    let vms = outcome.vms.iter();
    vms.map(|(id, failure)| (id.as_str(), format!("{:#}", failure.why)))
        .collect()
}

fn a_refused_property_fails_its_vm_and_no_other() {
    let (outcome, state) = switch(
        &["bad", "good", "better"],
        &[("bad", Start::Refused)],
        Switch::default(),
    );
    assert!(outcome.host.is_empty(), "{outcome:?}");
    let failed = failed(&outcome);
    assert_eq!(failed.keys().collect::<Vec<_>>(), [&"bad"]);
    let why = &failed["bad"];
    assert!(why.contains("systemd does not take the unit"), "{why}");
    assert!(why.contains("Cannot set property MemoryHigh"), "{why}");
    let state = locked(&state);
    let started: BTreeSet<&String> = state.properties.keys().collect();
    assert_eq!(started.len(), 3, "{started:?}");
    for property in ["ExecStartEx", "MemoryHigh", "DynamicUser", "LogExtraFields"] {
        assert!(
            state.properties["nkudo-vm@good.service"].contains(&property.to_owned()),
            "{property}"
        );
    }
}

fn a_job_that_times_out_or_fails_is_said_with_its_result() {
    let (outcome, _) = switch(
        &["slow", "broken", "good"],
        &[
            ("slow", Start::Ends("timeout")),
            ("broken", Start::Ends("failed")),
        ],
        Switch::default(),
    );
    let failed = failed(&outcome);
    assert_eq!(failed.len(), 2, "{failed:?}");
    assert!(failed["slow"].contains("`timeout`"), "{failed:?}");
    assert!(failed["broken"].contains("`failed`"), "{failed:?}");
}

fn a_bus_that_dies_half_way_ends_the_switch_at_once() {
    let begun = Instant::now();
    let (outcome, _) = switch(
        &["a", "b", "c"],
        &[("b", Start::BusDies)],
        Switch {
            at_once: std::num::NonZeroUsize::MIN,
            ..Switch::default()
        },
    );
    assert!(begun.elapsed() < Duration::from_secs(10), "it waited");
    let failed = failed(&outcome);
    assert_eq!(
        failed.keys().collect::<Vec<_>>(),
        [&"b", &"c"],
        "{failed:?}"
    );
}

fn with_fail_fast_nothing_is_begun_after_a_failure() {
    let text = ["a", "b"];
    let (outcome, state) = switch(
        &text,
        &[("a", Start::Refused)],
        Switch {
            on_failure: OnFailure::Stop,
            at_once: std::num::NonZeroUsize::MIN,
            ..Switch::default()
        },
    );
    assert_eq!(failed(&outcome).len(), 1);
    let left: Vec<&str> = outcome.left_out.iter().map(VmId::as_str).collect();
    assert_eq!(left, ["b"]);
    let started = |call: &&String| call.starts_with("start");
    assert_eq!(locked(&state).calls.iter().filter(started).count(), 1);
}

fn a_job_of_another_path_is_no_answer() {
    run(async {
        let (connections, _) = connect(&[]).await;
        let jobs = connections.jobs().await.unwrap();
        let never = "/org/freedesktop/systemd1/job/4711".try_into().unwrap();
        let waited = jobs.wait(&never, Duration::from_millis(50)).await;
        assert!(matches!(waited, Err(JobError::Deadline(_))), "{waited:?}");
    });
}
