//! How texts are written in unit files (systemd.syntax(7), systemd.unit(5) "Specifiers").

use std::fmt::Write as _;

/// A value of a setting whose value is one text: only `%` means something in it.
pub(super) fn text(value: &str) -> String {
    value.replace('%', "%%")
}

/// A word of a setting that is split into words.
pub(super) fn word(value: &str) -> String {
    let plain = !value.is_empty()
        && value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./:=,@+~^[]{}".contains(c));
    if plain {
        return value.to_owned();
    }
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '%' => out.push_str("%%"),
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// systemd's own reading of one quoted word, as systemd.syntax(7) describes it.
    fn read(word: &str) -> String {
        let Some(inner) = word
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
        else {
            return word.to_owned();
        };
        let mut out = String::new();
        let mut chars = inner.chars();
        while let Some(c) = chars.next() {
            match c {
                '%' => assert_eq!(chars.next(), Some('%'), "a lone % in {word}"),
                '\\' => match chars.next() {
                    Some('n') => out.push('\n'),
                    Some('t') => out.push('\t'),
                    Some('x') => {
                        let hex: String = chars.by_ref().take(2).collect();
                        out.push(char::from(u8::from_str_radix(&hex, 16).unwrap()));
                    }
                    Some(same @ ('\\' | '"')) => out.push(same),
                    other => panic!("unknown escape {other:?} in {word}"),
                },
                '"' => panic!("a bare quote in {word}"),
                _ => {}
            }
            if c != '\\' {
                out.push(c);
            }
        }
        out
    }

    proptest! {
        #[test]
        fn any_word_is_read_back_as_it_was(value in "[^\\x00]{0,40}") {
            prop_assert_eq!(read(&word(&value)), value);
        }
    }
}
