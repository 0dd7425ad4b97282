//! Each `tests/diagnostics/<sentence>.toml` is a bad file, and each directory there, but for two, a bad
//! configuration of several; the `.txt` beside it is what is said about it.
//!
//! In `structural/` are the mistakes that the schema can tell too (tests/shape.rs), in `warnings/`
//! what is no mistake and surprises.
//!
//! `NKUDO_BLESS=1 cargo test --test diagnostics` writes the texts anew.
#![expect(
    clippy::unwrap_used,
    reason = "a case that is wrong fails by panicking"
)]

mod recorded;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use camino::Utf8PathBuf;
use nkudo::config::{
    Attached, Diagnostic, Source, load, load_attached, load_with_origins, render, warnings,
};
use nkudo::host::{Capacity, Size};
use recorded::difference;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/diagnostics")
        .join(name)
}

/// What is in a directory, by name.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

fn is_toml(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "toml")
}

/// The cases of a directory: files, and directories of files.
fn cases(directory: &Path) -> Vec<PathBuf> {
    let mut cases = entries(directory);
    let apart = [folder("structural"), folder("warnings")];
    cases.retain(|path| is_toml(path) || (path.is_dir() && !apart.contains(path)));
    assert!(!cases.is_empty());
    cases
}

/// The files of a case, each under its name alone.
fn sources(case: &Path) -> Vec<Source> {
    let mut files = vec![case.to_owned()];
    if case.is_dir() {
        files = entries(case);
    }
    let source = |path: &PathBuf| Source {
        name: path.file_name().unwrap().to_str().unwrap().to_owned(),
        text: fs::read_to_string(path).unwrap(),
    };
    files
        .iter()
        .filter(|path| is_toml(path))
        .map(source)
        .collect()
}

/// The files of a case that its configuration names: those that are not TOML, as /etc/nkudo has them.
fn attached(case: &Path, wanted: &BTreeSet<Utf8PathBuf>) -> Vec<Attached> {
    let attached = |path: &Utf8PathBuf| Attached {
        path: path.clone(),
        text: fs::read_to_string(case.join(path.file_name().unwrap()))
            .map_err(|_| "No such file".to_owned()),
    };
    wanted.iter().map(attached).collect()
}

/// Compares what `look` finds in each case with what is recorded.
fn compare(
    cases: &[PathBuf],
    look: impl Fn(&[Source], &[Attached]) -> Result<Vec<Diagnostic>, String>,
) {
    let mut differing = String::new();
    for case in cases {
        let name = case.file_name().unwrap().to_str().unwrap();
        let mut sources = sources(case);
        let attached = attached(case, &load(&sources).wanted);
        let found = look(&sources, &attached);
        sources.extend(attached.iter().map(Attached::source));
        let said = match found {
            Ok(found) => render(&found, &sources),
            Err(why) => {
                writeln!(differing, "=== {name}: {why}").unwrap();
                continue;
            }
        };
        if let Some(diff) = difference(&case.with_extension("txt"), &said) {
            writeln!(differing, "=== {name}\n{diff}").unwrap();
        }
    }
    assert!(
        differing.is_empty(),
        "NKUDO_BLESS=1 accepts these:\n{differing}"
    );
}

#[test]
fn every_bad_file_is_explained_as_recorded() {
    let mut all = cases(&folder(""));
    all.extend(cases(&folder("structural")));
    compare(&all, |sources, attached| {
        let outcome = load_attached(sources, attached);
        if outcome.host.is_some() || outcome.diagnostics.is_empty() {
            return Err("nothing is wrong with it".to_owned());
        }
        Ok(outcome.diagnostics)
    });
}

/// On a host with 16G of memory, 8 CPUs and 1G of huge pages of 2M.
#[test]
fn every_surprise_is_explained_as_recorded() {
    let capacity = Capacity {
        memory: Some(Size::from_mib(16 << 10)),
        cpus: Some(8),
        hugepages: [(Size::from_mib(2), 512), (Size::from_mib(1024), 0)].into(),
    };
    compare(&cases(&folder("warnings")), |sources, _| {
        let (outcome, origins) = load_with_origins(sources);
        let Some(host) = outcome.host else {
            return Err(format!("it is wrong: {:#?}", outcome.diagnostics));
        };
        match warnings(&host, &origins, &capacity) {
            none if none.is_empty() => Err("nothing surprises in it".to_owned()),
            found => Ok(found),
        }
    });
}

/// What the machine has is not always known, and then nothing is said of it.
#[test]
fn nothing_is_said_of_a_machine_that_is_not_known() {
    for case in cases(&folder("warnings")) {
        let (outcome, origins) = load_with_origins(&sources(&case));
        let found = warnings(&outcome.host.unwrap(), &origins, &Capacity::default());
        let about_the_machine = found.iter().any(|one| one.message.contains("this host"));
        assert!(!about_the_machine, "{}: {found:#?}", case.display());
    }
}
