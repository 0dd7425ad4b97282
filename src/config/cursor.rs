//! Walks what the TOML parser found, table by table and key by key.

use std::rc::Rc;

use serde::Serialize;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Place};
use super::nearest::did_you_mean;
use super::origin::Path;
use super::sink::Sink;
use super::values;

/// A value, with the key that it belongs to. An element of an array has its array's key.
#[derive(Debug, Clone)]
pub(super) struct Value<'a> {
    pub(super) sink: &'a Sink,
    pub(super) key: &'a str,
    pub(super) key_place: Place,
    pub(super) place: Place,
    /// Kept only where somebody wants to know what was read.
    pub(super) path: Option<Rc<Path>>,
    found: &'a DeValue<'a>,
}

impl<'a> Value<'a> {
    /// Reports that the value is bad.
    pub(super) fn error(&self, message: impl Into<String>) {
        self.sink.report(self.diagnostic(message));
    }

    /// Reports that the value is bad, and what to do about it.
    pub(super) fn error_with_hint(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.sink.report(self.diagnostic(message).hint(hint));
    }

    pub(super) fn diagnostic(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(self.place.clone(), message)
    }

    /// Reports that the value is of another type than the file must have here.
    pub(super) fn wrong_type(&self, expected: &str) {
        let found = match self.found {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        let message = format!("`{}`: expected {expected}, found {found}", self.key);
        let mut wrong = self
            .diagnostic(message)
            .label(format!("expected {expected}"));
        if let Some(text) = self.found.as_str() {
            let is_number = expected.starts_with("an integer") && text.parse::<i64>().is_ok();
            let is_boolean = expected.starts_with("`true`") && text.parse::<bool>().is_ok();
            if is_number || is_boolean {
                wrong = wrong.hint(format!("write it without quotes: `{text}`"));
            } else if expected.starts_with("an array of") && !expected.contains("tables") {
                wrong = wrong.hint(format!("write it in brackets: `[{text:?}]`"));
            }
        }
        self.sink.report(wrong);
    }

    pub(super) fn is_text(&self) -> bool {
        self.found.is_str()
    }

    pub(super) fn is_integer(&self) -> bool {
        self.found.is_integer()
    }

    pub(super) fn is_boolean(&self) -> bool {
        self.found.is_bool()
    }

    pub(super) fn is_table(&self) -> bool {
        self.found.is_table()
    }

    pub(super) fn is_empty_array(&self) -> bool {
        self.found.as_array().is_some_and(|array| array.is_empty())
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        let text = self.found.as_str();
        if text.is_none() {
            self.wrong_type("a string");
        }
        text
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        let boolean = self.found.as_bool();
        if boolean.is_none() {
            self.wrong_type("`true` or `false`");
        }
        boolean
    }

    /// An integer from `low` to `high`.
    pub(super) fn integer(&self, low: i64, high: i64) -> Option<i64> {
        let Some(integer) = self.found.as_integer() else {
            self.wrong_type("an integer");
            return None;
        };
        match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if (low..=high).contains(&number) => Some(number),
            _ => {
                self.error(format!("`{}` must be from {low} to {high}", self.key));
                None
            }
        }
    }

    pub(super) fn array(&self, expected: &str) -> Option<Vec<Value<'a>>> {
        let Some(array) = self.found.as_array() else {
            self.wrong_type(expected);
            return None;
        };
        let element = |(index, element): (usize, &'a toml::Spanned<DeValue<'a>>)| Value {
            place: Place {
                source: self.place.source,
                span: element.span(),
            },
            path: self.path.as_ref().map(|path| path.element(index)),
            found: element.get_ref(),
            ..self.clone()
        };
        Some(array.iter().enumerate().map(element).collect())
    }

    pub(super) fn table(&self) -> Option<Table<'a>> {
        let Some(table) = self.found.as_table() else {
            self.wrong_type("a table");
            return None;
        };
        Some(Table::new(
            self.sink,
            self.place.source,
            self.path.clone(),
            table,
        ))
    }
}

/// A table of which keys are taken one after the other; those left at the end are unknown.
#[derive(Debug)]
pub(super) struct Table<'a> {
    sink: &'a Sink,
    /// In the order of the file.
    entries: Vec<Value<'a>>,
    known: Vec<&'static str>,
    path: Option<Rc<Path>>,
}

impl<'a> Table<'a> {
    pub(super) fn root(sink: &'a Sink, source: usize, table: &'a DeTable<'a>) -> Self {
        Self::new(sink, source, sink.path(), table)
    }

    fn new(sink: &'a Sink, source: usize, path: Option<Rc<Path>>, table: &'a DeTable<'a>) -> Self {
        let mut entries: Vec<Value<'a>> = table
            .iter()
            .map(|(key, value)| Value {
                sink,
                key: key.get_ref(),
                key_place: Place {
                    source,
                    span: key.span(),
                },
                place: Place {
                    source,
                    span: value.span(),
                },
                path: path.as_ref().map(|path| path.key(key.get_ref())),
                found: value.get_ref(),
            })
            .collect();
        entries.sort_by_key(|entry| entry.key_place.span.start);
        Self {
            sink,
            entries,
            known: Vec::new(),
            path,
        }
    }

    pub(super) fn take(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.known.push(key);
        let at = self.entries.iter().position(|entry| entry.key == key);
        let value = at.map(|at| self.entries.remove(at));
        if let Some(path) = &self.path {
            let place = value.as_ref().map(|value| value.place.clone());
            self.sink.taken(&path.key(key), place);
        }
        value
    }

    /// Notes what a key that was taken came to, where no document can say its default: a name that
    /// another value leads to. `nkudo render --explain` shows it.
    pub(super) fn derived(&self, key: &str, value: &impl Serialize) {
        if let Some(path) = &self.path
            && let Ok(value) = toml::Value::try_from(value)
        {
            self.sink.derived(&path.key(key), value.to_string());
        }
    }

    /// Takes a key and reads it; `default` where the file has none, `None` where it is bad.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Option<T> {
        match self.take(key) {
            Some(value) => read(&value),
            None => Some(default),
        }
    }

    /// As [`Table::read`], for what may be absent.
    #[expect(
        clippy::option_option,
        reason = "the outer one is whether the file is good here"
    )]
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Option<Option<T>> {
        self.read(key, None, |value| read(value).map(Some))
    }

    /// What is left, for tables whose keys are names.
    pub(super) fn into_entries(self) -> Vec<Value<'a>> {
        self.entries
    }

    /// Reports each key that nobody took.
    pub(super) fn finish(mut self) {
        self.known.sort_unstable();
        for (number, entry) in self.entries.iter().enumerate() {
            let known = &self.known;
            // Who has that many does not look at each.
            let hint = (number < 100).then(|| {
                did_you_mean(entry.key, known.iter().copied())
                    .unwrap_or_else(|| format!("the keys here are {}", known.join(", ")))
            });
            let message = format!("unknown key `{}`", values::shown(entry.key));
            self.sink
                .report_unknown(Diagnostic::new(entry.key_place.clone(), message).maybe_hint(hint));
        }
    }
}
