//! A whole user-data: what kind it is, and whether cloud-init can read it.
//!
//! cloud-init knows the kind by how the text begins, and says nothing on the console about one that it
//! cannot read: the guest comes up with nobody in it who could log in.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::module_keys::{TYPES, Value};

/// User-data that cloud-init can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserData {
    text: String,
    kind: Kind,
    /// The keys of a cloud-config, and what they are.
    keys: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    CloudConfig,
    /// A part of another kind, by its type in cloud-init's MIME messages.
    Other(&'static str),
    /// A MIME message or an archive, which has parts itself.
    Parts,
}

/// Why a text is not such user-data, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadUserData {
    pub message: String,
    pub span: Range<usize>,
    pub hint: Option<String>,
}

const CLOUD_CONFIG: &str = "#cloud-config";

/// How texts begin that cloud-init takes, the longest first; more of one word is another word.
const BEGINNINGS: [(&str, Kind); 10] = [
    ("#cloud-config-archive", Kind::Parts),
    (
        "#cloud-config-jsonp",
        Kind::Other("text/cloud-config-jsonp"),
    ),
    ("## template: jinja", Kind::Other("text/jinja2")),
    ("#cloud-boothook", Kind::Other("text/cloud-boothook")),
    ("#part-handler", Kind::Other("text/part-handler")),
    ("#include-once", Kind::Other("text/x-include-once-url")),
    (CLOUD_CONFIG, Kind::CloudConfig),
    ("#include", Kind::Other("text/x-include-url")),
    ("#!", Kind::Other("text/x-shellscript")),
    ("Content-Type:", Kind::Parts),
];

impl UserData {
    pub fn read(text: &str) -> Result<Self, BadUserData> {
        let first = text.lines().next().unwrap_or_default();
        let begins = |(start, _): &&(&str, Kind)| {
            text.get(..start.len())
                .is_some_and(|begin| begin.eq_ignore_ascii_case(start))
        };
        let mime = ["MIME-Version:", "From:", "Subject:"]
            .iter()
            .any(|header| first.starts_with(header));
        let kind = match BEGINNINGS.iter().find(begins) {
            Some((_, kind)) => *kind,
            None if mime => Kind::Parts,
            None => {
                return Err(BadUserData {
                    message: "this is no user-data that cloud-init knows".to_owned(),
                    span: 0..first.len(),
                    hint: Some(format!(
                        "its first line has to be `{CLOUD_CONFIG}`; or it is a script that begins with \
                         `#!`, or a MIME message"
                    )),
                });
            }
        };
        let keys = match kind {
            Kind::CloudConfig => cloud_config(text, first)?,
            Kind::Other(_) | Kind::Parts => Vec::new(),
        };
        Ok(Self {
            text: text.to_owned(),
            kind,
            keys,
        })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its type as a part of a MIME message; `None` where it has parts itself.
    pub(super) fn part(&self) -> Option<&'static str> {
        match self.kind {
            Kind::CloudConfig => Some("text/cloud-config"),
            Kind::Other(kind) => Some(kind),
            Kind::Parts => None,
        }
    }

    /// Whether other parts can stand beside it.
    pub fn can_be_joined(&self) -> bool {
        self.part().is_some()
    }

    /// Whether it is a cloud-config that has this key.
    pub fn has_key(&self, key: &str) -> bool {
        self.keys.iter().any(|have| have == key)
    }
}

/// The keys of a cloud-config.
fn cloud_config(text: &str, first: &str) -> Result<Vec<String>, BadUserData> {
    if first.trim_end() != CLOUD_CONFIG {
        return Err(BadUserData {
            message: format!("the first line is not `{CLOUD_CONFIG}`, as cloud-init wants it"),
            span: 0..first.len(),
            hint: None,
        });
    }
    let Document(keys) = serde_saphyr::from_str(text).map_err(|err| bad_yaml(text, &err))?;
    for (key, value) in &keys {
        let name = key.value.as_str();
        let wrong = |message: String, hint: Option<String>| BadUserData {
            message,
            span: span(text, key.referenced.into(), name.len()),
            hint,
        };
        if let Ok(at) = TYPES.binary_search_by_key(&name, |(known, _)| known) {
            let expected = TYPES[at].1;
            if !expected.is(*value) {
                return Err(wrong(
                    format!("`{name}` of a cloud-config is {expected}, not {value}"),
                    None,
                ));
            }
            continue;
        }
        let known = TYPES.iter().map(|(known, _)| *known);
        if let Some(hint) = crate::config::did_you_mean(name, known) {
            let message = format!("a cloud-config has no key `{name}`");
            return Err(wrong(message, Some(hint)));
        }
    }
    Ok(keys.into_iter().map(|(key, _)| key.value).collect())
}

fn bad_yaml(text: &str, err: &serde_saphyr::Error) -> BadUserData {
    let rendered = err.without_snippet().to_string();
    // The place is shown with the text.
    let message = match rendered.rfind(" at line ") {
        Some(end) => &rendered[..end],
        None => rendered.as_str(),
    };
    let first = message.lines().next().unwrap_or_default();
    BadUserData {
        message: format!("this is no YAML that cloud-init can read: {first}"),
        span: err
            .location()
            .map_or(0..CLOUD_CONFIG.len(), |at| span(text, at.into(), 1)),
        hint: None,
    }
}

/// A line and a column, both from 1.
#[derive(Debug, Clone, Copy)]
struct At {
    line: u64,
    column: u64,
}

impl From<Location> for At {
    fn from(location: Location) -> Self {
        Self {
            line: location.line(),
            column: location.column(),
        }
    }
}

fn span(text: &str, at: At, length: usize) -> Range<usize> {
    let mut start = 0;
    for (line, number) in text.split_inclusive('\n').zip(1..) {
        if number == at.line {
            let column = usize::try_from(at.column.saturating_sub(1)).unwrap_or(usize::MAX);
            let within = line
                .char_indices()
                .nth(column)
                .map_or(line.trim_end().len(), |(offset, _)| offset);
            start += within;
            return start..text.len().min(start + length);
        }
        start += line.len();
    }
    text.len()..text.len()
}

/// The mapping at the top of a document.
struct Document(Vec<(Spanned<String>, Value)>);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Top;
        impl<'de> Visitor<'de> for Top {
            type Value = Document;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of keys to values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
                let mut keys = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    keys.push(entry);
                }
                Ok(Document(keys))
            }
        }
        deserializer.deserialize_map(Top)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(text: &str) -> (String, String) {
        let bad = UserData::read(text).unwrap_err();
        (bad.message, text[bad.span].to_owned())
    }

    #[test]
    fn what_cloud_init_takes_is_taken() {
        for good in [
            "#cloud-config\npackages: [vim]\n",
            "#cloud-config\n# nothing more\nmy_image_s_own: {a: 1}\nntp:\n",
            "#cloud-config\r\nruncmd:\r\n - [ls, -l]\r\n - echo yes\r\n",
            "#cloud-config\nwrite_files:\n- path: /a\n  content: !!binary aGVsbG8=\nusers: &u\n- default\n",
            "#!/bin/sh\necho : {",
            "## template: jinja\n#cloud-config\n{% if x %}",
            "Content-Type: multipart/mixed; boundary=\"b\"\n\n--b--\n",
            "MIME-Version: 1.0\n",
            "#include\nhttps://example.org/user-data\n",
        ] {
            assert_eq!(UserData::read(good).map(|_| ()), Ok(()), "{good}");
        }
        let both = UserData::read("#cloud-config\ntimezone: UTC\nlocale: C\n").unwrap();
        assert!(both.has_key("timezone") && !both.has_key("hostname"));
    }

    #[test]
    fn what_it_does_not_take_is_refused_where_it_is() {
        for (text, message, place) in [
            (
                "packages: [vim]\n",
                "no user-data that cloud-init knows",
                "packages: [vim]",
            ),
            ("", "no user-data that cloud-init knows", ""),
            (
                "#cloud-configs\na: b\n",
                "the first line is not",
                "#cloud-configs",
            ),
            (
                "#cloud-config\n- a\n",
                "no YAML that cloud-init can read",
                "-",
            ),
            (
                "#cloud-config\npackages: vim\n",
                "`packages` of a cloud-config is a list, not a text",
                "packages",
            ),
            (
                "#cloud-config\nruncmd:\n",
                "`runcmd` of a cloud-config is a list, not empty",
                "runcmd",
            ),
            (
                "#cloud-config\nhostname: x\n\npackges: [a]\n",
                "no key `packges`",
                "packges",
            ),
            ("#cloud-config\nruncmd:\n  - a: [b\n", "no YAML", "["),
            ("#cloud-config\na: b: c\n", "no YAML", ":"),
            (
                "#cloud-config\ntimezone: UTC\ntimezone: UTC\n",
                "no YAML",
                "t",
            ),
        ] {
            let (said, at) = why(text);
            assert!(said.contains(message), "{text:?}: {said}");
            assert_eq!(at, place, "{text:?}: {said}");
        }
    }

    #[test]
    fn the_known_keys_are_sorted() {
        assert!(TYPES.is_sorted_by_key(|(key, _)| key));
    }
}
