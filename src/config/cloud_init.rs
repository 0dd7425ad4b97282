//! `[vm.<id>.cloud-init]`.

use super::cursor::{Table, Value};
use super::diagnostic::{Diagnostic, Place};
use super::unique::Unique;
use super::values;
use super::vm::Shared;
use crate::host::{AbsolutePath, CloudInit, HostName, InstanceId, VmId};
use crate::seed::{FirstBoot, RunCommand, SshKey, Sudo, User, UserData, WriteFile};

/// The longest text of one key, in bytes: more is no configuration.
const LONGEST: usize = 1 << 20;

pub(super) fn cloud_init(
    value: &Value<'_>,
    id: &VmId,
    shared: &mut Shared<'_>,
) -> Option<CloudInit> {
    let mut table = value.table()?;
    let instance_id = table.read("instance-id", InstanceId::derived(id), |value| {
        values::parsed(value, "an instance-id", None)
    });
    let hostname_value = table.take("hostname");
    let hostname = match &hostname_value {
        Some(value) => values::parsed(value, "a host name", None),
        None => Some(HostName::of(id)),
    };
    let ssh_authorized_keys = table.read("ssh-authorized-keys", Vec::new(), ssh_keys);
    let users = table.read("users", Vec::new(), |value| users(value, id));
    let timezone_value = table.take("timezone");
    let timezone = text_of(timezone_value.as_ref());
    let locale_value = table.take("locale");
    let locale = text_of(locale_value.as_ref());
    let packages = table.read("packages", Vec::new(), texts);
    let write_files = table.read("write-files", Vec::new(), |value| write_files(value, id));
    let runcmd = table.read("runcmd", Vec::new(), runcmd);
    let user_data = user_data(&mut table, id);
    if let Some(instance_id) = &instance_id {
        table.derived("instance-id", instance_id);
    }
    if let Some(hostname) = &hostname {
        table.derived("hostname", &hostname.as_str());
    }
    table.finish();

    let first_boot = FirstBoot {
        hostname: hostname?,
        ssh_authorized_keys: ssh_authorized_keys?,
        users: users?,
        timezone: timezone?,
        locale: locale?,
        packages: packages?,
        write_files: write_files?,
        runcmd: runcmd?,
        user_data: user_data?,
    };
    let said_twice = [
        ("hostname", &hostname_value, ["hostname", "fqdn"].as_slice()),
        ("timezone", &timezone_value, &["timezone"]),
        ("locale", &locale_value, &["locale"]),
    ];
    let mut good = true;
    for (key, value, others) in said_twice {
        let whole = first_boot.user_data.as_ref();
        let other = others
            .iter()
            .find(|other| whole.is_some_and(|whole| whole.has_key(other)));
        if let (Some(value), Some(other)) = (value, other) {
            let message = format!("`{key}` is here, and `{other}` in the VM's user-data");
            value.error_with_hint(message, "leave out one of them");
            good = false;
        }
    }
    let joins = first_boot.has_config();
    if joins
        && first_boot
            .user_data
            .as_ref()
            .is_some_and(|whole| !whole.can_be_joined())
    {
        value.sink.report(
            Diagnostic::new(
                value.key_place.clone(),
                format!("the user-data of VM `{id}` is a message of several parts, and other keys are here too"),
            )
            .hint("put all of it into the user-data, or make that one part"),
        );
        good = false;
    }
    let cloud_init = CloudInit {
        instance_id: instance_id?,
        keys: first_boot.said(),
    };
    shared.first_boots.insert(id.clone(), first_boot);
    good.then_some(cloud_init)
}

#[expect(
    clippy::option_option,
    reason = "the outer one is whether the file is good here"
)]
fn text_of(value: Option<&Value<'_>>) -> Option<Option<String>> {
    match value {
        Some(value) => text(value).map(Some),
        None => Some(None),
    }
}

/// A text that is not empty.
fn text(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if text.is_empty() {
        value.error(format!("`{}` holds an empty string", value.key));
        return None;
    }
    Some(text.to_owned())
}

/// Each of an array; all are read, so that each reports its own mistakes.
fn all<T>(
    value: &Value<'_>,
    expected: &str,
    read: impl FnMut(&Value<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let elements = value.array(expected)?;
    let read: Vec<Option<T>> = elements.iter().map(read).collect();
    read.into_iter().collect()
}

fn texts(value: &Value<'_>) -> Option<Vec<String>> {
    all(value, "an array of strings", text)
}

fn ssh_keys(value: &Value<'_>) -> Option<Vec<SshKey>> {
    all(value, "an array of public keys", |value| {
        let hint = "write the line that is in the `.pub` file";
        // Not quoted: it may be a private key.
        match value.text()?.parse() {
            Ok(key) => Some(key),
            Err(error) => {
                value.error_with_hint(format!("this is no public key of SSH: {error}"), hint);
                None
            }
        }
    })
}

fn runcmd(value: &Value<'_>) -> Option<Vec<RunCommand>> {
    all(value, "an array of commands", |value| {
        if value.is_text() {
            return text(value).map(RunCommand::Shell);
        }
        let argv = all(value, "a string, or an array of strings", |word| {
            word.text().map(str::to_owned)
        })?;
        if argv.is_empty() {
            value.error("this command is empty");
            return None;
        }
        Some(RunCommand::Program(argv))
    })
}

/// The tables of `[[vm.<id>.cloud-init.<what>]]`.
fn tables<T>(
    value: &Value<'_>,
    id: &VmId,
    read: impl FnMut(&Value<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    if value.is_table() {
        let what = value.key;
        let message = format!("`{what}`: expected an array of tables, found a table");
        value.sink.report(
            Diagnostic::new(value.key_place.clone(), message).hint(format!(
                "write `[[vm.{id}.cloud-init.{what}]]`, once for each"
            )),
        );
        return None;
    }
    all(value, "an array of tables", read)
}

/// A key that this table must have.
fn required<'a>(table: &mut Table<'a>, value: &Value<'a>, key: &'static str) -> Option<Value<'a>> {
    let found = table.take(key);
    if found.is_none() {
        let message = format!("this one of `{}` has no `{key}`", value.key);
        value.sink.report_absence(value.diagnostic(message));
    }
    found
}

fn users(value: &Value<'_>, id: &VmId) -> Option<Vec<User>> {
    let mut names = Unique::default();
    tables(value, id, |value| user(value, id, &mut names))
}

fn user(value: &Value<'_>, id: &VmId, names: &mut Unique<String>) -> Option<User> {
    let mut table = value.table()?;
    let name_value = required(&mut table, value, "name");
    let name = name_value.as_ref().and_then(user_name);
    if let (Some(value), Some(name)) = (&name_value, &name) {
        names.claim(value.sink, name.clone(), &value.place, "this user", || {
            format!("VM `{id}` has two users `{name}`")
        });
    }
    let gecos = table.optional("gecos", text);
    let groups = table.read("groups", Vec::new(), |value| {
        all(value, "an array of groups' names", user_name)
    });
    let shell = table.optional("shell", values::path);
    let sudo = table.read("sudo", Sudo::Nothing, sudo);
    let ssh_authorized_keys = table.read("ssh-authorized-keys", Vec::new(), ssh_keys);
    let hashed_passwd = table.optional("hashed-passwd", |value| {
        let hash = value.text()?;
        if !hash.starts_with('$') || hash.contains(char::is_whitespace) {
            value.error_with_hint(
                "this is no hash of a password",
                "`mkpasswd` or `openssl passwd -6` makes one; it begins with `$`",
            );
            return None;
        }
        Some(hash.to_owned())
    });
    table.finish();
    Some(User {
        name: name?,
        gecos: gecos?,
        groups: groups?,
        shell: shell?,
        sudo: sudo?,
        ssh_authorized_keys: ssh_authorized_keys?,
        hashed_passwd: hashed_passwd?,
    })
}

/// What useradd(8) takes everywhere.
fn user_name(value: &Value<'_>) -> Option<String> {
    let name = value.text()?;
    let begins = |c: char| c.is_ascii_lowercase() || c == '_';
    let within = |c: char| begins(c) || c.is_ascii_digit() || c == '-';
    if !name.starts_with(begins) || !name.chars().all(within) || name.len() > 32 {
        value.error_with_hint(
            format!(
                "`{}` cannot be the name of a user or group",
                name.escape_debug()
            ),
            "it is 1 to 32 of `a-z`, `0-9`, `_` and `-`, and begins with a letter or `_`",
        );
        return None;
    }
    Some(name.to_owned())
}

fn sudo(value: &Value<'_>) -> Option<Sudo> {
    let rules = if value.is_text() {
        vec![text(value)?]
    } else {
        texts(value)?
    };
    Some(Sudo::Rules(rules))
}

fn write_files(value: &Value<'_>, id: &VmId) -> Option<Vec<WriteFile>> {
    tables(value, id, |value| {
        let mut table = value.table()?;
        let path: Option<AbsolutePath> =
            required(&mut table, value, "path").and_then(|value| values::path(&value));
        let content = table.read("content", String::new(), |value| {
            value.text().map(str::to_owned)
        });
        let permissions = table.optional("permissions", |value| {
            let mode = value.text()?;
            if !(3..=4).contains(&mode.len()) || !mode.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
                value.error_with_hint(
                    format!("`{}` is no file mode", mode.escape_debug()),
                    "write it in octal digits, as a string: `\"0644\"`",
                );
                return None;
            }
            Some(mode.to_owned())
        });
        let owner = table.optional("owner", text);
        let append = table.read("append", false, Value::boolean);
        table.finish();
        Some(WriteFile {
            path: path?,
            content: content?,
            permissions: permissions?,
            owner: owner?,
            append: append?,
        })
    })
}

/// `user-data`, or what is in `user-data-file`.
#[expect(
    clippy::option_option,
    reason = "the outer one is whether the file is good here"
)]
fn user_data(table: &mut Table<'_>, id: &VmId) -> Option<Option<UserData>> {
    let inline = table.take("user-data");
    let file = table.take("user-data-file");
    match (inline, file) {
        (None, None) => Some(None),
        (Some(inline), Some(file)) => {
            let message = format!("VM `{id}` has both `user-data` and `user-data-file`");
            file.sink.report(
                Diagnostic::new(file.key_place.clone(), message)
                    .also(inline.key_place.clone(), "the other one")
                    .hint("leave out one"),
            );
            None
        }
        (Some(value), None) => {
            let text = value.text()?;
            short(&value, text)?;
            match UserData::read(text) {
                Ok(user_data) => Some(Some(user_data)),
                Err(bad) => {
                    // A string's escapes and line breaks keep a place in it from being one in the file.
                    let line = text[..bad.span.start].matches('\n').count() + 1;
                    let label = format!("in its line {line}");
                    let diagnostic = value.diagnostic(bad.message).label(label);
                    value.sink.report(diagnostic.maybe_hint(bad.hint));
                    None
                }
            }
        }
        (None, Some(value)) => attached(&value, &values::path(&value)?).map(Some),
    }
}

fn attached(value: &Value<'_>, path: &AbsolutePath) -> Option<UserData> {
    let (source, file) = value.sink.files.get(path.as_path())?;
    let text = match &file.text {
        Ok(text) => text,
        Err(why) => {
            value.error(format!("cannot read `{path}`: {why}"));
            return None;
        }
    };
    short(value, text)?;
    match UserData::read(text) {
        Ok(user_data) => Some(user_data),
        Err(bad) => {
            let place = Place {
                source,
                span: bad.span,
            };
            value.sink.report(
                Diagnostic::new(place, bad.message)
                    .also(value.place.clone(), "it is named here")
                    .maybe_hint(bad.hint),
            );
            None
        }
    }
}

fn short(value: &Value<'_>, text: &str) -> Option<()> {
    if text.len() > LONGEST {
        value.error("this user-data is larger than 1 MiB");
        return None;
    }
    Some(())
}
