//! The types of `config::shape` are what the parser reads, and the schema and the reference are theirs.
//!
//! `NKUDO_BLESS=1 cargo test --test shape` writes docs/nkudo-toml.md and docs/nkudo.schema.json anew.
#![expect(
    clippy::unwrap_used,
    reason = "a case that is wrong fails by panicking"
)]

mod recorded;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nkudo::config::shape::Shape;
use nkudo::config::{Source, Step, explain, load, load_with_origins, render, shape, warnings};
use nkudo::host::Capacity;
use recorded::difference;
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
    if let Some(diff) = difference(&root().join(path), text) {
        panic!("{path} is stale; `NKUDO_BLESS=1 cargo test --test shape` writes it anew:\n{diff}");
    }
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

/// Each key of each table, as the address of the table's schema, and the key.
type Keys = BTreeSet<(usize, String)>;

fn all_keys(shape: Shape<'_>, keys: &mut Keys) {
    for table in shape.tables() {
        for key in table["properties"].as_object().unwrap().keys() {
            keys.insert((std::ptr::from_ref(table) as usize, key.clone()));
        }
    }
    for (_, below) in shape.keys() {
        all_keys(below, keys);
    }
    if let Some(named) = shape.named() {
        all_keys(named, keys);
    }
    let element = shape.element();
    if !std::ptr::eq(element.as_written(), shape.as_written()) {
        all_keys(element, keys);
    }
}

/// The tables and the key that a path of the file leads to.
fn followed(schema: &Value, steps: &[Step]) -> Keys {
    let Some((Step::Key(key), way)) = steps.split_last() else {
        return Keys::new();
    };
    let mut at = Shape::of(schema);
    for step in way {
        at = match step {
            Step::Element(_) => at.element(),
            Step::Key(key) => at.named().or_else(|| at.key(key)).unwrap(),
        };
    }
    let tables = at.tables().into_iter();
    tables
        .filter(|table| table["properties"].get(key).is_some())
        .map(|table| (std::ptr::from_ref(table) as usize, key.clone()))
        .collect()
}

#[test]
fn the_parser_reads_the_keys_of_the_schema_and_no_others() {
    let schema = shape::schema();
    let mut unread = Keys::new();
    all_keys(Shape::of(&schema), &mut unread);
    for path in good_files() {
        let (_, origins) = load_with_origins(&[source(&path)]);
        for (path, _) in origins.keys() {
            let keys = followed(&schema, path.steps());
            assert!(
                !keys.is_empty(),
                "config::shape does not have the key `{path}`"
            );
            unread.retain(|key| !keys.contains(key));
        }
    }
    let unread: Vec<String> = unread.into_iter().map(|(_, key)| key).collect();
    assert!(
        unread.is_empty(),
        "keys of config::shape that the parser does not read, or that are in a table which no file of \
         tests/golden or examples has: {unread:?}"
    );
}

/// What a key leads to is recorded: each is set in a configuration of tests/golden.
#[test]
fn the_golden_generations_cover_every_key() {
    let schema = shape::schema();
    let mut unset = Keys::new();
    all_keys(Shape::of(&schema), &mut unset);
    for path in good_files() {
        if !path.ends_with("nkudo.toml") {
            continue;
        }
        let (_, origins) = load_with_origins(&[source(&path)]);
        for (path, origin) in origins.keys() {
            if origin.place.is_some() {
                let keys = followed(&schema, path.steps());
                unset.retain(|key| !keys.contains(key));
            }
        }
    }
    let unset: Vec<String> = unset.into_iter().map(|(_, key)| key).collect();
    assert!(
        unset.is_empty(),
        "no file of tests/golden has these keys: {unset:?}"
    );
}

#[test]
fn every_key_is_documented() {
    let schema = shape::schema();
    for (_, section) in Shape::of(&schema).keys() {
        documented(section.named().unwrap_or(section));
    }
}

fn documented(table: Shape<'_>) {
    for (key, shape) in table.keys() {
        let text = shape.as_written()["description"]
            .as_str()
            .unwrap_or_default();
        let has = |word: &str| text.lines().any(|line| line.starts_with(word));
        let required = table.tables().into_iter().any(|table| {
            let required = table["required"].as_array();
            required.is_some_and(|keys| keys.iter().any(|one| one == key))
        });
        let of_tables = !shape.element().tables().is_empty();
        let text = format!("`{key}`: {text}");
        assert!(has("Becomes:"), "does not say what it becomes: {text}");
        assert!(required != has("Default:"), "has no default: {text}");
        assert!(of_tables || has("Example:"), "has no example: {text}");
        documented(shape);
        if of_tables {
            documented(shape.element());
        }
    }
}

/// A file in which every default is written out means the same: what is said to be a default is one.
#[test]
fn what_is_explained_is_the_configuration_in_full() {
    for path in good_files() {
        let sources = [source(&path)];
        let (outcome, origins) = load_with_origins(&sources);
        let mut full = explain(&"host".parse().unwrap(), &origins, &sources).unwrap();
        for (entry, _) in origins.entries() {
            let subject = entry.to_string().parse().unwrap();
            full += &explain(&subject, &origins, &sources).unwrap();
        }
        let written_out = [Source {
            name: "explained".to_owned(),
            text: full,
        }];
        let again = load(&written_out);
        let said = render(&again.diagnostics, &written_out);
        assert_eq!(said, "", "{}:\n{}", path.display(), written_out[0].text);
        assert_eq!(again.host, outcome.host, "{}", path.display());
    }
}

fn as_json(text: &str) -> Option<Value> {
    let table: toml::Table = text.parse().ok()?;
    serde_json::to_value(table).ok()
}

fn validator() -> jsonschema::Validator {
    jsonschema::draft7::new(&shape::schema()).unwrap()
}

/// A mistake is structural if the schema can tell it, so that an editor shows it too.
#[test]
fn the_schema_refuses_every_structural_mistake() {
    let validator = validator();
    let mut misplaced = Vec::new();
    for (directory, refused) in [
        ("tests/diagnostics/structural", true),
        ("tests/diagnostics", false),
        ("tests/diagnostics/warnings", false),
    ] {
        for path in files(directory, "toml") {
            // Of what is no TOML at all, a schema says nothing.
            let json = as_json(&source(&path).text);
            if json.is_some_and(|json| validator.is_valid(&json) == refused) {
                misplaced.push(path.display().to_string());
            }
        }
    }
    assert!(
        misplaced.is_empty(),
        "what the schema refuses belongs into tests/diagnostics/structural, and nothing else: \
         {misplaced:#?}"
    );
}

#[test]
fn the_schema_accepts_every_good_file() {
    let validator = validator();
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

/// People begin with a copy of one.
#[test]
fn the_examples_name_the_schema_and_surprise_nobody() {
    for path in files("examples", "toml") {
        let sources = [source(&path)];
        let first = sources[0].text.lines().next();
        assert_eq!(
            first,
            Some("#:schema ../docs/nkudo.schema.json"),
            "{}",
            path.display()
        );
        let (outcome, origins) = load_with_origins(&sources);
        let host = outcome.host.unwrap();
        let found = warnings(&host, &origins, &Capacity::default());
        assert_eq!(render(&found, &sources), "", "{}", path.display());
    }
}
