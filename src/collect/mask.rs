//! Takes out of texts what is a secret, or looks like one.
//!
//! It errs on the side of taking too much: a support request can ask for more, and nobody can take a password
//! back.

#![deny(clippy::disallowed_methods)]

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// What stands in a secret's place.
pub(super) const MASKED: &str = "[masked]";

/// Patterns, and which of their groups is the secret.
static PATTERNS: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    [
        // Keys in PEM and OpenSSH's armour, whole; also where line ends are written as `\n`.
        (
            r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?P<secret>.*?)-----END [A-Z0-9 ]*PRIVATE KEY-----",
            "secret",
        ),
        // Public ones say whom a guest trusts.
        (
            r"\b(?:ssh-(?:rsa|dss|ed25519)|ecdsa-sha2-nistp\d+|sk-(?:ssh|ecdsa)-[a-z0-9@.-]+) (?P<secret>[A-Za-z0-9+/=]{16,})",
            "secret",
        ),
        // crypt(5).
        (r"(?P<secret>\$(?:1|2[abxy]?|5|6|7|y|gy)\$[./A-Za-z0-9$=,]{8,})", "secret"),
        // Users and passwords in URLs.
        (r"[a-z][a-z0-9+.-]*://(?P<secret>[^/\s@:]+:[^/\s@]+)@", "secret"),
        // The value of whatever is called by a secret's name, quoted or not: `password=x`, `"token": "x"`.
        (
            r#"(?i)[a-z0-9_.-]*(?:passw(?:or)?d|passphrase|passwd|secret|token|api[-_]?key|private[-_]?key|access[-_]?key|luks[a-z.]*\.key|credential)[a-z0-9_-]*["']?\s*[=:]\s*(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"',;}\]]+))"#,
            "double single bare",
        ),
        (r"(?i)\bauthorization:\s*\S+\s+(?P<secret>\S+)", "secret"),
        // What cloud-init prints when it makes one up: `root:x` below `chpasswd`.
        (r"(?i)\b(?:bearer|basic) (?P<secret>[A-Za-z0-9+/=._~-]{12,})", "secret"),
    ]
    .into_iter()
    .filter_map(|(pattern, groups)| Some((Regex::new(pattern).ok()?, groups)))
    .collect()
});

/// The text without its secrets.
pub fn mask(text: &str) -> String {
    let mut text = text.to_owned();
    for (pattern, groups) in PATTERNS.iter() {
        text = pattern
            .replace_all(&text, |found: &Captures<'_>| without(found, groups))
            .into_owned();
    }
    text
}

/// What was found, with its secret masked.
fn without(found: &Captures<'_>, groups: &str) -> String {
    let whole = &found[0];
    let start = found.get(0).map_or(0, |whole| whole.start());
    let secret = groups.split(' ').find_map(|group| found.name(group));
    match secret {
        Some(secret) if !is_name(secret.as_str()) => {
            let (from, to) = (secret.start() - start, secret.end() - start);
            format!("{}{MASKED}{}", &whole[..from], &whole[to..])
        }
        _ => whole.to_owned(),
    }
}

/// What is no secret but says something about one.
fn is_name(value: &str) -> bool {
    matches!(
        value,
        "" | "true" | "false" | "null" | "none" | "yes" | "no"
    ) || value.starts_with("[masked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_one() {
        assert_eq!(PATTERNS.len(), 7);
    }

    #[test]
    fn secrets_go() {
        for text in [
            "console=ttyS0 password=Sesame root=/dev/vda",
            "\"cmdline\": \"console=ttyS0 rd.luks.key=Sesame\"",
            "--cmdline \"db_password=Sesame quiet\"",
            "passwd: 'Sesame'",
            "  hashed_passwd: \"Sesame and more\"",
            "{\"api-key\":\"Sesame\",\"x\":1}",
            "AWS_SECRET_ACCESS_KEY=Sesame",
            "MY_TOKEN: Sesame",
            "https://user:Sesame@example.org/image.qcow2",
            "Authorization: Bearer Sesame",
            "ssh-ed25519 SesameAAAAC3NzaC1lZDI1NTE5AAAAI user@host",
            "root:$6$Sesame$abcdefghijklmnopqrstuv/x.:19000:0",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nSesame\nSesame\n-----END OPENSSH PRIVATE KEY-----",
            "\"-----BEGIN RSA PRIVATE KEY-----\\nSesame\\n-----END RSA PRIVATE KEY-----\"",
        ] {
            let masked = mask(text);
            assert!(!masked.contains("Sesame"), "{text}\n{masked}");
            assert!(masked.contains(MASKED), "{masked}");
        }
    }

    #[test]
    fn all_else_stays() {
        for text in [
            "console=ttyS0 root=/dev/vda ro",
            "ExecStart=/usr/bin/cloud-hypervisor --api-socket path=/run/nkudo/vms/web/api.sock",
            "\"ssh-pwauth\": false, \"passwd\": null",
            "NKUDO_DIGEST=5d3c0f0e8a3b5a539d0c51f6c6e42b77",
            "https://example.org/image.qcow2",
            "nkudo-vm@web.service: Main process exited, code=exited, status=1/FAILURE",
        ] {
            assert_eq!(mask(text), text);
        }
    }

    #[test]
    fn masking_again_changes_nothing() {
        let once = mask("password=Sesame token: \"Sesame\"");
        assert_eq!(mask(&once), once);
    }
}
