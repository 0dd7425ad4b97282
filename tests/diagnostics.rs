//! Each `tests/diagnostics/<name>.toml` is a bad file; `<name>.txt` is what is said about it.
//!
//! `NKUDO_BLESS=1 cargo test --test diagnostics` writes the texts anew.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use nkudo::config::{Source, load, render};

#[test]
fn every_bad_file_is_explained_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics");
    let bless = std::env::var_os("NKUDO_BLESS").is_some();
    let mut cases: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    let mut differing = String::new();
    for case in &cases {
        let name = case.file_name().unwrap().to_str().unwrap().to_owned();
        let sources = [Source {
            name: name.clone(),
            text: fs::read_to_string(case).unwrap(),
        }];
        let outcome = load(&sources);
        let said = render(&outcome.diagnostics, &sources);
        let recorded_in = case.with_extension("txt");
        if outcome.host.is_some() || said.is_empty() {
            writeln!(differing, "=== {name}: nothing is wrong with it").unwrap();
        } else if bless {
            fs::write(&recorded_in, said).unwrap();
        } else {
            let recorded = fs::read_to_string(&recorded_in).unwrap_or_default();
            if recorded != said {
                let diff = similar::TextDiff::from_lines(&recorded, &said);
                writeln!(differing, "=== {name}\n{}", diff.unified_diff()).unwrap();
            }
        }
    }
    assert!(
        differing.is_empty(),
        "NKUDO_BLESS=1 accepts these:\n{differing}"
    );
}
