//! The text form: a unit file.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::setting::{Bind, Privilege, Section, Setting};
use super::{Unit, escape};

impl Unit {
    /// SHA-256 of the text, in hexadecimal digits.
    pub fn digest(&self) -> String {
        hex::encode(Sha256::digest(self.text()))
    }

    /// The unit as systemd.unit(5) writes it. Same unit, same bytes.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut current = None;
        for (section, key, setting) in &self.settings {
            if current != Some(*section) {
                let header = match section {
                    Section::Unit => "[Unit]",
                    Section::Service => "[Service]",
                };
                let gap = if current.is_some() { "\n" } else { "" };
                let _ = writeln!(out, "{gap}{header}");
                current = Some(*section);
            }
            let _ = writeln!(out, "{key}={}", value(setting));
        }
        out
    }
}

fn value(setting: &Setting) -> String {
    let joined = |words: &[String]| {
        words
            .iter()
            .map(|word| escape::word(word))
            .collect::<Vec<_>>()
            .join(" ")
    };
    match setting {
        Setting::Text(text) => escape::text(text),
        Setting::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        Setting::Span(span) => match span.as_millis() {
            whole if whole.is_multiple_of(1000) => format!("{}s", whole / 1000),
            millis => format!("{millis}ms"),
        },
        Setting::Number(number) => number.to_string(),
        Setting::Count(count) => count.to_string(),
        Setting::Mode(mode) => format!("{mode:04o}"),
        Setting::Words(words) => joined(words),
        Setting::Exec(exec) => {
            let prefix = match exec.privilege {
                Privilege::Sandboxed => ":",
                Privilege::Full => "+:",
            };
            format!("{prefix}{}", joined(&exec.argv))
        }
        Setting::Allow(names) => names.join(" "),
        Setting::Deny(names) => format!("~{}", names.join(" ")),
        Setting::Device { path, access } => format!("{path} {access}"),
        Setting::Binds(binds) => {
            let paths = |bind: &Bind| match bind {
                Bind {
                    source,
                    destination,
                } if source == destination => escape::word(&format!("-{source}")),
                Bind {
                    source,
                    destination,
                } => escape::word(&format!("-{source}:{destination}")),
            };
            binds.iter().map(paths).collect::<Vec<_>>().join(" ")
        }
        Setting::JournalField { name, value } => escape::word(&format!("{name}={value}")),
        Setting::NetworkServerCapabilities => {
            "CAP_NET_BIND_SERVICE CAP_NET_ADMIN CAP_NET_RAW".to_owned()
        }
        Setting::Capabilities(all) => {
            let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
            names.join(" ")
        }
        Setting::NoCapabilities => String::new(),
        Setting::IpcNamespacesOnly => "ipc".to_owned(),
        Setting::CpuQuota { usec_per_sec } => format!("{}%", usec_per_sec / 10_000),
        Setting::ExitStatus(status) => status.to_string(),
        Setting::ExitSignal(name, _) => (*name).to_owned(),
        Setting::DenyAnyAddress => "any".to_owned(),
        Setting::Addresses(all) => {
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            all.join(" ")
        }
    }
}
