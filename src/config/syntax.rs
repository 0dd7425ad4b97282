//! Mistakes that the TOML parser finds, in nkudo's words.

use std::ops::Range;

use super::Source;
use super::diagnostic::{Diagnostic, Place};

pub(super) fn diagnostics(
    index: usize,
    source: &Source,
    errors: &[toml::de::Error],
) -> Vec<Diagnostic> {
    let text = source.text.as_str();
    let mut all: Vec<Diagnostic> = Vec::new();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        // Below a header that is there twice, each key may be there twice as well.
        let follows = header_above(text, span.start).is_some_and(|header| {
            all.iter()
                .any(|other| header.contains(&other.place.span.start))
        });
        let twice = error.message().starts_with("duplicate key");
        if twice && !follows {
            all.push(defined_twice(index, text, span));
        } else if !twice {
            all.push(not_toml(index, text, span, error.message()));
        }
    }
    all
}

fn not_toml(index: usize, text: &str, span: Range<usize>, said: &str) -> Diagnostic {
    let (before, after) = text.split_at_checked(span.start).unwrap_or((text, ""));
    let rest = after.lines().next().unwrap_or_default().trim();
    let place = Place {
        source: index,
        span,
    };
    // The parser takes this for a string without its quotes.
    if before.trim_end_matches([' ', '\t']).ends_with('=')
        && (rest.is_empty() || rest.starts_with('#'))
    {
        return Diagnostic::new(place, "not TOML: the value is missing");
    }
    let mut lines = said.lines();
    let message = format!("not TOML: {}", lines.next().unwrap_or("syntax error"));
    Diagnostic::new(place, message).label(lines.collect::<Vec<_>>().join("; "))
}

/// The parser knows only the second place; the first is looked for in the text.
fn defined_twice(index: usize, text: &str, span: Range<usize>) -> Diagnostic {
    let key = text.get(span.clone()).unwrap_or_default();
    let line = lines(text).find(|(line, _)| line.contains(&span.start));
    let header = line
        .map(|(_, content)| content.trim())
        .filter(|line| line.starts_with('['));
    let (what, first) = if let Some(header) = header.and_then(header_name) {
        let first = lines(text)
            .find(|(_, content)| header_name(content.trim()) == Some(header))
            .map(|(line, content)| line.start..line.start + content.trim_end().len());
        (header, first)
    } else {
        let above = header_above(text, span.start).map_or(0, |header| header.start);
        let first = lines(text)
            .filter(|(line, _)| line.start >= above)
            .find(|(_, content)| {
                let rest = content.trim_start().strip_prefix(key);
                rest.is_some_and(|rest| rest.trim_start().starts_with('='))
            })
            .map(|(line, content)| {
                let start = line.start + content.len() - content.trim_start().len();
                start..start + key.len()
            });
        (key, first)
    };
    let place = Place {
        source: index,
        span: span.clone(),
    };
    let diagnostic = Diagnostic::new(place, format!("`{what}` is defined twice"));
    match first.filter(|first| first.end <= span.start) {
        Some(span) => diagnostic.label("defined again here").also(
            Place {
                source: index,
                span,
            },
            "defined first here",
        ),
        None => diagnostic,
    }
}

/// `[vm.web]` of a line that begins with it.
fn header_name(line: &str) -> Option<&str> {
    let end = line.rfind(']')?;
    line.starts_with('[').then(|| &line[..=end])
}

/// The line of the last header that begins before the line of `at`.
fn header_above(text: &str, at: usize) -> Option<Range<usize>> {
    lines(text)
        .take_while(|(line, _)| line.end <= at)
        .filter(|(_, content)| header_name(content.trim()).is_some())
        .map(|(line, _)| line)
        .last()
}

/// Each line with its bytes in the text, line end included.
fn lines(text: &str) -> impl Iterator<Item = (Range<usize>, &str)> {
    let mut start = 0;
    text.split_inclusive('\n').map(move |line| {
        let span = start..start + line.len();
        start = span.end;
        (span, line)
    })
}
