//! What is wrong with a file, and how it is shown.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::Source;

/// Bytes of one of the sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Index into the sources that were loaded.
    pub source: usize,
    pub span: Range<usize>,
}

/// One mistake. Every diagnostic is an error: a file that has one makes no host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
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
            message: message.into(),
            place,
            label: String::new(),
            related: Vec::new(),
            hint: None,
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

fn group<'a>(diagnostic: &'a Diagnostic, sources: &'a [Source]) -> Group<'a> {
    let mut group = Group::with_title(Level::ERROR.primary_title(&diagnostic.message));
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
        let mut snippet = Snippet::source(&source.text).path(&source.name);
        if diagnostic.place.source == file {
            let primary =
                AnnotationKind::Primary.span(fitted(&diagnostic.place.span, &source.text));
            snippet = snippet.annotation(match diagnostic.label.as_str() {
                "" => primary,
                label => primary.label(label),
            });
        }
        for (place, label) in diagnostic
            .related
            .iter()
            .filter(|(place, _)| place.source == file)
        {
            let span = fitted(&place.span, &source.text);
            snippet = snippet.annotation(AnnotationKind::Context.span(span).label(label));
        }
        group = group.element(snippet);
    }
    match &diagnostic.hint {
        Some(hint) => group.element(Level::HELP.message(hint)),
        None => group,
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
