//! Each directory of `tests/plan/` is a sentence that must be true of a plan.
//!
//! - `before.toml`: the configuration that the host is at; absent on a host that nkudo never touched.
//!   All of it runs: bridges, TAPs, files for networkd, units of VMs with autostart.
//! - `after.toml`: the configuration that is switched to.
//! - `observed.toml`: how the host differs from that; see `planning/differs.rs`.
//! - `plan.txt`: what is printed.
//! - `plan.json`, where there is one: what is printed with `--json`.
//! - `differences.txt`, where there is one: what of the networks is not as declared, in `doctor`'s words.
//!
//! `NKUDO_BLESS=1 cargo test --test plan` writes the texts anew.

#![expect(
    clippy::unwrap_used,
    reason = "a case that is wrong fails by panicking"
)]

mod planning;
mod programs;
mod recorded;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use nkudo::generation::Manifest;
use nkudo::host::VmId;
use nkudo::observe::{Closer, Hypervisor, Observed};
use nkudo::plan::{
    NetworksLeftOut, OnObstacle, Pending, Plan, PlanDocument, Reason, Request, Switch, differences,
    obstacles_document, plan,
};
use nkudo::status::status;

use planning::{Differs, manifest, observed, storage};
use recorded::difference;

#[test]
fn every_plan_is_as_its_sentence_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plan");
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
            if let Some(diff) = difference(&case.join(file), &planned) {
                writeln!(differing, "=== {name}/{file}\n{diff}").unwrap();
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
    let differing = differences(&after, &observed, &request, &NetworksLeftOut::new())
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
