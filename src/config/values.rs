//! Readers of single values: text to the newtypes of `host`.

use std::fmt::Display;
use std::num::NonZeroU32;
use std::str::FromStr;

use super::cursor::Value;
use super::nearest::did_you_mean;
use crate::host::{AbsolutePath, CpuQuota, ProgramName, Size, TimeSpan, Weight};

/// A string that is a `T`; `what` names it with its article.
pub(super) fn parsed<T>(value: &Value<'_>, what: &str, hint: Option<&str>) -> Option<T>
where
    T: FromStr,
    T::Err: Display,
{
    let text = value.text()?;
    match text.parse() {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            let message = format!("`{}` is not {what}: {error}", shown(text));
            value.sink.report(
                value
                    .diagnostic(message)
                    .maybe_hint(hint.map(str::to_owned)),
            );
            None
        }
    }
}

/// A text of the file as a message can hold it: on one line, and not too long.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 60;
    let start: String = text.chars().take(MOST).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    let mut shown = String::new();
    for c in start.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown + more
}

pub(super) fn path(value: &Value<'_>) -> Option<AbsolutePath> {
    parsed(value, "a path that can be used here", None)
}

pub(super) fn size(value: &Value<'_>) -> Option<Size> {
    parsed(
        value,
        "a size",
        Some("write a whole number and K, M, G or T, which are powers of two: `512M`, `2G`"),
    )
}

pub(super) fn time_span(value: &Value<'_>) -> Option<TimeSpan> {
    parsed(value, "a time span", None)
}

/// One of a few words.
pub(super) fn choice<T: Copy>(value: &Value<'_>, words: &[(&str, T)]) -> Option<T> {
    let text = value.text()?;
    if let Some((_, chosen)) = words.iter().find(|(word, _)| *word == text) {
        return Some(*chosen);
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let message = format!("`{}` cannot be `{}`", value.key, shown(text));
    let hint = did_you_mean(text, known.iter().copied())
        .unwrap_or_else(|| format!("it is one of `{}`", known.join("`, `")));
    value.error_with_hint(message, hint);
    None
}

pub(super) fn weight(value: &Value<'_>) -> Option<Weight> {
    let number = value.integer(1, 10_000)?;
    u32::try_from(number).ok()?.try_into().ok()
}

pub(super) fn positive(value: &Value<'_>) -> Option<NonZeroU32> {
    let number = value.integer(1, i64::from(u32::MAX))?;
    NonZeroU32::new(u32::try_from(number).ok()?)
}

pub(super) fn cpu_quota(value: &Value<'_>) -> Option<CpuQuota> {
    let text = value.text()?;
    // parse alone would take "+5%".
    let percent = text
        .strip_suffix('%')
        .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|digits| digits.parse::<NonZeroU32>().ok());
    if percent.is_none() {
        value.error_with_hint(
            format!("`{}` is not a share of CPU time", shown(text)),
            "write a whole number of percent of one CPU: `150%` is one and a half",
        );
    }
    percent.map(CpuQuota::from_percent)
}

pub(super) fn program(value: &Value<'_>) -> Option<ProgramName> {
    let text = value.text()?;
    if text.contains('/') {
        return path(value).map(ProgramName::Absolute);
    }
    if text.is_empty() || text == "." || text == ".." || text.contains(char::is_control) {
        value.error_with_hint(
            format!("`{}` is not the name of a program", shown(text)),
            "write the name of a program on PATH, or an absolute path",
        );
        return None;
    }
    Some(ProgramName::OnPath(text.to_owned()))
}
