//! Amounts and moments in words for people.

use std::time::Duration;

use jiff::Timestamp;

/// What stands where there is nothing.
pub(super) fn dash() -> String {
    "-".to_owned()
}

/// What stands where nothing is known.
pub(super) fn unknown() -> String {
    "?".to_owned()
}

/// Bytes in powers of two, to a tenth, as the configuration has sizes: `512M`, `1.5G`.
pub(super) fn bytes(bytes: u64) -> String {
    let units = [(40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')];
    let unit = units.into_iter().find(|(shift, _)| bytes >> shift > 0);
    let Some((shift, letter)) = unit else {
        return bytes.to_string();
    };
    let tenths = (u128::from(bytes) * 10) >> shift;
    if tenths.is_multiple_of(10) {
        format!("{}{letter}", tenths / 10)
    } else {
        format!("{}.{}{letter}", tenths / 10, tenths % 10)
    }
}

/// A length of time in two units: `3d 4h`, `2min 5s`, `0.4s`.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours) = (seconds / 86400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    if days > 0 {
        format!("{days}d {hours}h")
    } else if hours > 0 {
        format!("{hours}h {minutes}min")
    } else if minutes > 0 {
        format!("{minutes}min {rest}s")
    } else if seconds >= 10 {
        format!("{seconds}s")
    } else {
        format!("{:.1}s", span.as_secs_f32())
    }
}

pub(super) fn moment(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The moment so many microseconds after 1970.
pub(super) fn moment_of(micros: u64) -> String {
    let micros = i64::try_from(micros).ok();
    let at = micros.and_then(|micros| Timestamp::from_microsecond(micros).ok());
    at.map_or_else(dash, moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans_are_short() {
        for (number, text) in [
            (0, "0"),
            (1023, "1023"),
            (1 << 20, "1M"),
            (1_610_612_736, "1.5G"),
            (u64::MAX, "16777215.9T"),
        ] {
            assert_eq!(bytes(number), text);
        }
        for (seconds, text) in [
            (0.25, "0.2s"),
            (59.0, "59s"),
            (125.0, "2min 5s"),
            (3700.0, "1h 1min"),
            (200_000.0, "2d 7h"),
        ] {
            assert_eq!(span(Duration::from_secs_f64(seconds)), text);
        }
    }
}
