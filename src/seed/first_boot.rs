//! What a guest's first boot does: the keys of `[vm.<id>.cloud-init]`, with their secrets.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::UserData;
use super::yaml::Yaml;
use crate::host::{AbsolutePath, HostName, fingerprint};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstBoot {
    pub hostname: HostName,
    /// The keys of the image's own default user.
    pub ssh_authorized_keys: Vec<SshKey>,
    pub users: Vec<User>,
    pub timezone: Option<String>,
    pub locale: Option<String>,
    pub packages: Vec<String>,
    pub write_files: Vec<WriteFile>,
    pub runcmd: Vec<RunCommand>,
    /// A whole user-data beside these.
    pub user_data: Option<UserData>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub gecos: Option<String>,
    pub groups: Vec<String>,
    pub shell: Option<AbsolutePath>,
    pub sudo: Sudo,
    pub ssh_authorized_keys: Vec<SshKey>,
    /// As crypt(5) has it. Without it the password is locked.
    pub hashed_passwd: Option<String>,
}

/// What a user may do by sudo(8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sudo {
    Nothing,
    /// Rules of sudoers(5), without the user's name.
    Rules(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteFile {
    pub path: AbsolutePath,
    pub content: String,
    /// Octal digits.
    pub permissions: Option<String>,
    /// `user:group`.
    pub owner: Option<String>,
    pub append: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunCommand {
    /// A line for sh(1).
    Shell(String),
    /// A program and its arguments, as they are.
    Program(Vec<String>),
}

/// A line of authorized_keys (sshd(8)): a public key, with its options before and its comment behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshKey(String);

/// Why a text is not such a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSshKey {
    #[error("it is a private key, which nobody but its owner should have")]
    Private,
    #[error("it has several lines")]
    Lines,
    #[error("it has no key in it: a type such as `ssh-ed25519`, and then the key itself in base64")]
    NoKey,
}

impl FromStr for SshKey {
    type Err = BadSshKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let line = text.trim();
        if line.contains("PRIVATE KEY") {
            return Err(BadSshKey::Private);
        }
        if line.contains(char::is_control) {
            return Err(BadSshKey::Lines);
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_key = |pair: &[&str]| {
            let kind = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"];
            // Every key's blob begins with the length of its type's name, whose first byte is zero.
            kind.iter().any(|kind| pair[0].starts_with(kind)) && pair[1].starts_with("AAAA")
        };
        if !words.windows(2).any(is_key) {
            return Err(BadSshKey::NoKey);
        }
        Ok(Self(line.to_owned()))
    }
}

impl fmt::Display for SshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FirstBoot {
    /// What can be said of each key that is set: its value, or where that can hold a secret, a
    /// fingerprint of it.
    pub fn said(&self) -> BTreeMap<String, String> {
        let mut said = BTreeMap::from([("hostname".to_owned(), self.hostname.as_str().to_owned())]);
        if !self.ssh_authorized_keys.is_empty() {
            let keys = Yaml::texts(&self.ssh_authorized_keys).document();
            said.insert("ssh-authorized-keys".to_owned(), fingerprint(&keys));
        }
        if let Some(whole) = &self.user_data {
            said.insert("user-data".to_owned(), fingerprint(whole.text()));
        }
        for (key, value) in self.entries() {
            let plain = match (key, &value) {
                ("timezone" | "locale", Yaml::Text(text)) => text.clone(),
                ("packages", _) => self.packages.join(", "),
                _ => fingerprint(&value.document()),
            };
            said.insert(key.replace('_', "-"), plain);
        }
        said
    }

    /// Whether there is anything that a cloud-config has to say.
    pub fn has_config(&self) -> bool {
        !self.entries().is_empty()
    }

    /// The keys that a cloud-config has for these; an empty mapping where there are none.
    pub(super) fn cloud_config(&self) -> Yaml {
        owned(self.entries())
    }

    fn entries(&self) -> Vec<(&'static str, Yaml)> {
        let mut entries: Vec<(&'static str, Yaml)> = Vec::new();
        if let Some(timezone) = &self.timezone {
            entries.push(("timezone", Yaml::text(timezone)));
        }
        if let Some(locale) = &self.locale {
            entries.push(("locale", Yaml::text(locale)));
        }
        if !self.users.is_empty() {
            // A list of users replaces the image's own one. That is the one whom
            // `ssh-authorized-keys` is for.
            let default = (!self.ssh_authorized_keys.is_empty()).then(|| Yaml::text("default"));
            let users = default.into_iter().chain(self.users.iter().map(User::yaml));
            entries.push(("users", Yaml::List(users.collect())));
        }
        if !self.packages.is_empty() {
            entries.push(("packages", Yaml::texts(&self.packages)));
        }
        if !self.write_files.is_empty() {
            let files = self.write_files.iter().map(WriteFile::yaml);
            entries.push(("write_files", Yaml::List(files.collect())));
        }
        if !self.runcmd.is_empty() {
            let commands = self.runcmd.iter().map(|command| match command {
                RunCommand::Shell(line) => Yaml::text(line),
                RunCommand::Program(argv) => Yaml::texts(argv),
            });
            entries.push(("runcmd", Yaml::List(commands.collect())));
        }
        entries
    }
}

impl User {
    fn yaml(&self) -> Yaml {
        let mut entries = vec![("name", Yaml::text(&self.name))];
        if let Some(gecos) = &self.gecos {
            entries.push(("gecos", Yaml::text(gecos)));
        }
        if !self.groups.is_empty() {
            entries.push(("groups", Yaml::texts(&self.groups)));
        }
        if let Some(shell) = &self.shell {
            entries.push(("shell", Yaml::text(shell.as_str())));
        }
        if let Sudo::Rules(rules) = &self.sudo {
            entries.push(("sudo", Yaml::texts(rules)));
        }
        if !self.ssh_authorized_keys.is_empty() {
            let keys = Yaml::texts(&self.ssh_authorized_keys);
            entries.push(("ssh_authorized_keys", keys));
        }
        if let Some(hash) = &self.hashed_passwd {
            entries.push(("hashed_passwd", Yaml::text(hash)));
            // Else it is there and locked.
            entries.push(("lock_passwd", Yaml::Flag(false)));
        }
        owned(entries)
    }
}

impl WriteFile {
    fn yaml(&self) -> Yaml {
        let mut entries = vec![
            ("path", Yaml::text(self.path.as_str())),
            ("content", Yaml::text(&self.content)),
        ];
        if let Some(permissions) = &self.permissions {
            entries.push(("permissions", Yaml::text(permissions)));
        }
        if let Some(owner) = &self.owner {
            entries.push(("owner", Yaml::text(owner)));
        }
        if self.append {
            entries.push(("append", Yaml::Flag(true)));
        }
        owned(entries)
    }
}

fn owned(entries: Vec<(&str, Yaml)>) -> Yaml {
    let owned = |(key, value): (&str, Yaml)| (key.to_owned(), value);
    Yaml::Map(entries.into_iter().map(owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_keys_of_one_line_are_taken() {
        for good in [
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG1 a@b",
            "no-pty,command=\"x y\" ecdsa-sha2-nistp256 AAAAE2VjZHNh",
            "sk-ssh-ed25519@openssh.com AAAAGnNr\n",
        ] {
            assert!(good.parse::<SshKey>().is_ok(), "{good}");
        }
        for (bad, why) in [
            ("-----BEGIN OPENSSH PRIVATE KEY-----", BadSshKey::Private),
            ("ssh-rsa AAAA\nssh-rsa AAAA", BadSshKey::Lines),
            ("ssh-ed25519", BadSshKey::NoKey),
            ("/root/.ssh/id.pub", BadSshKey::NoKey),
        ] {
            assert_eq!(bad.parse::<SshKey>(), Err(why), "{bad}");
        }
    }
}
