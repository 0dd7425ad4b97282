//! Sizes in bytes, with the suffixes of systemd and cloud-hypervisor.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::by_text;

/// An amount of memory or disk, in bytes.
///
/// Written as a number with `K`, `M`, `G` or `T`, which are powers of two as in systemd.exec(5)
/// and in cloud-hypervisor's options, or without one for bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(u64);

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSize {
    #[error("it is empty")]
    Empty,
    #[error("`{0}` is not a whole number")]
    Number(String),
    #[error("`{0}` is not one of the suffixes K, M, G, T")]
    Suffix(String),
    #[error("it is 2^64 bytes or more")]
    TooLarge,
}

const SUFFIXES: [(char, u32); 4] = [('T', 40), ('G', 30), ('M', 20), ('K', 10)];

impl Size {
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    pub const fn from_mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    pub const fn bytes(self) -> u64 {
        self.0
    }

    pub const fn is_multiple_of(self, other: Self) -> bool {
        other.0 != 0 && self.0.is_multiple_of(other.0)
    }
}

impl FromStr for Size {
    type Err = BadSize;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(BadSize::Empty);
        }
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(digits);
        if number.is_empty() {
            return Err(BadSize::Number(text.to_owned()));
        }
        let shift = match suffix {
            "" => 0,
            _ => SUFFIXES
                .iter()
                .find(|(letter, _)| suffix.strip_prefix(*letter) == Some(""))
                .map(|(_, shift)| *shift)
                .ok_or_else(|| BadSize::Suffix(suffix.to_owned()))?,
        };
        let number: u64 = number.parse().map_err(|_| BadSize::TooLarge)?;
        number
            .checked_mul(1 << shift)
            .map(Self)
            .ok_or(BadSize::TooLarge)
    }
}

by_text!(Size);

/// The shortest text that means exactly this size: `1536M`, `2G`.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = SUFFIXES
            .iter()
            .find(|(_, shift)| self.0 != 0 && self.0.trailing_zeros() >= *shift);
        match whole {
            Some((letter, shift)) => write!(f, "{}{letter}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_powers_of_two() {
        assert_eq!("2G".parse::<Size>().unwrap().bytes(), 2 << 30);
        assert_eq!("1536M".parse::<Size>().unwrap().to_string(), "1536M");
        assert_eq!("1024M".parse::<Size>().unwrap().to_string(), "1G");
        assert_eq!("0".parse::<Size>().unwrap().to_string(), "0");
    }

    #[test]
    fn what_is_not_a_size_says_why() {
        assert_eq!("".parse::<Size>(), Err(BadSize::Empty));
        assert_eq!("1.5G".parse::<Size>(), Err(BadSize::Suffix(".5G".into())));
        assert_eq!("G".parse::<Size>(), Err(BadSize::Number("G".into())));
        assert_eq!("2GiB".parse::<Size>(), Err(BadSize::Suffix("GiB".into())));
        assert_eq!("16777216T".parse::<Size>(), Err(BadSize::TooLarge));
    }
}
