//! The types of `config::shape` are what the parser reads, and the schema and the reference are theirs.
//!
//! `NKUDO_BLESS=1 cargo test --test shape` writes docs/nkudo-toml.md and docs/nkudo.schema.json anew.
#![expect(
    clippy::unwrap_used,
    reason = "a case that is wrong fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nkudo::config::{Source, Step, load, load_with_origins, render, shape};
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of a directory that have this extension, by name.
fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(root().join(directory))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|one| one == extension))
        .collect();
    found.sort();
    found
}

/// Every good configuration of the repository: the examples, and what the golden generations are of.
fn good_files() -> Vec<PathBuf> {
    let mut found = files("examples", "toml");
    let golden = fs::read_dir(root().join("tests/golden")).unwrap();
    found.extend(golden.map(|entry| entry.unwrap().path().join("nkudo.toml")));
    found.sort();
    found
}

fn source(path: &Path) -> Source {
    Source {
        name: path.display().to_string(),
        text: fs::read_to_string(path).unwrap(),
    }
}

/// The text of a generated file is what is generated now.
fn assert_fresh(path: &str, text: &str) {
    let path = root().join(path);
    if std::env::var_os("NKUDO_BLESS").is_some() {
        fs::write(&path, text).unwrap();
        return;
    }
    let recorded = fs::read_to_string(&path).unwrap_or_default();
    let diff = similar::TextDiff::from_lines(recorded.as_str(), text);
    assert!(
        recorded == text,
        "{} is stale; `NKUDO_BLESS=1 cargo test --test shape` writes it anew:\n{}",
        path.display(),
        diff.unified_diff()
    );
}

#[test]
fn the_reference_is_fresh() {
    assert_fresh("docs/nkudo-toml.md", &shape::reference());
}

#[test]
fn the_schema_is_fresh() {
    let json = serde_json::to_string_pretty(&shape::schema()).unwrap();
    assert_fresh("docs/nkudo.schema.json", &format!("{json}\n"));
}

/// What a reference leads to, and each alternative of several.
fn alternatives<'s>(schema: &'s Value, value: &'s Value) -> Vec<&'s Value> {
    if let Some(to) = value.get("$ref").and_then(Value::as_str) {
        return alternatives(schema, schema.pointer(to.trim_start_matches('#')).unwrap());
    }
    for several in ["allOf", "anyOf"] {
        if let Some(all) = value.get(several).and_then(Value::as_array) {
            return all
                .iter()
                .flat_map(|one| alternatives(schema, one))
                .collect();
        }
    }
    vec![value]
}

/// Each key of each table, as the address of its schema, and the key.
type Keys = BTreeSet<(usize, String)>;

fn all_keys(schema: &Value, value: &Value, keys: &mut Keys) {
    for one in alternatives(schema, value) {
        for (key, below) in one["properties"].as_object().into_iter().flatten() {
            if keys.insert((std::ptr::from_ref(one) as usize, key.clone())) {
                all_keys(schema, below, keys);
            }
        }
        for several in ["items", "additionalProperties"] {
            if let Some(below) = one.get(several) {
                all_keys(schema, below, keys);
            }
        }
    }
}

/// The tables and the key that a path of the file leads to.
fn followed<'s>(schema: &'s Value, steps: &[Step]) -> Vec<(&'s Value, String)> {
    let Some((Step::Key(key), way)) = steps.split_last() else {
        return Vec::new();
    };
    let mut at = alternatives(schema, schema);
    for step in way {
        let below = |one: &'s Value| match step {
            Step::Element(_) => one.get("items"),
            Step::Key(key) => match one.get("properties") {
                Some(properties) => properties.get(key),
                None => one.get("additionalProperties"),
            },
        };
        at = at
            .into_iter()
            .filter_map(below)
            .flat_map(|one| alternatives(schema, one))
            .collect();
    }
    at.into_iter()
        .filter(|table| table["properties"].get(key).is_some())
        .map(|table| (table, key.clone()))
        .collect()
}

#[test]
fn the_parser_reads_the_keys_of_the_schema_and_no_others() {
    let schema = shape::schema();
    let mut unread = Keys::new();
    all_keys(&schema, &schema, &mut unread);
    for path in good_files() {
        let (_, origins) = load_with_origins(&[source(&path)]);
        for (path, _) in origins.iter() {
            let keys = followed(&schema, path.steps());
            assert!(
                !keys.is_empty(),
                "config::shape does not have the key `{path}`"
            );
            for (table, key) in keys {
                unread.remove(&(std::ptr::from_ref(table) as usize, key));
            }
        }
    }
    let unread: Vec<String> = unread.into_iter().map(|(_, key)| key).collect();
    assert!(
        unread.is_empty(),
        "keys of config::shape that the parser does not read, or that are in a table which no file of \
         tests/golden or examples has: {unread:?}"
    );
}

#[test]
fn every_key_is_documented() {
    let schema = shape::schema();
    let mut seen = BTreeSet::new();
    for section in schema["properties"].as_object().unwrap().values() {
        let table = section.get("additionalProperties").unwrap_or(section);
        let table = if table.is_object() { table } else { section };
        documented(&schema, table, &mut seen);
    }
}

fn documented(schema: &Value, table: &Value, seen: &mut BTreeSet<usize>) {
    for table in alternatives(schema, table) {
        if let Some(items) = table.get("items") {
            documented(schema, items, seen);
        }
        for (key, below) in table["properties"].as_object().into_iter().flatten() {
            let text = below["description"].as_str().unwrap_or_default();
            let has = |word: &str| text.lines().any(|line| line.starts_with(word));
            let required = table["required"].as_array();
            let required = required.is_some_and(|keys| keys.iter().any(|one| one == key));
            let of_tables = below.pointer("/items/$ref").is_some();
            let text = format!("`{key}`: {text}");
            assert!(has("Becomes:"), "does not say what it becomes: {text}");
            assert!(required != has("Default:"), "has no default: {text}");
            assert!(of_tables || has("Example:"), "has no example: {text}");
            if seen.insert(std::ptr::from_ref(below) as usize) {
                documented(schema, below, seen);
            }
        }
    }
}

fn as_json(text: &str) -> Option<Value> {
    let table: toml::Table = text.parse().ok()?;
    serde_json::to_value(table).ok()
}

#[test]
fn the_schema_accepts_every_good_file() {
    let validator = jsonschema::draft7::new(&shape::schema()).unwrap();
    for path in good_files() {
        let source = source(&path);
        let json = as_json(&source.text).unwrap();
        let refused: Vec<String> = validator
            .iter_errors(&json)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(refused.is_empty(), "{}: {refused:#?}", path.display());
        let outcome = load(std::slice::from_ref(&source));
        assert_eq!(render(&outcome.diagnostics, &[source]), "");
    }
}
