//! The last of what a guest printed.

#![deny(clippy::disallowed_methods)]

use std::collections::VecDeque;

/// Bytes that are kept: some pages of a terminal.
const LENGTH: usize = 64 << 10;

#[derive(Debug, Default)]
pub(super) struct History(VecDeque<u8>);

impl History {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        let mut history = Self(bytes.into());
        history.cut();
        history
    }

    pub(super) fn add(&mut self, printed: &[u8]) {
        self.0.extend(printed);
        self.cut();
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.iter().copied().collect()
    }

    fn cut(&mut self) {
        let more = self.0.len().saturating_sub(LENGTH);
        self.0.drain(..more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_is_kept() {
        let mut history = History::of(vec![b'a'; LENGTH + 1]);
        assert_eq!(history.bytes().len(), LENGTH);
        history.add(b"end");
        assert_eq!(history.bytes().len(), LENGTH);
        assert!(history.bytes().ends_with(b"aend"));
    }
}
