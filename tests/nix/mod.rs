//! Nix's files, and what they evaluate to.

pub(crate) mod missing;
pub(crate) mod options;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The directory with nixpkgs' library's default.nix.
pub(crate) fn library() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("NIXPKGS_LIB")?);
    let below = path.join("lib");
    Some(if below.join("default.nix").is_file() {
        below
    } else {
        path
    })
}

pub(crate) fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

pub(crate) fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

/// Every file of Nix's in the checkout.
pub(crate) fn nix_files() -> Vec<PathBuf> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for path in entries(directory) {
            if path.is_dir() && !path.is_symlink() {
                walk(&path, found);
            } else if path.extension().is_some_and(|one| one == "nix") {
                found.push(path);
            }
        }
    }
    let mut found = vec![root().join("flake.nix"), root().join("default.nix")];
    for directory in ["nixos-module", "examples", "tests"] {
        walk(&root().join(directory), &mut found);
    }
    found
}

/// nix-instantiate, without a store: nothing is built here, and nobody need be able to write one.
pub(crate) fn nix_instantiate(arguments: &[&OsStr]) -> Output {
    let mut command = Command::new("nix-instantiate");
    command
        .args(["--store", "dummy://", "--readonly-mode"])
        .args(arguments);
    command.stdin(Stdio::null()).output().unwrap()
}

pub(crate) fn evaluate(configuration: &Path) -> Value {
    evaluate_file(
        "evaluate.nix",
        &[
            "--arg".as_ref(),
            "configuration".as_ref(),
            configuration.as_ref(),
        ],
    )
}

/// A function of nixpkgs' library, in tests/nixos-module.
pub(crate) fn evaluate_file(name: &str, more: &[&OsStr]) -> Value {
    let file = root().join("tests/nixos-module").join(name);
    let library = library().unwrap().canonicalize().unwrap();
    let mut arguments: Vec<&OsStr> = ["--eval", "--strict", "--json", "--show-trace"]
        .iter()
        .map(OsStr::new)
        .collect();
    arguments.extend([
        file.as_ref(),
        OsStr::new("--arg"),
        OsStr::new("nixpkgsLib"),
        library.as_ref(),
    ]);
    arguments.extend(more);
    let output = nix_instantiate(&arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Why a configuration is refused: a line each.
pub(crate) fn messages(evaluated: &Value) -> String {
    let refused = evaluated["refused"].as_array().unwrap();
    let mut messages = String::new();
    for message in refused {
        messages.push_str(message.as_str().unwrap().trim());
        messages.push('\n');
    }
    messages
}
