//! Which of two versions is the newer one (UAPI.10, Version Format Specification).

use std::cmp::Ordering;

pub(super) fn compare(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    loop {
        left = significant(left);
        right = significant(right);
        // A tilde comes before everything, the end included.
        match (left.first(), right.first()) {
            (Some(b'~'), Some(b'~')) => {
                (left, right) = (&left[1..], &right[1..]);
                continue;
            }
            (Some(b'~'), _) => return Ordering::Less,
            (_, Some(b'~')) => return Ordering::Greater,
            (None, None) => return Ordering::Equal,
            (None, _) => return Ordering::Less,
            (_, None) => return Ordering::Greater,
            _ => {}
        }
        let by_part = match (left[0].is_ascii_digit(), right[0].is_ascii_digit()) {
            (true, true) => {
                let (one, other) = (digits(&mut left), digits(&mut right));
                one.len().cmp(&other.len()).then_with(|| one.cmp(other))
            }
            // A number is newer than letters.
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => letters(&mut left).cmp(letters(&mut right)),
        };
        if by_part != Ordering::Equal {
            return by_part;
        }
    }
}

fn significant(text: &[u8]) -> &[u8] {
    let is_significant = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'~';
    let start = text.iter().position(is_significant).unwrap_or(text.len());
    &text[start..]
}

/// The number at the beginning, without zeros before it.
fn digits<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let number = part(text, u8::is_ascii_digit);
    let zeros = number.iter().take_while(|byte| **byte == b'0').count();
    &number[zeros..]
}

fn letters<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    part(text, u8::is_ascii_alphabetic)
}

fn part<'a>(text: &mut &'a [u8], is_of_it: impl Fn(&u8) -> bool) -> &'a [u8] {
    let end = text.iter().position(|byte| !is_of_it(byte));
    let (part, rest) = text.split_at(end.unwrap_or(text.len()));
    *text = rest;
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        let ordered = [
            "6.1.0~rc1-9-amd64",
            "6.1.0-9-amd64",
            "6.1.0-10-amd64",
            "6.8.0-45-generic",
            "6.12.48+deb13-amd64",
            "6.17.1-300.fc43.x86_64",
            "20251128",
        ];
        for (index, left) in ordered.iter().enumerate() {
            for (other, right) in ordered.iter().enumerate() {
                assert_eq!(compare(left, right), index.cmp(&other), "{left} {right}");
            }
        }
        assert_eq!(compare("6.01", "6.1"), Ordering::Equal);
        assert_eq!(compare("linux", "linux-lts"), Ordering::Less);
    }
}
