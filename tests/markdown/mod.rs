//! Markdown as the man(7) macros: as much of it as nkudo's own documents have.

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use roff::{Inline, Roff, bold, italic, line_break, roman};

/// A whole page. What stands before the first heading of the second level is its description.
pub(crate) fn page(markdown: &str, name: &str, section: &str, source: &str) -> String {
    let mut roff = Roff::new();
    roff.control("TH", [name, section, "", source, "nkudo"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{name} - which virtual machines a host has"))]);
    roff.control("SH", ["DESCRIPTION"]);
    let mut text = roff.render();
    text.push_str(&body(markdown, HeadingLevel::H2));
    text
}

/// Sections alone, each under a heading of the first level.
pub(crate) fn sections(markdown: &str) -> String {
    body(markdown, HeadingLevel::H1)
}

/// What a paragraph has been put together from.
#[derive(Default)]
struct Writer {
    roff: Roff,
    line: Vec<Inline>,
    style: Style,
    /// How deep in lists.
    depth: usize,
    code: bool,
    /// The cells of a table's row.
    row: Vec<Vec<Inline>>,
    /// A heading that is left out.
    skipped: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Style {
    #[default]
    Roman,
    Bold,
    Italic,
}

fn body(markdown: &str, top: HeadingLevel) -> String {
    let mut writer = Writer::default();
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        writer.event(event, top);
    }
    writer.roff.to_roff()
}

impl Writer {
    fn event(&mut self, event: Event<'_>, top: HeadingLevel) {
        match event {
            Event::Start(Tag::Strong) => self.style = Style::Bold,
            Event::Start(Tag::Emphasis) => self.style = Style::Italic,
            Event::End(TagEnd::Strong | TagEnd::Emphasis) => self.style = Style::Roman,
            Event::Text(text) if self.code => {
                for line in text.lines() {
                    self.line.push(roman(line));
                    self.line.push(line_break());
                }
            }
            Event::Text(text) => self.line.push(match self.style {
                Style::Roman => roman(text.to_string()),
                Style::Bold => bold(text.to_string()),
                Style::Italic => italic(text.to_string()),
            }),
            Event::Code(text) => self.line.push(bold(text.to_string())),
            Event::SoftBreak | Event::HardBreak => self.line.push(roman(" ")),
            Event::Start(Tag::Heading { level, .. }) => {
                self.line.clear();
                // The document's own title.
                self.skipped = level < top;
            }
            Event::End(TagEnd::Heading(level)) => {
                let text = self.plain();
                if !self.skipped {
                    if level == top {
                        // But the names of tables mean something as they are.
                        let is_table = text.starts_with('[');
                        let text = if is_table { text } else { text.to_uppercase() };
                        self.roff.control("SH", [text.as_str()]);
                    } else {
                        self.roff.control("SS", [text.as_str()]);
                    }
                }
                self.skipped = false;
            }
            Event::Start(Tag::Paragraph) if self.depth == 0 => {
                self.roff.control("PP", []);
            }
            Event::End(TagEnd::Paragraph | TagEnd::Item) => self.flush(),
            Event::Start(Tag::List(_)) => {
                self.flush();
                self.depth += 1;
            }
            Event::End(TagEnd::List(_)) => self.depth -= 1,
            Event::Start(Tag::Item) => {
                self.flush();
                self.roff.control("IP", ["\\(bu", "2"]);
            }
            Event::Start(Tag::CodeBlock(_)) => {
                self.flush();
                self.code = true;
                for (macro_, arguments) in [("PP", &[][..]), ("RS", &["4"][..]), ("nf", &[][..])] {
                    self.roff.control(macro_, arguments.iter().copied());
                }
            }
            Event::End(TagEnd::CodeBlock) => {
                self.flush();
                self.code = false;
                self.roff.control("fi", []);
                self.roff.control("RE", []);
            }
            Event::Start(Tag::TableHead | Tag::TableRow) => self.row.clear(),
            Event::End(TagEnd::TableCell) => self.row.push(std::mem::take(&mut self.line)),
            // A table's row is an entry of a list: its first cell, then the others.
            Event::End(TagEnd::TableRow) => {
                let mut cells = std::mem::take(&mut self.row).into_iter();
                self.roff.control("TP", []);
                self.roff.text(cells.next().unwrap_or_default());
                let mut text: Vec<Inline> = Vec::new();
                for cell in cells.filter(|cell| !cell.is_empty()) {
                    if !text.is_empty() {
                        text.push(roman("; "));
                    }
                    text.extend(cell);
                }
                self.roff.text(text);
            }
            Event::Start(
                Tag::Paragraph | Tag::Link { .. } | Tag::Table(_) | Tag::TableCell | Tag::HtmlBlock,
            )
            | Event::End(
                TagEnd::Link | TagEnd::Table | TagEnd::TableHead | TagEnd::HtmlBlock,
            )
            // Comments for those who edit the file.
            | Event::Html(_)
            | Event::InlineHtml(_)
            | Event::Rule => {}
            other => panic!("the documents have no {other:?} yet"),
        }
    }

    fn flush(&mut self) {
        if !self.line.is_empty() {
            self.roff.text(std::mem::take(&mut self.line));
        }
    }

    /// The text of a heading, which macros cannot have in several fonts.
    fn plain(&mut self) -> String {
        let mut text = Roff::new();
        text.text(std::mem::take(&mut self.line));
        let text = text.to_roff();
        ["\\fB", "\\fR", "\\fI"]
            .iter()
            .fold(text, |text, font| text.replace(font, ""))
            .trim()
            .to_owned()
    }
}
