//! Mistakes that the TOML parser finds, in nkudo's words.

use std::collections::BTreeSet;
use std::ops::Range;

use super::Source;
use super::diagnostic::{Diagnostic, Place};

/// A mistake, and the text that nothing else is to be said of because of it.
pub(super) struct Syntax {
    pub(super) diagnostic: Diagnostic,
    pub(super) broken: Range<usize>,
}

/// After so many, the rest of a file is not looked at: it is no nkudo.toml with a slip in it.
const MOST: usize = 1000;

pub(super) fn diagnostics(
    index: usize,
    source: &Source,
    errors: &[toml::de::Error],
) -> Vec<Syntax> {
    let text = source.text.as_str();
    let mut all: Vec<Syntax> = Vec::new();
    if errors.is_empty() {
        return all;
    }
    let unclosed: Vec<Range<usize>> = errors
        .iter()
        .filter(|error| error.message().starts_with("unclosed array"))
        .take(MOST)
        .filter_map(|error| unclosed_array(text, error.span()?.start))
        .collect();
    let headers: Vec<Range<usize>> = headers(text).collect();
    let mut headers_twice = BTreeSet::new();
    // The end of the line that the last mistake is on.
    let mut line_end = 0;
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        // Everything up to the end of the file is in the array then, and wrong there.
        if let Some(array) = unclosed
            .iter()
            .find(|array| (array.start..=array.end).contains(&span.start))
        {
            if all.iter().all(|other| other.broken != *array) {
                let place = Place {
                    source: index,
                    span: array.start..array.start + 1,
                };
                all.push(Syntax {
                    diagnostic: Diagnostic::new(place, "not TOML: the array is not closed")
                        .hint("close it with `]`"),
                    broken: array.clone(),
                });
            }
            continue;
        }
        // What follows a mistake on its line is mostly no mistake of its own.
        if !all.is_empty() && span.start < line_end {
            continue;
        }
        line_end = end_of_line(text, span.start);
        let twice = error.message().starts_with("duplicate key");
        if twice {
            let at = headers.partition_point(|header| header.start <= span.start);
            let header = at.checked_sub(1).map(|at| &headers[at]);
            // Below a header that is there twice, each key may be there twice as well.
            match header {
                Some(header) if header.contains(&span.start) => {
                    headers_twice.insert(header.start);
                }
                Some(header) if headers_twice.contains(&header.start) => continue,
                _ => {}
            }
        }
        if all.len() == MOST {
            let place = Place {
                source: index,
                span: span.clone(),
            };
            all.push(Syntax {
                diagnostic: Diagnostic::new(place, "the file is not looked at from here on")
                    .label("one mistake too many"),
                broken: span.start..text.len(),
            });
            break;
        }
        all.push(Syntax {
            broken: span.clone(),
            diagnostic: if twice {
                defined_twice(index, text, span, &headers)
            } else {
                not_toml(index, text, span, error.message())
            },
        });
    }
    all
}

fn end_of_line(text: &str, at: usize) -> usize {
    let rest = text.as_bytes().get(at..).unwrap_or_default();
    let length = rest.iter().position(|byte| *byte == b'\n');
    at + length.unwrap_or(rest.len())
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

/// From the bracket that opens the array to where the parser missed the one that closes it.
fn unclosed_array(text: &str, end: usize) -> Option<Range<usize>> {
    let opens = |(line, content): (Range<usize>, &str)| {
        let equals = content.find('=')?;
        let value = content[equals + 1..].trim_start();
        let start = line.start + content.len() - value.len();
        (value.starts_with('[') && !value.contains(']')).then_some(start..end)
    };
    lines(text)
        .take_while(|(line, _)| line.start < end)
        .filter_map(opens)
        .last()
}

/// The parser knows only the second place; the first is looked for in the text.
fn defined_twice(
    index: usize,
    text: &str,
    span: Range<usize>,
    headers: &[Range<usize>],
) -> Diagnostic {
    let key = text.get(span.clone()).unwrap_or_default();
    let above = &headers[..headers.partition_point(|header| header.end <= span.start)];
    let line = headers.get(above.len());
    let header = line
        .filter(|line| line.contains(&span.start))
        .map(|line| text[line.clone()].trim());
    let (what, first) = if let Some(header) = header.and_then(header_name) {
        let first = above
            .iter()
            .find(|line| header_name(text[(*line).clone()].trim()) == Some(header))
            .map(|line| line.start..line.start + text[line.clone()].trim_end().len());
        (header, first)
    } else {
        let table = above.last().map_or(0, |header| header.start);
        let first = lines(&text[table..])
            .find(|(_, content)| {
                let rest = content.trim_start().strip_prefix(key);
                rest.is_some_and(|rest| rest.trim_start().starts_with('='))
            })
            .map(|(line, content)| {
                let start = table + line.start + content.len() - content.trim_start().len();
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

/// The lines that are headers.
fn headers(text: &str) -> impl Iterator<Item = Range<usize>> {
    lines(text)
        .filter(|(_, content)| header_name(content.trim()).is_some())
        .map(|(line, _)| line)
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
