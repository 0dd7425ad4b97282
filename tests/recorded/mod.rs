//! Texts that were recorded, read, and found good.

use std::fs;
use std::path::Path;

/// What differs between the text and what was recorded of it; nothing with `NKUDO_BLESS`, which records it anew.
pub(crate) fn difference(recorded_in: &Path, text: &str) -> Option<String> {
    if std::env::var_os("NKUDO_BLESS").is_some() {
        fs::create_dir_all(recorded_in.parent().unwrap()).unwrap();
        fs::write(recorded_in, text).unwrap();
        return None;
    }
    let recorded = fs::read_to_string(recorded_in).unwrap_or_default();
    let diff = similar::TextDiff::from_lines(recorded.as_str(), text);
    (recorded != text).then(|| diff.unified_diff().to_string())
}
