//! Absolute paths.

use std::fmt;
use std::str::FromStr;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::by_text;

/// An absolute path of UTF-8 without `.`, `..`, doubled or trailing slashes, as systemd wants
/// paths (it refuses others with "path is not normalized"), and without white space, `:`, quotes and
/// backslashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AbsolutePath(Utf8PathBuf);

/// Why a text is not such a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    #[error("it is empty")]
    Empty,
    #[error("it is not absolute (it does not begin with `/`)")]
    Relative,
    #[error("it holds a `.` or `..` component")]
    Dots,
    #[error("it has a doubled or trailing `/`")]
    Slashes,
    #[error("it holds a control character ({0:?})")]
    Control(char),
    #[error("it holds {0:?}; paths with it cannot be handed to systemd safely")]
    Unsafe(char),
    #[error("it is longer than 4095 bytes")]
    TooLong,
    #[error("it is `/` itself")]
    Root,
}

impl AbsolutePath {
    pub fn as_path(&self) -> &Utf8Path {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Where nkudo keeps what has to outlive a boot, unless a file says otherwise.
    pub fn default_state_dir() -> Self {
        Self(Utf8PathBuf::from("/var/lib/nkudo"))
    }

    /// A path below this one. Every part has to be a name that is legal in a path: nkudo's own names are.
    #[must_use]
    pub fn join(&self, parts: &[&str]) -> Self {
        let mut path = self.0.clone();
        path.extend(parts);
        Self(path)
    }

    pub fn starts_with(&self, base: &str) -> bool {
        self.0.starts_with(base)
    }
}

impl FromStr for AbsolutePath {
    type Err = BadPath;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(BadPath::Empty);
        }
        let Some(inner) = text.strip_prefix('/') else {
            return Err(BadPath::Relative);
        };
        if inner.is_empty() {
            return Err(BadPath::Root);
        }
        if text.len() > 4095 {
            return Err(BadPath::TooLong);
        }
        if let Some(bad) = text.chars().find(|c| c.is_control()) {
            return Err(BadPath::Control(bad));
        }
        // systemd 257 writes BindPaths= of a transient unit without quotes or escapes, and reads it
        // back at the next daemon-reload: a path with one of these then names something else.
        if let Some(bad) = text
            .chars()
            .find(|c| c.is_whitespace() || ":\"'\\".contains(*c))
        {
            return Err(BadPath::Unsafe(bad));
        }
        for component in inner.split('/') {
            match component {
                "" => return Err(BadPath::Slashes),
                "." | ".." => return Err(BadPath::Dots),
                _ => {}
            }
        }
        Ok(Self(Utf8PathBuf::from(text)))
    }
}

by_text!(AbsolutePath);

impl fmt::Display for AbsolutePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_mean_the_same_after_a_daemon_reload_are_taken() {
        for good in ["/srv/web.raw", "/srv/a,b%s[c]=$d.raw", "/srv/päth"] {
            assert!(good.parse::<AbsolutePath>().is_ok(), "{good}");
        }
        for (text, why) in [
            ("", BadPath::Empty),
            ("web.raw", BadPath::Relative),
            ("/", BadPath::Root),
            ("/srv/../etc", BadPath::Dots),
            ("/srv//web", BadPath::Slashes),
            ("/srv/", BadPath::Slashes),
            ("/srv/a b", BadPath::Unsafe(' ')),
            ("/srv/a:b", BadPath::Unsafe(':')),
            ("/srv/a\nb", BadPath::Control('\n')),
        ] {
            assert_eq!(text.parse::<AbsolutePath>(), Err(why), "{text}");
        }
    }
}
