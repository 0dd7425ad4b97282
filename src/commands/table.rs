//! Tables for people.

use comfy_table::{ContentArrangement, presets};

use super::width;

/// A table whose rows have as many cells as its header.
pub(super) struct Table<const COLUMNS: usize>(comfy_table::Table);

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub(super) fn new(header: [&str; COLUMNS]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_header(header);
        Self(table)
    }

    pub(super) fn add(&mut self, row: [String; COLUMNS]) {
        self.0.add_row(row);
    }

    /// Its lines; none where there are no rows.
    pub(super) fn text(mut self) -> String {
        if self.0.row_count() == 0 {
            return String::new();
        }
        if let Some(width) = width() {
            // And the space at the left end, which is cut off.
            self.0.set_content_arrangement(ContentArrangement::Dynamic);
            self.0.set_width(width.saturating_add(1));
        }
        // Every column is padded by a space on both sides.
        self.0.lines().fold(String::new(), |mut text, line| {
            text.push_str(line.strip_prefix(' ').unwrap_or(&line).trim_end());
            text.push('\n');
            text
        })
    }
}
