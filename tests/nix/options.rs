//! The module's options, which are the keys of nkudo.toml.

use std::collections::BTreeSet;
use std::fs;

use nkudo::config::shape;
use serde_json::Value;

use super::{evaluate, root};

/// The options of the module that are no keys of nkudo.toml.
const OWN: [&str; 13] = [
    "configFile",
    "enable",
    "images",
    "networks",
    "openFirewall",
    "package",
    "settings",
    "vms",
    "vms.<name>.nixos",
    "vms.<name>.specialArgs",
    "vms.<name>.state",
    "vms.<name>.state.filesystem",
    "vms.<name>.state.size",
];

pub(crate) fn the_options_are_the_keys_of_the_schema() {
    let case = root().join("tests/nixos-module/cases/the-smallest-host/configuration.nix");
    let evaluated = evaluate(&case);
    let options = evaluated["options"].as_array().unwrap();
    let undocumented: Vec<&Value> = options
        .iter()
        .filter(|option| option["documented"] != true)
        .collect();
    assert!(undocumented.is_empty(), "without words: {undocumented:?}");
    let names: BTreeSet<&str> = options
        .iter()
        .map(|option| option["name"].as_str().unwrap())
        .map(|name| name.strip_prefix("virtualisation.nkudo.").unwrap())
        .filter(|name| !OWN.contains(name))
        .collect();
    let schema = shape::schema();
    let mut keys = BTreeSet::new();
    for (section, option) in SECTIONS {
        let table = &schema["properties"][section]["additionalProperties"];
        keys_of(&schema, table, &format!("{option}.<name>"), &mut keys);
    }
    assert_eq!(names, keys.iter().map(String::as_str).collect());
    // A key of that name would go unseen.
    let clash: Vec<&&str> = OWN.iter().filter(|name| keys.contains(**name)).collect();
    assert!(clash.is_empty(), "{clash:?}");
}

/// And what is written is what was set.
pub(crate) fn every_option_takes_the_example_of_its_key() {
    let schema = shape::schema();
    let mut options = serde_json::Map::new();
    for (section, option) in SECTIONS {
        let table = &schema["properties"][section]["additionalProperties"];
        let mut named = serde_json::Map::new();
        named.insert("one".to_owned(), example(&schema, table));
        options.insert(option.to_owned(), named.into());
    }
    let file = tempfile::Builder::new().suffix(".nix").tempfile().unwrap();
    let json = Value::from(options.clone()).to_string();
    let configuration = format!(
        "{{ virtualisation.nkudo = {{ enable = true; }} // builtins.fromJSON {}; }}",
        nix_string(&json)
    );
    fs::write(&file, configuration).unwrap();
    let evaluated = evaluate(file.path());
    for (section, option) in SECTIONS {
        assert_eq!(
            evaluated["settings"][section], options[option],
            "[{section}.<name>]"
        );
    }
}

const SECTIONS: [(&str, &str); 3] = [("vm", "vms"), ("network", "networks"), ("image", "images")];

/// A table with every key that has an example, and every table below it.
fn example(schema: &Value, table: &Value) -> Value {
    let table = resolved(schema, table);
    let mut example = serde_json::Map::new();
    for (key, property) in table["properties"].as_object().unwrap() {
        let below = resolved(schema, property);
        let items = resolved(schema, &below["items"]);
        if items["properties"].is_object() {
            let one = self::example(schema, items);
            example.insert(key.clone(), Value::Array(vec![one]));
        } else if below["properties"].is_object() {
            example.insert(key.clone(), self::example(schema, below));
        } else {
            let value = property["examples"][0].clone();
            assert!(!value.is_null(), "`{key}` has no example");
            example.insert(key.clone(), value);
        }
    }
    example.into()
}

fn nix_string(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace("${", "\\${"))
}

/// The keys of a table and of those below it, as NixOS names options.
fn keys_of(schema: &Value, table: &Value, prefix: &str, keys: &mut BTreeSet<String>) {
    let table = resolved(schema, table);
    let Some(properties) = table["properties"].as_object() else {
        return;
    };
    for (key, property) in properties {
        let name = format!("{prefix}.{key}");
        keys.insert(name.clone());
        let property = resolved(schema, property);
        if property["type"] == "array" {
            keys_of(schema, &property["items"], &format!("{name}.*"), keys);
        } else {
            keys_of(schema, property, &name, keys);
        }
    }
}

fn resolved<'s>(schema: &'s Value, value: &'s Value) -> &'s Value {
    if let Some(to) = value["$ref"].as_str() {
        return resolved(schema, schema.pointer(to.trim_start_matches('#')).unwrap());
    }
    match value["allOf"].as_array().map(Vec::as_slice) {
        Some([only]) => resolved(schema, only),
        _ => value,
    }
}
