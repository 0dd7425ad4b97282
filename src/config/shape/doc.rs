//! A key's doc comment, taken apart.

use serde_json::Value;

/// What a doc comment says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Doc<'a> {
    pub(super) prose: &'a str,
    pub(super) default: Option<&'a str>,
    pub(super) example: Option<&'a str>,
    pub(super) becomes: Option<&'a str>,
}

impl<'a> Doc<'a> {
    pub(super) fn read(text: &'a str) -> Self {
        let mut doc = Self::default();
        let mut end = text.len();
        // From the end: each field reaches from its word to where the next one begins.
        for word in ["Becomes:", "Example:", "Default:"] {
            let Some(at) = field(&text[..end], word) else {
                continue;
            };
            let said = Some(text[at + word.len()..end].trim());
            match word {
                "Becomes:" => doc.becomes = said,
                "Example:" => doc.example = said,
                _ => doc.default = said,
            }
            end = at;
        }
        doc.prose = text[..end].trim();
        doc
    }

    /// The default, where it is a value.
    pub(super) fn default_value(&self) -> Option<Value> {
        toml_value(&format!("value = {}", backticked(self.default?)?), "value")
    }

    /// What the example's line gives to its key.
    pub(super) fn example_value(&self) -> Option<Value> {
        let line = backticked(self.example?)?;
        let key = line.split(" = ").next()?;
        toml_value(line, key)
    }
}

fn field(text: &str, word: &str) -> Option<usize> {
    if text.starts_with(word) {
        return Some(0);
    }
    text.rfind(&format!("\n{word}")).map(|at| at + 1)
}

/// The text, if all of it is between backticks.
fn backticked(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('`')?.strip_suffix('`')?;
    (!inner.contains('`')).then_some(inner)
}

fn toml_value(document: &str, key: &str) -> Option<Value> {
    let table: toml::Table = document.parse().ok()?;
    serde_json::to_value(table.get(key)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_taken_apart() {
        let text = "How long.\n\nAt most\na day.\nDefault: `\"90s\"`\nExample: `wait = \"2min\"`\n\
                    Becomes: `TimeoutStopSec=`,\n15 s longer.";
        let doc = Doc::read(text);
        assert_eq!(doc.prose, "How long.\n\nAt most\na day.");
        assert_eq!(doc.becomes, Some("`TimeoutStopSec=`,\n15 s longer."));
        assert_eq!(doc.default_value(), Some("90s".into()));
        assert_eq!(doc.example_value(), Some("2min".into()));
        assert_eq!(Doc::read("Default: as the VM has it").default_value(), None);
    }
}
