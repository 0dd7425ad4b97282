//! Each directory of `tests/golden/` is a sentence: `nkudo.toml`, and in `generation/` every file that
//! it leads to, compared both ways: a missing file fails, and so does one too many.
//!
//! `NKUDO_BLESS=1 cargo test --test golden` writes the generations anew.
#![expect(
    clippy::unwrap_used,
    reason = "a case that is wrong fails by panicking"
)]

mod programs;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use camino::Utf8PathBuf;
use nkudo::config::{self, Attached, Outcome, Source};
use nkudo::generation::{Generation, Input, Origin, Rendering, Role};
use nkudo::host::Host;

use programs::programs;

#[test]
fn every_generation_is_as_recorded() {
    let bless = std::env::var_os("NKUDO_BLESS").is_some();
    let mut differing = String::new();
    for case in cases() {
        let recorded_in = case.join("generation");
        let files: BTreeMap<Utf8PathBuf, String> = generation(&case)
            .files
            .into_iter()
            .map(|(path, bytes)| (path, String::from_utf8(bytes).unwrap()))
            .collect();
        if bless {
            let _ = fs::remove_dir_all(&recorded_in);
            for (path, text) in &files {
                let path = recorded_in.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            continue;
        }
        let mut recorded = BTreeMap::new();
        read(&recorded_in, &recorded_in, &mut recorded);
        let mut paths: Vec<&Utf8PathBuf> = files.keys().chain(recorded.keys()).collect();
        paths.sort();
        paths.dedup();
        for path in paths {
            let text = |files: &BTreeMap<Utf8PathBuf, String>| files.get(path).cloned();
            let (was, is) = (text(&recorded), text(&files));
            if was != is {
                let (was, is) = (was.unwrap_or_default(), is.unwrap_or_default());
                let diff = similar::TextDiff::from_lines(&was, &is);
                let case = case.file_name().unwrap().to_str().unwrap();
                writeln!(differing, "=== {case}: {path}\n{}", diff.unified_diff()).unwrap();
            }
        }
    }
    assert!(
        differing.is_empty(),
        "NKUDO_BLESS=1 accepts these:\n{differing}"
    );
}

#[test]
fn rendering_twice_gives_the_same_bytes() {
    for case in cases() {
        assert_eq!(generation(&case), generation(&case), "{}", case.display());
    }
}

#[test]
fn the_number_is_not_in_the_id_and_everything_else_is() {
    let case = cases().remove(0);
    let (host, programs) = (host(&case), programs());
    let input = Input::new("nkudo.toml".to_owned(), "text", Role::Configuration);
    let first_boots = BTreeMap::new();
    let rendering = |inputs| Rendering {
        host: &host,
        first_boots: &first_boots,
        programs: &programs,
        origin: Origin::Default,
        inputs,
    };
    let id = |number, inputs| rendering(inputs).generation(number).unwrap().manifest.id;
    assert_eq!(id(1, &[]), id(2, &[]));
    assert_ne!(id(1, &[]), id(1, &[input]));
}

#[test]
fn a_manifest_is_read_back_as_it_was() {
    for case in cases() {
        let manifest = generation(&case).manifest;
        let json = manifest.to_json().unwrap();
        assert_eq!(
            nkudo::generation::Manifest::from_json(&json).unwrap(),
            manifest
        );
        // Another version of the format is refused, not guessed at.
        let text = String::from_utf8(json).unwrap();
        let newer = text.replacen("\"version\": 1", "\"version\": 2", 1);
        assert!(nkudo::generation::Manifest::from_json(newer.as_bytes()).is_err());
    }
}

fn cases() -> Vec<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

/// What a case's configuration means. `attached/` has the files of /etc/nkudo that it names.
fn outcome(case: &Path) -> Outcome {
    let sources = [Source {
        name: "nkudo.toml".to_owned(),
        text: fs::read_to_string(case.join("nkudo.toml")).unwrap(),
    }];
    let attached = |path: &Utf8PathBuf| Attached {
        path: path.clone(),
        text: Ok(
            fs::read_to_string(case.join("attached").join(path.file_name().unwrap())).unwrap(),
        ),
    };
    let wanted = config::load(&sources).wanted;
    let attached: Vec<Attached> = wanted.iter().map(attached).collect();
    let outcome = config::load_attached(&sources, &attached);
    let said = config::render(&outcome.diagnostics, &sources);
    assert!(outcome.host.is_some(), "{}: {said}", case.display());
    outcome
}

fn host(case: &Path) -> Host {
    outcome(case).host.unwrap()
}

fn generation(case: &Path) -> Generation {
    let outcome = outcome(case);
    let rendering = Rendering {
        host: &outcome.host.unwrap(),
        first_boots: &outcome.first_boots,
        programs: &programs(),
        origin: Origin::Default,
        inputs: &[],
    };
    let mut generation = rendering.generation(1).unwrap();
    // The version of nkudo is in it, and the id is a hash over that; neither is what is proved here.
    let json = String::from_utf8(generation.files[&Utf8PathBuf::from("manifest.json")].clone());
    let json = json
        .unwrap()
        .replace(&generation.manifest.id, "ID")
        .replace(env!("CARGO_PKG_VERSION"), "VERSION");
    generation
        .files
        .insert("manifest.json".into(), json.into_bytes());
    generation
}

/// Every file below `directory`, by its path from `root`.
fn read(root: &Path, directory: &Path, files: &mut BTreeMap<Utf8PathBuf, String>) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_path_buf();
            let text = fs::read_to_string(&path).unwrap();
            files.insert(Utf8PathBuf::from_path_buf(name).unwrap(), text);
        }
    }
}
