//! Time spans, in the notation of systemd.time(7).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::by_text;

/// A span of time of whole milliseconds, from 1 ms to 365 days: `90s`, `2min`, `1h 30min`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeSpan(Duration);

/// Why a text is not a time span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTimeSpan {
    #[error("it has no unit, or none that is known; write for example `90s`, `2min` or `1h 30min`")]
    Notation,
    #[error("it is shorter than 1 ms")]
    TooShort,
    #[error("it is longer than 365 days")]
    TooLong,
}

const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

impl TimeSpan {
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub const fn duration(self) -> Duration {
        self.0
    }

    /// What D-Bus properties whose names end in `USec` want.
    pub fn as_micros(self) -> u64 {
        u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX)
    }
}

impl FromStr for TimeSpan {
    type Err = BadTimeSpan;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // jiff would also take ISO 8601 (`PT90S`) and `1h ago`, which systemd does not.
        let written_as_systemd = text.starts_with(|c: char| c.is_ascii_digit())
            && !text.contains([',', ':'])
            && !text.ends_with("ago");
        if !written_as_systemd {
            return Err(BadTimeSpan::Notation);
        }
        // A SignedDuration would take no days, which is how a day is printed; months have no length.
        let span: jiff::Span = text.parse().map_err(|_| BadTimeSpan::Notation)?;
        let span = span
            .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
            .map_err(|_| BadTimeSpan::Notation)?;
        let span = Duration::try_from(span).map_err(|_| BadTimeSpan::TooShort)?;
        if span < Duration::from_millis(1) {
            Err(BadTimeSpan::TooShort)
        } else if span > LONGEST {
            Err(BadTimeSpan::TooLong)
        } else {
            Ok(Self(Duration::from_millis(
                u64::try_from(span.as_millis()).unwrap_or(u64::MAX),
            )))
        }
    }
}

by_text!(TimeSpan);

/// As systemd prints it: `1min 30s`.
impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u128); 5] = [
            ("d", 86_400_000),
            ("h", 3_600_000),
            ("min", 60_000),
            ("s", 1000),
            ("ms", 1),
        ];
        let mut rest = self.0.as_millis();
        let mut separator = "";
        for (unit, millis) in UNITS {
            if rest >= millis {
                write!(f, "{separator}{}{unit}", rest / millis)?;
                rest %= millis;
                separator = " ";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_notation_is_read_and_printed() {
        for (text, printed) in [
            ("90s", "1min 30s"),
            ("2min", "2min"),
            ("1h 30min", "1h 30min"),
            ("1500ms", "1s 500ms"),
            ("24h", "1d"),
            ("25h", "1d 1h"),
            ("2w", "14d"),
            ("365d", "365d"),
        ] {
            let span: TimeSpan = text.parse().unwrap();
            assert_eq!(span.to_string(), printed);
            assert_eq!(printed.parse::<TimeSpan>().unwrap(), span);
        }
    }

    #[test]
    fn other_notations_are_refused() {
        for text in [
            "90",
            "",
            "PT90S",
            "-5s",
            "5 parsecs",
            "1h ago",
            "infinity",
            "1mo",
        ] {
            assert_eq!(
                text.parse::<TimeSpan>(),
                Err(BadTimeSpan::Notation),
                "{text}"
            );
        }
        assert_eq!("0s".parse::<TimeSpan>(), Err(BadTimeSpan::TooShort));
        assert_eq!("9000h".parse::<TimeSpan>(), Err(BadTimeSpan::TooLong));
    }
}
