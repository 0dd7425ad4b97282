//! Writes YAML that every parser reads alike.

use std::fmt::Write as _;

/// A value of what nkudo itself writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Yaml {
    Text(String),
    Flag(bool),
    Number(u64),
    List(Vec<Yaml>),
    /// Keys are nkudo's own words: letters, digits, `-` and `_`.
    Map(Vec<(String, Yaml)>),
}

impl Yaml {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn texts<T: ToString>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::List(
            texts
                .into_iter()
                .map(|text| Self::Text(text.to_string()))
                .collect(),
        )
    }

    pub(super) fn map<const N: usize>(entries: [(&str, Self); N]) -> Self {
        Self::Map(
            entries
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        )
    }

    /// The value as a document of its own, with a line break at its end.
    pub(super) fn document(&self) -> String {
        let mut out = String::new();
        self.block(&mut out, 0);
        out
    }

    fn block(&self, out: &mut String, indent: usize) {
        match self {
            Self::Map(entries) if !entries.is_empty() => {
                for (key, value) in entries {
                    let _ = write!(out, "{:indent$}{key}:", "");
                    value.after_key(out, indent);
                }
            }
            Self::List(items) if !items.is_empty() => {
                for item in items {
                    // The first line of an item stands behind its dash.
                    let mut lines = String::new();
                    item.block(&mut lines, indent + 2);
                    let _ = write!(out, "{:indent$}- {}", "", &lines[indent + 2..]);
                }
            }
            scalar => {
                let _ = writeln!(out, "{:indent$}{}", "", scalar.scalar());
            }
        }
    }

    fn after_key(&self, out: &mut String, indent: usize) {
        match self {
            Self::Map(entries) if !entries.is_empty() => {
                out.push('\n');
                self.block(out, indent + 2);
            }
            Self::List(items) if !items.is_empty() => {
                out.push('\n');
                self.block(out, indent + 2);
            }
            scalar => {
                let _ = writeln!(out, " {}", scalar.scalar());
            }
        }
    }

    fn scalar(&self) -> String {
        match self {
            Self::Text(text) => quoted(text),
            Self::Flag(flag) => flag.to_string(),
            Self::Number(number) => number.to_string(),
            Self::List(_) => "[]".to_owned(),
            Self::Map(_) => "{}".to_owned(),
        }
    }
}

/// The text in double quotes. Without them YAML 1.1, which cloud-init's parser reads, makes numbers to
/// the base of 60 of Ethernet addresses, and truth values of `no` and `on`.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            // What YAML calls printable (YAML 1.1, 5.1), less the line breaks that only 1.1 knows.
            ' '..='~'
            | '\u{a0}'..='\u{2027}'
            | '\u{202a}'..='\u{d7ff}'
            | '\u{e000}'..='\u{fefe}'
            | '\u{ff00}'..='\u{fffd}'
            | '\u{10000}'.. => out.push(c),
            c => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_and_maps_nest() {
        let yaml = Yaml::map([
            (
                "users",
                Yaml::List(vec![
                    Yaml::text("default"),
                    Yaml::map([
                        ("name", Yaml::text("no")),
                        ("groups", Yaml::texts(["a", "b"])),
                    ]),
                    Yaml::List(vec![Yaml::Number(1), Yaml::List(Vec::new())]),
                ]),
            ),
            ("dhcp4", Yaml::Flag(true)),
            ("none", Yaml::Map(Vec::new())),
        ]);
        assert_eq!(
            yaml.document(),
            "users:\n  - \"default\"\n  - name: \"no\"\n    groups:\n      - \"a\"\n      - \"b\"\n  \
             - - 1\n    - []\ndhcp4: true\nnone: {}\n"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_back_as_it_was(text in any::<String>()) {
            let document = Yaml::map([("key", Yaml::text(&text))]).document();
            let back: serde_json::Value = serde_saphyr::from_str(&document).unwrap();
            prop_assert_eq!(back["key"].as_str(), Some(text.as_str()));
        }
    }
}
