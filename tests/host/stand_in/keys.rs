//! The values of the options.

use std::collections::BTreeMap;

/// `key=value,…`, where a value in double quotes can hold commas, and a doubled quote is one.
#[derive(Debug)]
pub(super) struct Keys {
    option: &'static str,
    values: BTreeMap<String, String>,
}

impl Keys {
    pub(super) fn parse(
        option: &'static str,
        text: &str,
        known: &[&str],
    ) -> Result<Self, Vec<String>> {
        let wrong = |why: String| vec![format!("Error parsing --{option}"), why];
        let mut values = BTreeMap::new();
        for part in split(text) {
            let Some((key, value)) = part.split_once('=') else {
                return Err(wrong(format!("Invalid syntax: {part}")));
            };
            if !known.contains(&key) {
                return Err(wrong(format!("Unknown option: {key}")));
            }
            values.insert(key.to_owned(), unquoted(value));
        }
        Ok(Self { option, values })
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    pub(super) fn inconvertible(&self, key: &str, value: &str) -> Vec<String> {
        vec![
            format!("Error parsing --{}", self.option),
            format!("Unable to convert {value} for {key}"),
        ]
    }

    pub(super) fn convert<T: std::str::FromStr>(
        &self,
        key: &str,
    ) -> Result<Option<T>, Vec<String>> {
        self.get(key)
            .map(|value| value.parse().map_err(|_| self.inconvertible(key, value)))
            .transpose()
    }

    /// In bytes; 0 where there is none.
    pub(super) fn size(&self, key: &str) -> Result<u64, Vec<String>> {
        let Some(value) = self.get(key) else {
            return Ok(0);
        };
        let number = value.strip_suffix(['K', 'M', 'G']).unwrap_or(value);
        let shift = match value.chars().last() {
            Some('K') => 10,
            Some('M') => 20,
            Some('G') => 30,
            _ => 0,
        };
        match number.parse::<u64>() {
            Ok(number) => Ok(number << shift),
            Err(_) => Err(self.inconvertible(key, value)),
        }
    }

    pub(super) fn toggle(&self, key: &str) -> Result<bool, Vec<String>> {
        match self.get(key) {
            Some("on" | "true") => Ok(true),
            Some("off" | "false" | "") | None => Ok(false),
            Some(other) => Err(self.inconvertible(key, other)),
        }
    }
}

/// At the commas outside of quotes and brackets.
pub(super) fn split(text: &str) -> Vec<&str> {
    let (mut quoted, mut listed) = (false, 0);
    text.split(move |c| {
        quoted ^= c == '"';
        match c {
            '[' if !quoted => listed += 1,
            ']' if !quoted => listed -= 1,
            _ => {}
        }
        c == ',' && !quoted && listed == 0
    })
    .collect()
}

fn unquoted(value: &str) -> String {
    match value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    {
        Some(inside) => inside.replace("\"\"", "\""),
        None => value.trim().to_owned(),
    }
}
