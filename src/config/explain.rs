//! One VM, one network or the host with every value that it comes to, and where each is from.

use std::fmt::Write as _;
use std::rc::Rc;
use std::str::FromStr;

use serde_json::Value;

use super::Source;
use super::diagnostic::{Place, line_number};
use super::nearest::did_you_mean;
use super::origin::{Origins, Path};
use super::shape::{self, Shape};

/// What is explained: `host`, `vm.web`, `network.lan`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject(Path);

/// Why a text is no subject, or one that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSubject {
    #[error("`{0}` is not a part of a configuration; write for example `vm.web` or `host`")]
    Notation(String),
    #[error("there is no `{0}` in the configuration{1}")]
    Nothing(String, String),
}

impl FromStr for Subject {
    type Err = BadSubject;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let schema = shape::schema();
        let (section, name) = match text.split_once('.') {
            Some((section, name)) => (section, Some(name)),
            None => (text, None),
        };
        let named = Shape::of(&schema)
            .key(section)
            .map(|section| section.named().is_some());
        match (named, name) {
            (Some(true), Some(name)) if !name.is_empty() => Ok(Self(
                Path::default().key(section).key(name).as_ref().clone(),
            )),
            (Some(false), None) => Ok(Self(Path::default().key(section).as_ref().clone())),
            _ => Err(BadSubject::Notation(text.to_owned())),
        }
    }
}

/// The subject as TOML, each value with its origin as a comment. What has no value is a comment as
/// a whole. It fits 80 columns wherever the values do.
pub fn explain(
    subject: &Subject,
    origins: &Origins,
    sources: &[Source],
) -> Result<String, BadSubject> {
    let Subject(path) = subject;
    let schema = shape::schema();
    let mut shape = Shape::of(&schema);
    if let [super::Step::Key(section), name @ ..] = path.steps() {
        shape = shape.key(section).unwrap_or(shape);
        if !name.is_empty() {
            if origins.entry(path).is_none() {
                return Err(nothing(path, origins));
            }
            shape = shape.named().unwrap_or(shape);
        }
    }
    let mut page = Page {
        origins,
        sources,
        text: String::new(),
    };
    match origins.entry(path) {
        Some(place) => page.line(&format!("[{path}]"), &page.line_of(place)),
        None => page.text = format!("[{path}]\n"),
    }
    page.table(path, path, shape);
    Ok(page.text)
}

fn nothing(path: &Path, origins: &Origins) -> BadSubject {
    let text = path.to_string();
    let others: Vec<String> = origins.entries().map(|(one, _)| one.to_string()).collect();
    let hint = did_you_mean(&text, others.iter().map(String::as_str))
        .map(|hint| format!("; {hint}"))
        .unwrap_or_default();
    BadSubject::Nothing(text, hint)
}

struct Page<'a> {
    origins: &'a Origins,
    sources: &'a [Source],
    text: String,
}

impl Page<'_> {
    /// The keys of a table, whose header was for `top`, and then the arrays of tables in it, at whatever
    /// depth: what stood behind the header of one would belong to it.
    fn table(&mut self, top: &Path, table: &Path, shape: Shape<'_>) {
        let mut arrays = Vec::new();
        self.values(top, table, shape, &mut arrays);
        for (path, value, elements) in arrays {
            for index in 0..elements {
                let element = path.element(index);
                let _ = writeln!(self.text, "\n[[{path}]]");
                self.table(&element, &element, value.element());
            }
        }
    }

    fn values<'s>(
        &mut self,
        top: &Path,
        table: &Path,
        shape: Shape<'s>,
        arrays: &mut Vec<(Rc<Path>, Shape<'s>, usize)>,
    ) {
        for (key, value) in shape.keys() {
            let path = table.key(key);
            let elements = self.origins.elements(&path);
            if elements > 0 {
                arrays.push((path, value, elements));
            } else if self.origins.has_below(&path) || self.is_absent_table(&path, value) {
                self.values(top, &path, value, arrays);
            } else {
                self.value(top, &path, value);
            }
        }
    }

    /// Whether a table is at `path` that the file leaves out: each of its keys has its default then.
    fn is_absent_table(&self, path: &Path, shape: Shape<'_>) -> bool {
        let absent = self.origins.get(path).is_none_or(|key| key.place.is_none());
        let empty = shape.default_value().and_then(Value::as_object);
        absent && empty.is_some_and(serde_json::Map::is_empty) && !shape.tables().is_empty()
    }

    fn value(&mut self, top: &Path, path: &Path, shape: Shape<'_>) {
        let key = path.below(top);
        let origin = self.origins.get(path);
        if let Some(place) = origin.and_then(|origin| origin.place.as_ref()) {
            let source = self.sources.get(place.source);
            let text = source.and_then(|source| source.text.get(place.span.clone()));
            // A table of names may stand below a header of its own.
            let inline = origin.filter(|_| shape.named().is_some());
            let value = inline
                .and_then(|origin| origin.derived.clone())
                .unwrap_or_else(|| one_line(text.unwrap_or_default()));
            let origin = self.line_of(place);
            return self.line(&format!("{key} = {value}"), &origin);
        }
        let derived = origin.and_then(|origin| origin.derived.clone());
        let default = shape.default_value().map(toml_text);
        if let Some(value) = derived.or(default) {
            return self.line(&format!("{key} = {value}"), "default");
        }
        let said = shape.default().unwrap_or("none").replace('\n', " ");
        self.comment(&format!("{key}: {said}"));
    }

    /// `/etc/nkudo/nkudo.toml:12`.
    fn line_of(&self, place: &Place) -> String {
        let Some(source) = self.sources.get(place.source) else {
            return String::new();
        };
        let line = line_number(&source.text, place.span.start);
        format!("{}:{line}", source.name)
    }

    /// What is so by default and no value, on as many lines as it needs.
    fn comment(&mut self, text: &str) {
        if text.chars().count() <= 65 {
            return self.line(&format!("# {text}"), "default");
        }
        let mut line = "#".to_owned();
        for word in format!("{text} (default)").split(' ') {
            if line.chars().count() + 1 + word.chars().count() > 80 {
                let _ = writeln!(self.text, "{line}");
                "#  ".clone_into(&mut line);
            }
            line.push(' ');
            line.push_str(word);
        }
        let _ = writeln!(self.text, "{line}");
    }

    fn line(&mut self, left: &str, origin: &str) {
        let (length, room) = (
            left.chars().count(),
            76_usize.saturating_sub(origin.chars().count()),
        );
        let _ = if length <= room {
            let column = room.min(42);
            writeln!(self.text, "{left:column$}  # {origin}")
        } else {
            writeln!(self.text, "# {origin}:\n{left}")
        };
    }
}

/// A value as it stands in the file, on one line.
fn one_line(text: &str) -> String {
    if !text.contains('\n') {
        return text.to_owned();
    }
    let document: Option<toml::Table> = format!("value = {text}").parse().ok();
    let value = document.and_then(|mut document| document.remove("value"));
    value.map_or_else(String::new, |value| value.to_string())
}

fn toml_text(value: &Value) -> String {
    toml::Value::try_from(value).map_or_else(|_| value.to_string(), |value| value.to_string())
}
