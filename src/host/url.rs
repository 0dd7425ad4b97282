//! Where files are fetched from.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::by_text;

/// An `https://` or `http://` URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Url(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

/// Why a text is not such a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    #[error("it begins with neither `https://` nor `http://`")]
    Scheme,
    #[error("it names no host")]
    Host,
    #[error("it holds {0:?}, which has to be percent-encoded in a URL")]
    Character(char),
    #[error("it holds a password, which every generation and log would show")]
    Credentials,
    #[error("it is longer than 2000 bytes")]
    TooLong,
}

impl Url {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn scheme(&self) -> Scheme {
        if self.0.starts_with("https:") {
            Scheme::Https
        } else {
            Scheme::Http
        }
    }

    /// The host's name or address, without brackets and port.
    pub fn host(&self) -> &str {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
        match authority.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or(rest),
            None => authority.split(':').next().unwrap_or(authority),
        }
    }

    /// Where a redirect from here leads (`Location`, RFC 9110, 10.2.2).
    pub fn join(&self, location: &str) -> Result<Self, BadUrl> {
        let is_whole = location
            .split_once("://")
            .is_some_and(|(scheme, _)| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        if is_whole {
            return location.parse();
        }
        let (scheme, rest) = self.0.split_once("://").ok_or(BadUrl::Scheme)?;
        if let Some(rest) = location.strip_prefix("//") {
            return format!("{scheme}://{rest}").parse();
        }
        let end = rest.find(['?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest[..end].split_at(rest.find('/').unwrap_or(end).min(end));
        let above = match location.strip_prefix('/') {
            Some(_) => "",
            None => path.rsplit_once('/').map_or("", |(above, _)| above),
        };
        let location = location.strip_prefix('/').unwrap_or(location);
        format!("{scheme}://{authority}{above}/{location}").parse()
    }

    /// The part that names a file, without query and fragment.
    pub fn file_name(&self) -> &str {
        let end = self.0.find(['?', '#']).unwrap_or(self.0.len());
        let path = &self.0[..end];
        path.rsplit('/').next().unwrap_or(path)
    }
}

impl FromStr for Url {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"))
            .ok_or(BadUrl::Scheme)?;
        if text.len() > 2000 {
            return Err(BadUrl::TooLong);
        }
        let unsafe_in_urls = |c: &char| !c.is_ascii_graphic() || "\"<>\\^`{|}".contains(*c);
        if let Some(bad) = text.chars().find(unsafe_in_urls) {
            return Err(BadUrl::Character(bad));
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
        if authority.contains('@') {
            return Err(BadUrl::Credentials);
        }
        if authority.is_empty() || authority.starts_with(':') {
            return Err(BadUrl::Host);
        }
        Ok(Self(text.to_owned()))
    }
}

by_text!(Url);

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_could_not_be_fetched_or_would_tell_secrets_are_refused() {
        for good in ["https://a.example/b.qcow2", "http://[::1]:8080/b?c=d#e"] {
            assert!(good.parse::<Url>().is_ok(), "{good}");
        }
        for (text, why) in [
            ("ftp://a.example/b", BadUrl::Scheme),
            ("https:///b", BadUrl::Host),
            ("https://a.example/b c", BadUrl::Character(' ')),
            ("https://me:secret@a.example/b", BadUrl::Credentials),
        ] {
            assert_eq!(text.parse::<Url>(), Err(why), "{text}");
        }
        let url: Url = "https://a.example/d/i.raw.xz?token=/x".parse().unwrap();
        assert_eq!(url.file_name(), "i.raw.xz");
    }

    #[test]
    fn a_redirect_leads_where_the_server_means() {
        let from: Url = "https://a.example:1/b/c?d=/e".parse().unwrap();
        for (location, to) in [
            ("https://x.example/y", "https://x.example/y"),
            ("//x.example/y", "https://x.example/y"),
            ("/y?z=1", "https://a.example:1/y?z=1"),
            ("/y?z=https://b", "https://a.example:1/y?z=https://b"),
            ("y", "https://a.example:1/b/y"),
        ] {
            assert_eq!(from.join(location).unwrap().as_str(), to);
        }
        let bare: Url = "http://a.example".parse().unwrap();
        assert_eq!(bare.join("y").unwrap().as_str(), "http://a.example/y");
        assert_eq!(from.join("ftp://a.example/b"), Err(BadUrl::Scheme));
        assert_eq!(from.join("//me:secret@b/"), Err(BadUrl::Credentials));
        assert_eq!(from.host(), "a.example");
        let six: Url = "http://[::1]:8080/b".parse().unwrap();
        assert_eq!((six.host(), six.scheme()), ("::1", Scheme::Http));
    }
}
