//! A balloon in a guest.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Size;

/// What takes memory out of a guest that runs, for the host to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Balloon {
    /// What the guest is asked to do without; below the memory's size.
    pub size: Size,
    pub free_pages: FreePages,
    pub on_oom: OnOom,
}

/// What becomes of pages that the guest has freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FreePages {
    Kept,
    /// The guest reports them, and the host has them again.
    Reported,
}

/// What becomes of a balloon when the guest runs out of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnOom {
    Keep,
    Deflate,
}

impl Balloon {
    /// What `balloon = true` is: one that only gives back what the guest does not use.
    pub const EMPTY: Self = Self {
        size: Size::from_bytes(0),
        free_pages: FreePages::Reported,
        on_oom: OnOom::Deflate,
    };
}

/// As manifests and booted specifications have it: a word where there was nothing more to say.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Word(Word),
    Balloon(Balloon),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Off,
    /// Written by an nkudo that knew no sizes.
    On,
}

#[expect(clippy::ref_option, reason = "serde calls it with a reference")]
pub(super) fn serialize<S: Serializer>(
    balloon: &Option<Balloon>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let written = match balloon {
        Some(balloon) => Written::Balloon(*balloon),
        None => Written::Word(Word::Off),
    };
    written.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Balloon>, D::Error> {
    Ok(match Written::deserialize(deserializer)? {
        Written::Word(Word::Off) => None,
        Written::Word(Word::On) => Some(Balloon::EMPTY),
        Written::Balloon(balloon) => Some(balloon),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_before_there_were_sizes_is_read() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct One(#[serde(with = "super")] Option<Balloon>);
        let read = |json: &str| serde_json::from_str::<One>(json).unwrap();
        assert_eq!(read("\"off\""), One(None));
        assert_eq!(read("\"on\""), One(Some(Balloon::EMPTY)));
        for one in [One(None), One(Some(Balloon::EMPTY))] {
            assert_eq!(read(&serde_json::to_string(&one).unwrap()), one);
        }
    }
}
