//! `[vm.<id>.cloud-init]`.

use schemars::JsonSchema;

use super::value::Path;

/// What cloud-init in the guest does at its first boot.
///
/// The VM gets a small read-only disk more, labelled CIDATA, which cloud-init's data source NoCloud looks
/// for. The table may be empty: the guest is then told its name and its network. docs/guests.md says when
/// what takes effect.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CloudInitTable {
    /// What cloud-init knows this guest by: 1 to 64 letters, digits, `-`, `_` and `.`.
    ///
    /// First boot runs again when it is another one, and only then: it is the one key here whose change
    /// restarts the VM.
    ///
    /// Default: a UUID that the VM's id always leads to
    /// Example: `instance-id = "web-2"`
    /// Becomes: `instance-id` in meta-data
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]+$"), length(max = 64))]
    pub instance_id: Option<String>,

    /// The guest's host name, with or without its domain.
    ///
    /// Default: the VM's id
    /// Example: `hostname = "web.example.org"`
    /// Becomes: `local-hostname` in meta-data
    #[schemars(
        regex(
            pattern = r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$"
        ),
        length(max = 253)
    )]
    pub hostname: Option<String>,

    /// Public keys of who may log in as the image's own user (`debian`, `ubuntu`, `fedora` …).
    ///
    /// Default: `[]`
    /// Example: `ssh-authorized-keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample me@example.org"]`
    /// Becomes: `public-keys` in meta-data
    pub ssh_authorized_keys: Option<Vec<SshKey>>,

    /// Users that are made, one `[[vm.<id>.cloud-init.users]]` each.
    ///
    /// The image's own user is not made then, unless there are `ssh-authorized-keys` for it.
    ///
    /// Default: `[]`
    /// Becomes: `users` of the cloud-config
    pub users: Option<Vec<UserTable>>,

    /// The guest's time zone.
    ///
    /// Default: none: as the image has it
    /// Example: `timezone = "Europe/Berlin"`
    /// Becomes: `timezone` of the cloud-config
    #[schemars(length(min = 1))]
    pub timezone: Option<String>,

    /// The guest's locale.
    ///
    /// Default: none: as the image has it
    /// Example: `locale = "en_GB.UTF-8"`
    /// Becomes: `locale` of the cloud-config
    #[schemars(length(min = 1))]
    pub locale: Option<String>,

    /// Packages that the guest's own package manager installs.
    ///
    /// Default: `[]`
    /// Example: `packages = ["nginx"]`
    /// Becomes: `packages` of the cloud-config
    #[schemars(inner(length(min = 1)))]
    pub packages: Option<Vec<String>>,

    /// Files that are written, one `[[vm.<id>.cloud-init.write-files]]` each.
    ///
    /// They are written before users are made and packages installed.
    ///
    /// Default: `[]`
    /// Becomes: `write_files` of the cloud-config
    pub write_files: Option<Vec<WriteFileTable>>,

    /// Commands that run at the end of first boot: a line for sh each, or an array of a program and its
    /// arguments.
    ///
    /// Default: `[]`
    /// Example: `runcmd = [["systemctl", "enable", "--now", "nginx"], "echo done > /var/tmp/done"]`
    /// Becomes: `runcmd` of the cloud-config
    pub runcmd: Option<Vec<Command>>,

    /// A whole user-data: a cloud-config, which begins with `#cloud-config`, a script, or whatever else
    /// cloud-init takes.
    ///
    /// A cloud-config is checked. The keys above are joined to it: what lists both have come one after the
    /// other, those of the user-data first. At most 1 MiB.
    ///
    /// Default: none
    /// Example: `user-data = "#!/bin/sh\necho hello > /dev/ttyS0"`
    /// Becomes: user-data
    #[schemars(length(min = 1))]
    pub user_data: Option<String>,

    /// The file that the user-data is in. It is read when the generation is rendered, and a switch refuses
    /// when it has changed since.
    ///
    /// Default: none
    /// Example: `user-data-file = "/etc/nkudo/web.yaml"`
    /// Becomes: user-data
    pub user_data_file: Option<Path>,
}

/// A public key as it stands in a `.pub` file, or a line of authorized_keys.
#[derive(Debug, JsonSchema)]
#[schemars(title = "SSH public key")]
pub struct SshKey(
    #[schemars(regex(pattern = r"(ssh-|ecdsa-sha2-|sk-ssh-|sk-ecdsa-)\S+\s+AAAA"))] pub String,
);

#[derive(Debug, JsonSchema)]
#[schemars(untagged, inline)]
pub enum Command {
    Shell(#[schemars(length(min = 1))] String),
    Program(#[schemars(length(min = 1))] Vec<String>),
}

/// A user of the guest's.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct UserTable {
    /// Its name: 1 to 32 of `a-z`, `0-9`, `_` and `-`, beginning with a letter or `_`.
    ///
    /// Example: `name = "admin"`
    /// Becomes: `name`
    #[schemars(regex(pattern = r"^[a-z_][a-z0-9_-]*$"), length(max = 32))]
    pub name: String,

    /// Who it is.
    ///
    /// Default: none
    /// Example: `gecos = "The administrator"`
    /// Becomes: `gecos`
    #[schemars(length(min = 1))]
    pub gecos: Option<String>,

    /// Groups that it is in beside its own; they are made where they are missing.
    ///
    /// Default: `[]`
    /// Example: `groups = ["adm"]`
    /// Becomes: `groups`
    #[schemars(inner(regex(pattern = r"^[a-z_][a-z0-9_-]*$"), length(max = 32)))]
    pub groups: Option<Vec<String>>,

    /// Its shell.
    ///
    /// Default: none: useradd's
    /// Example: `shell = "/bin/bash"`
    /// Becomes: `shell`
    pub shell: Option<Path>,

    /// What it may do by sudo: a rule of sudoers without the user's name, or several.
    ///
    /// Default: none
    /// Example: `sudo = "ALL=(ALL) NOPASSWD:ALL"`
    /// Becomes: `sudo`
    pub sudo: Option<Sudo>,

    /// Public keys of who may log in as this user.
    ///
    /// Default: `[]`
    /// Example: `ssh-authorized-keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample me@example.org"]`
    /// Becomes: `ssh_authorized_keys`
    pub ssh_authorized_keys: Option<Vec<SshKey>>,

    /// The hash of its password, as `mkpasswd` makes one. Without it no password lets anybody in.
    ///
    /// Default: none
    /// Example: `hashed-passwd = "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7"`
    /// Becomes: `hashed_passwd`, and `lock_passwd: false`
    #[schemars(regex(pattern = r"^\$\S+$"))]
    pub hashed_passwd: Option<String>,
}

#[derive(Debug, JsonSchema)]
#[schemars(untagged, inline)]
pub enum Sudo {
    Rule(#[schemars(length(min = 1))] String),
    Rules(#[schemars(inner(length(min = 1)))] Vec<String>),
}

/// A file of the guest's.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WriteFileTable {
    /// Where it is in the guest.
    ///
    /// Example: `path = "/etc/motd"`
    /// Becomes: `path`
    pub path: Path,

    /// What is in it.
    ///
    /// Default: `""`
    /// Example: `content = "Welcome.\n"`
    /// Becomes: `content`
    pub content: Option<String>,

    /// Its mode, in octal digits.
    ///
    /// Default: none: cloud-init's, which is `0644`
    /// Example: `permissions = "0600"`
    /// Becomes: `permissions`
    #[schemars(regex(pattern = r"^[0-7]{3,4}$"))]
    pub permissions: Option<String>,

    /// Who owns it, and which group: users of the image, since others are made later.
    ///
    /// Default: none: cloud-init's, which is `root:root`
    /// Example: `owner = "root:adm"`
    /// Becomes: `owner`
    #[schemars(length(min = 1))]
    pub owner: Option<String>,

    /// Whether it is written behind what is in the file already.
    ///
    /// Default: `false`
    /// Example: `append = true`
    /// Becomes: `append`
    pub append: Option<bool>,
}
