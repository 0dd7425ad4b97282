//! What is wrong with a file, and how it is shown.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::Source;

/// Bytes of one of the sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Index into the sources that were loaded.
    pub source: usize,
    pub span: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// A file that has one makes no host.
    Error,
    /// It works, and not as one may think.
    Warning,
}

/// One mistake, or one thing that may be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub message: String,
    pub place: Place,
    /// Stands beside the caret; may be empty.
    pub label: String,
    /// Other places that the mistake involves.
    pub related: Vec<(Place, String)>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Diagnostic {
    pub(super) fn new(place: Place, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            place,
            label: String::new(),
            related: Vec::new(),
            hint: None,
        }
    }

    pub(super) fn warning(place: Place, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::new(place, message)
        }
    }

    /// The same as an error, where nothing is to surprise.
    #[must_use]
    pub fn strict(self) -> Self {
        Self {
            severity: Severity::Error,
            ..self
        }
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(super) fn also(mut self, place: Place, label: impl Into<String>) -> Self {
        self.related.push((place, label.into()));
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }
}

/// The diagnostics as plain text, in the look of rustc. `sources` are those that were loaded.
pub fn render(diagnostics: &[Diagnostic], sources: &[Source]) -> String {
    render_with(&Renderer::plain(), diagnostics, sources)
}

/// As [`render`], with the colours of a terminal.
pub fn render_coloured(diagnostics: &[Diagnostic], sources: &[Source]) -> String {
    render_with(&Renderer::styled(), diagnostics, sources)
}

fn render_with(renderer: &Renderer, diagnostics: &[Diagnostic], sources: &[Source]) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        text.push_str(&renderer.render(&[group(diagnostic, sources)]));
        text.push_str("\n\n");
    }
    text
}

/// Lines of more bytes are not shown.
const LONGEST_LINE: usize = 4096;

fn group<'a>(diagnostic: &'a Diagnostic, sources: &'a [Source]) -> Group<'a> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(&diagnostic.message));
    // The file of the mistake first, then the others that it involves.
    let mut files = vec![diagnostic.place.source];
    for (place, _) in &diagnostic.related {
        if !files.contains(&place.source) {
            files.push(place.source);
        }
    }
    for file in files {
        let Some(source) = sources.get(file) else {
            continue;
        };
        let primary = (diagnostic.place.source == file)
            .then_some((&diagnostic.place, diagnostic.label.as_str()));
        let context = diagnostic
            .related
            .iter()
            .filter(|(place, _)| place.source == file)
            .map(|(place, label)| (place, label.as_str()));
        let part = part(
            &source.text,
            primary
                .into_iter()
                .chain(context.clone())
                .map(|(place, _)| place),
        );
        // Nobody reads such a line, and the renderer would measure each character of it.
        if part.text.lines().any(|line| line.len() > LONGEST_LINE) {
            let place = primary.map(|(place, _)| place).into_iter();
            let place = place.chain(context.map(|(place, _)| place)).next();
            let start = place.map_or(0, |place| part.span(place).start);
            let before = &part.text[..start];
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            let line = part.line + before.matches('\n').count();
            let origin = Origin::path(&source.name).line(line).char_column(column);
            group = group.element(origin);
            continue;
        }
        let mut snippet = Snippet::source(part.text)
            .path(&source.name)
            .line_start(part.line);
        if let Some((place, label)) = primary {
            let primary = AnnotationKind::Primary.span(part.span(place));
            snippet = snippet.annotation(match label {
                "" => primary,
                label => primary.label(label),
            });
        }
        for (place, label) in context {
            let annotation = AnnotationKind::Context.span(part.span(place));
            snippet = snippet.annotation(annotation.label(label));
        }
        group = group.element(snippet);
    }
    match &diagnostic.hint {
        Some(hint) => group.element(Level::HELP.message(hint)),
        None => group,
    }
}

/// The number of the line that `at` is on.
pub(super) fn line_number(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or_default();
    before.matches('\n').count() + 1
}

/// The lines of a source that a diagnostic is about: the renderer reads all that it is given.
struct Part<'a> {
    text: &'a str,
    start: usize,
    /// The number of its first line.
    line: usize,
}

fn part<'a>(whole: &'a str, places: impl Iterator<Item = &'a Place>) -> Part<'a> {
    let (first, last) = places.fold((whole.len(), 0), |(first, last), place| {
        let span = fitted(&place.span, whole);
        (first.min(span.start), last.max(span.end))
    });
    let start = whole[..first].rfind('\n').map_or(0, |at| at + 1);
    // To the end of the line after, so that a place behind the last character of a line is in it.
    let mut ends = whole[last..]
        .match_indices('\n')
        .map(|(at, _)| last + at + 1);
    let end = ends.nth(1).unwrap_or(whole.len());
    Part {
        text: &whole[start..end],
        start,
        line: line_number(whole, start),
    }
}

impl Part<'_> {
    fn span(&self, place: &Place) -> Range<usize> {
        let end = self.start + self.text.len();
        let inner = |at: usize| at.clamp(self.start, end) - self.start;
        fitted(&(inner(place.span.start)..inner(place.span.end)), self.text)
    }
}

/// The span within the text: the renderer panics on one that is not.
fn fitted(span: &Range<usize>, text: &str) -> Range<usize> {
    let mut start = span.start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let mut end = span.end.clamp(start, text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}
