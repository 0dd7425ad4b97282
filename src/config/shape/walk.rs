//! Looking things up in the schema.

use serde_json::Value;

use super::doc::Doc;

/// A part of the schema: what a key, an element or a whole file may be.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'s> {
    schema: &'s Value,
    at: &'s Value,
}

impl<'s> Shape<'s> {
    /// Of a whole file, by what [`super::schema`] returned.
    pub fn of(schema: &'s Value) -> Self {
        Self { schema, at: schema }
    }

    fn with(self, at: &'s Value) -> Self {
        Self { at, ..self }
    }

    /// As it stands, references not followed.
    pub fn as_written(self) -> &'s Value {
        self.at
    }

    /// Everything that a value here may be, references followed.
    pub fn alternatives(self) -> Vec<&'s Value> {
        if let Some(to) = self.at.get("$ref").and_then(Value::as_str) {
            let at = self.schema.pointer(to.trim_start_matches('#'));
            return at.map_or_else(Vec::new, |at| self.with(at).alternatives());
        }
        for several in ["allOf", "anyOf"] {
            if let Some(all) = self.at.get(several).and_then(Value::as_array) {
                return all
                    .iter()
                    .flat_map(|one| self.with(one).alternatives())
                    .collect();
            }
        }
        vec![self.at]
    }

    /// The tables among the alternatives: those with keys of nkudo's.
    pub fn tables(self) -> Vec<&'s Value> {
        let mut tables = self.alternatives();
        tables.retain(|one| one.get("properties").is_some());
        tables
    }

    /// The keys of a table, in the order in which the reference has them.
    pub fn keys(self) -> Vec<(&'s str, Self)> {
        let tables = self.tables().into_iter();
        tables
            .filter_map(|table| table["properties"].as_object())
            .flatten()
            .map(|(key, at)| (key.as_str(), self.with(at)))
            .collect()
    }

    pub fn key(self, key: &str) -> Option<Self> {
        let mut keys = self.keys().into_iter();
        keys.find(|(one, _)| *one == key).map(|(_, shape)| shape)
    }

    /// What each of a table's entries is, if its keys are names that the file gives.
    pub fn named(self) -> Option<Self> {
        self.only("additionalProperties")
    }

    /// What each element of an array is.
    #[must_use]
    pub fn element(self) -> Self {
        self.only("items").unwrap_or(self)
    }

    fn only(self, word: &str) -> Option<Self> {
        let alternatives = self.alternatives().into_iter();
        let mut found = alternatives.filter_map(|one| one.get(word));
        found.find(|one| one.is_object()).map(|at| self.with(at))
    }

    /// What a key is where the file does not say, in words or as TOML between backticks.
    pub fn default(self) -> Option<&'s str> {
        Doc::read(self.at.get("description")?.as_str()?).default
    }

    /// The same, where it is a value.
    pub fn default_value(self) -> Option<&'s Value> {
        self.at.get("default")
    }
}
