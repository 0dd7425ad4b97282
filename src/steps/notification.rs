//! What a guest's systemd says over vsock, in the words of sd_notify(3). It is the guest's to write, and
//! any program in it may.

#![deny(clippy::disallowed_methods)]

/// What is kept of a message; systemd's own have a few hundred bytes.
pub(super) const LONGEST: usize = 4096;
/// The characters of a status that are shown.
const WIDTH: usize = 200;

/// One message: what nkudo cares for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Notification {
    pub(super) ready: bool,
    /// `STATUS=`, made harmless.
    pub(super) status: Option<String>,
}

impl Notification {
    /// All else in it (`MAINPID=`, `STOPPING=`, `X_SYSTEMD_…`) says something of the guest's processes, and
    /// means nothing here.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut notification = Self::default();
        for line in String::from_utf8_lossy(bytes).lines() {
            match line.split_once('=') {
                Some(("READY", "1")) => notification.ready = true,
                Some(("STATUS", status)) => {
                    let harmless = |c: char| if c.is_control() { '\u{fffd}' } else { c };
                    notification.status = Some(status.chars().take(WIDTH).map(harmless).collect());
                }
                _ => {}
            }
        }
        notification
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_line_that_says_ready_is_one() {
        for (text, ready) in [
            (&b"READY=1"[..], true),
            (b"STATUS=up\nREADY=1\n", true),
            (b"READY=0\n", false),
            (b"READY=11\n", false),
            (b"X_READY=1\nNOT READY=1\nMAINPID=1\nSTOPPING=1\n", false),
            (b"\xff\xfeREADY=1", false),
            (b"", false),
        ] {
            assert_eq!(Notification::read(text).ready, ready, "{text:?}");
        }
    }

    #[test]
    fn a_status_is_harmless_and_short() {
        let text = format!("STATUS=\x1b[2J{}\r", "a".repeat(10_000));
        let status = Notification::read(text.as_bytes()).status.unwrap();
        assert!(status.starts_with("\u{fffd}[2Jaaa"), "{status}");
        assert_eq!(status.chars().count(), WIDTH);
    }
}
