//! Puts a unit together, one setting after the other.

use crate::host::VmId;

use super::Unit;
use super::setting::{Section, Setting};

pub(super) fn text(value: impl Into<String>) -> Setting {
    Setting::Text(value.into())
}

pub(super) fn words<W: Into<String>>(values: impl IntoIterator<Item = W>) -> Setting {
    Setting::Words(values.into_iter().map(Into::into).collect())
}

#[derive(Default)]
pub(super) struct Builder {
    settings: Vec<(Section, &'static str, Setting)>,
}

impl Builder {
    pub(super) fn unit(&mut self, key: &'static str, setting: Setting) {
        self.settings.push((Section::Unit, key, setting));
    }

    pub(super) fn service(&mut self, key: &'static str, setting: Setting) {
        self.settings.push((Section::Service, key, setting));
    }

    /// Says in what the journal has of a unit which VM it is of.
    pub(super) fn journal_vm(&mut self, id: &VmId) {
        self.journal_field("NKUDO_VM", id.to_string());
    }

    pub(super) fn journal_field(&mut self, name: &'static str, value: String) {
        self.service("LogExtraFields", Setting::JournalField { name, value });
    }

    pub(super) fn build(self, name: String) -> Unit {
        Unit {
            name,
            settings: self.settings,
        }
    }
}
