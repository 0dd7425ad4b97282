//! Things that only one of the host may have.

use std::collections::BTreeMap;

use super::diagnostic::{Diagnostic, Place};
use super::sink::Sink;

/// Who has what already: the place, and a few words about it.
#[derive(Debug)]
pub(super) struct Unique<K>(BTreeMap<K, (Place, String)>);

impl<K> Default for Unique<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Unique<K> {
    /// Notes that `who` has `what` at `place`; a diagnostic if another has it already.
    pub(super) fn claim(
        &mut self,
        sink: &Sink,
        what: K,
        place: &Place,
        who: &str,
        message: impl FnOnce() -> String,
    ) {
        if let Some((first, other)) = self.0.get(&what) {
            let diagnostic = Diagnostic::new(place.clone(), message())
                .label(format!("used again by {who}"))
                .also(first.clone(), format!("used first by {other}"));
            sink.report(diagnostic);
        } else {
            self.0.insert(what, (place.clone(), who.to_owned()));
        }
    }
}
