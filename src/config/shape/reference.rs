//! docs/nkudo-toml.md: the shape, to be read from top to bottom.

use std::fmt::Write as _;

use serde_json::Value;

use super::doc::Doc;
use super::schema;

const INTRODUCTION: &str = include_str!("introduction.md");
const EXAMPLE: &str = include_str!("../../../examples/web.toml");

/// The reference of the file, in Markdown.
pub fn reference() -> String {
    let schema = schema();
    let book = Book { schema: &schema };
    let mut text = INTRODUCTION.replace("{example}\n", EXAMPLE);
    // Where a reader's own file has it.
    text = text.replacen("../docs/nkudo.schema.json", "./nkudo.schema.json", 1);
    for (name, section) in properties(&schema) {
        book.section(&mut text, name, section);
    }
    book.values(&mut text);
    text
}

#[derive(Clone, Copy)]
struct Book<'a> {
    schema: &'a Value,
}

impl<'a> Book<'a> {
    /// A table of the top, and the tables below it.
    fn section(self, text: &mut String, name: &str, section: &'a Value) {
        match section.get("additionalProperties") {
            Some(named @ Value::Object(_)) => {
                let which = if name == "vm" { "id" } else { "name" };
                self.table(text, &format!("[{name}.<{which}>]"), self.resolved(named));
            }
            _ => self.table(text, &format!("[{name}]"), self.resolved(section)),
        }
    }

    fn table(self, text: &mut String, header: &str, table: &'a Value) {
        let _ = writeln!(
            text,
            "\n## `{header}`\n\n{}",
            Doc::read(described(table)).prose
        );
        let mut below = Vec::new();
        for (key, value) in properties(table) {
            let required = table["required"]
                .as_array()
                .is_some_and(|keys| keys.iter().any(|one| one == key));
            self.key(text, key, value, required);
            let inner = header.trim_matches(['[', ']']);
            for alternative in self.alternatives(value) {
                if let Some(items) = alternative.get("items").map(|items| self.resolved(items)) {
                    if items.get("properties").is_some() {
                        below.push((format!("[[{inner}.{key}]]"), items));
                    }
                } else if alternative.get("properties").is_some() {
                    below.push((format!("[{inner}.{key}]"), alternative));
                }
            }
        }
        for (header, table) in below {
            self.table(text, &header, table);
        }
    }

    fn key(self, text: &mut String, key: &str, value: &'a Value, required: bool) {
        let doc = Doc::read(described(value));
        let _ = writeln!(text, "\n### `{key}`\n\n{}\n", doc.prose);
        let words = self.words(value);
        if !words.is_empty() {
            for (word, meaning) in words {
                let _ = writeln!(text, "- `\"{word}\"`: {meaning}");
            }
            text.push('\n');
        }
        let _ = writeln!(text, "| | |\n| --- | --- |");
        let _ = writeln!(text, "| Type | {} |", self.kind(value));
        let fields = [
            (
                "Default",
                if required {
                    Some("none: it must be given")
                } else {
                    doc.default
                },
            ),
            ("Example", doc.example),
            ("Becomes", doc.becomes),
        ];
        for (name, said) in fields {
            if let Some(said) = said {
                let _ = writeln!(
                    text,
                    "| {name} | {} |",
                    said.replace('\n', " ").replace('|', "\\|")
                );
            }
        }
    }

    /// The values that have a definition of their own.
    fn values(self, text: &mut String) {
        text.push_str("\n## Values\n");
        let definitions = self.schema["definitions"].as_object();
        let mut values: Vec<(&str, &str)> = definitions
            .into_iter()
            .flat_map(serde_json::Map::values)
            .filter(|one| one.get("properties").is_none())
            .filter_map(|one| Some((title(one)?, described(one))))
            .collect();
        values.sort_by_key(|(title, _)| title.to_lowercase());
        for (title, meaning) in values {
            let _ = writeln!(text, "\n### {title}\n\n{meaning}");
        }
    }

    /// What a reference leads to.
    fn resolved(self, value: &'a Value) -> &'a Value {
        let reference = value
            .get("$ref")
            .or_else(|| value.pointer("/allOf/0/$ref"))
            .and_then(Value::as_str);
        reference
            .and_then(|to| self.schema.pointer(to.trim_start_matches('#')))
            .unwrap_or(value)
    }

    fn alternatives(self, value: &'a Value) -> Vec<&'a Value> {
        match value.get("anyOf").and_then(Value::as_array) {
            Some(any) => any.iter().map(|one| self.resolved(one)).collect(),
            None => vec![self.resolved(value)],
        }
    }

    /// Words of an enumeration that are explained.
    fn words(self, value: &'a Value) -> Vec<(&'a str, &'a str)> {
        let alternatives = self.alternatives(value);
        let explained = alternatives
            .iter()
            .filter_map(|one| one.get("oneOf")?.as_array())
            .flatten();
        explained
            .filter_map(|word| Some((word_of(word)?, described(word))))
            .collect()
    }

    /// A value's type in words.
    fn kind(self, value: &'a Value) -> String {
        let kinds: Vec<String> = self
            .alternatives(value)
            .into_iter()
            .map(|one| self.kind_of_one(one))
            .collect();
        kinds.join(", or ")
    }

    fn kind_of_one(self, value: &'a Value) -> String {
        let number = |key| value.get(key).and_then(Value::as_u64);
        if let Some(words) = value.get("oneOf").and_then(Value::as_array) {
            return one_of(words.iter().filter_map(word_of));
        }
        if let Some(words) = value.get("enum").and_then(Value::as_array) {
            return one_of(words.iter().filter_map(Value::as_str));
        }
        match value["type"].as_str() {
            Some("integer") => match (number("minimum"), number("maximum")) {
                (Some(low), Some(high)) => format!("integer, {low} to {high}"),
                (Some(low), None) => format!("integer, at least {low}"),
                _ => "integer".to_owned(),
            },
            Some("boolean") => "`true` or `false`".to_owned(),
            Some("array") if self.resolved(&value["items"]).get("properties").is_some() => {
                "array of tables, below".to_owned()
            }
            Some("array") => format!("array of: {}", self.kind(&value["items"])),
            Some("object") if value.get("properties").is_none() => {
                format!(
                    "table of names, each: {}",
                    self.kind(&value["additionalProperties"])
                )
            }
            Some("object") => "table, below".to_owned(),
            Some("string") => match title(value) {
                Some(title) => format!("[{title}](#{})", title.to_lowercase().replace(' ', "-")),
                None => "string".to_owned(),
            },
            _ => "any".to_owned(),
        }
    }
}

fn properties(table: &Value) -> impl Iterator<Item = (&String, &Value)> {
    table["properties"].as_object().into_iter().flatten()
}

fn described(value: &Value) -> &str {
    value["description"].as_str().unwrap_or_default()
}

fn title(value: &Value) -> Option<&str> {
    value.get("title")?.as_str()
}

fn word_of(word: &Value) -> Option<&str> {
    match word.get("const") {
        Some(word) => word.as_str(),
        None => word.pointer("/enum/0")?.as_str(),
    }
}

fn one_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.map(|word| format!("`\"{word}\"`")).collect();
    words.join(" or ")
}
