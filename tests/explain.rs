//! `nkudo render --explain` as a user runs it, on examples/web.toml.
//!
//! `NKUDO_BLESS=1 cargo test --test explain` writes the recorded texts anew.
#![expect(
    clippy::unwrap_used,
    reason = "a case that is wrong fails by panicking"
)]

mod recorded;

use std::path::Path;
use std::process::{Command, Output};

use recorded::difference;

fn explain(part: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nkudo"))
        .args(["render", "--explain", part, "examples/web.toml"])
        .env("NKUDO_STATE_DIR", "/nowhere")
        .output()
        .unwrap()
}

#[test]
fn every_value_is_shown_with_its_origin() {
    for part in ["vm.web", "vm.db", "network.lan", "host"] {
        let output = explain(part);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "wider than a terminal: {line}");
        }
        let recorded_in = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/explain")
            .join(format!("{part}.txt"));
        let differs = difference(&recorded_in, &text);
        assert!(
            differs.is_none(),
            "{part}:\n{}",
            differs.unwrap_or_default()
        );
    }
}

#[test]
fn what_is_not_there_is_an_error_with_the_near_name() {
    let output = explain("vm.wbe");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("there is no `vm.wbe`"), "{said}");
    assert!(said.contains("did you mean `vm.web`?"), "{said}");
    assert_eq!(output.status.code(), Some(1));

    let output = explain("web");
    assert_eq!(output.status.code(), Some(2));
}
