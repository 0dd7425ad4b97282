//! The file's own shape: each table as a type whose doc comments say what its keys are.
//!
//! Nothing is read into these types: `config` walks the file itself, so that it can report all
//! mistakes at once. They are what `nkudo schema` and docs/nkudo-toml.md are made of, and
//! tests/shape.rs proves that they have exactly the keys that the walk reads.
//!
//! A key's doc comment begins with a sentence. Its last lines are, in this order:
//!
//! - `Default:` what it is where the file does not say; a TOML value between backticks is tried by a test.
//! - `Example:` a line of a file, between backticks.
//! - `Becomes:` the option of cloud-hypervisor, the directive of systemd, or what else it turns into.
//!
//! A field that is not an `Option` is a key that must be there.

#![deny(clippy::disallowed_methods)]

mod cloud_init;
mod disk;
mod doc;
mod host;
mod image;
mod limits;
mod memory;
mod network;
mod nic;
mod pci;
mod ready;
mod reference;
mod share;
mod tuning;
mod value;
mod vm;
mod walk;

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

pub use reference::reference;
pub use walk::Shape;

use doc::Doc;
use host::HostTable;
use image::ImageTable;
use network::NetworkTable;
use value::Name;
use vm::VmTable;

/// nkudo.toml.
#[derive(Debug, JsonSchema)]
#[schemars(
    rename_all = "kebab-case",
    deny_unknown_fields,
    title = "nkudo.toml",
    description = "The virtual machines of a host, their networks, and the images of their disks."
)]
pub struct NkudoToml {
    /// The host itself: all of it is optional.
    pub host: Option<HostTable>,
    /// Images by name: what `[[vm.<id>.disk]]` can be made from.
    pub image: Option<Named<ImageTable>>,
    /// Networks by name: `[network.lan]` is a bridge that VMs' NICs are on.
    pub network: Option<Named<NetworkTable>>,
    /// Virtual machines by id: `[vm.web]` is the unit `nkudo-vm@web.service`.
    pub vm: Option<Named<VmTable>>,
}

/// Tables whose keys are names that the file gives.
#[derive(Debug, JsonSchema)]
#[schemars(transparent, inline, extend("propertyNames" = Name::json_schema(&mut schemars::SchemaGenerator::default())))]
pub struct Named<T>(pub BTreeMap<String, T>);

/// The JSON Schema of a file. Draft 7, which taplo and the editors' TOML extensions know.
pub fn schema() -> Value {
    let mut settings = SchemaSettings::draft07();
    // First: the draft's own transforms then meet what these leave.
    settings
        .transforms
        .insert(0, Box::new(RecursiveTransform(not_null)));
    settings
        .transforms
        .insert(1, Box::new(RecursiveTransform(lift_doc)));
    settings
        .into_generator()
        .into_root_schema_for::<NkudoToml>()
        .to_value()
}

/// What is absent is absent: TOML has no null.
fn not_null(schema: &mut Schema) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|one| one != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(words)) = schema.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    let Some(Value::Array(any)) = schema.get_mut("anyOf") else {
        return;
    };
    any.retain(|one| one.get("type").is_none_or(|kind| kind != "null"));
    if any.len() != 1 {
        return;
    }
    if let Some(Value::Object(only)) = any.pop() {
        schema.remove("anyOf");
        for (key, value) in only {
            // A key's own description before that of its type.
            if schema.get(&key).is_none() {
                schema.insert(key, value);
            }
        }
    }
}

/// `Default:` and `Example:` of a doc comment, as an editor wants them.
fn lift_doc(schema: &mut Schema) {
    let Some(text) = schema.get("description").and_then(Value::as_str) else {
        return;
    };
    let doc = Doc::read(text);
    let (default, example) = (doc.default_value(), doc.example_value());
    if let Some(default) = default {
        schema.insert("default".to_owned(), default);
    }
    if let Some(example) = example {
        schema.insert("examples".to_owned(), Value::Array(vec![example]));
    }
}
