//! The keys at the top of a cloud-config, and what each must be.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Truth,
    Number,
    Text,
    List,
    Map,
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_none<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
                Ok(Value::Truth)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
                Ok(Value::Number)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
                Ok(Value::Number)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
                Ok(Value::Number)
            }

            fn visit_str<E>(self, _: &str) -> Result<Value, E> {
                Ok(Value::Text)
            }

            fn visit_bytes<E>(self, _: &[u8]) -> Result<Value, E> {
                Ok(Value::Text)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                while list.next_element::<Value>()?.is_some() {}
                Ok(Value::List)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                while map.next_entry::<IgnoredAny, Value>()?.is_some() {}
                Ok(Value::Map)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "empty",
            Self::Truth => "a truth value",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::List => "a list",
            Self::Map => "a mapping",
        })
    }
}

/// What a key must be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Type {
    Truth,
    Text,
    List,
    Map,
    /// A list, or a mapping of names to members or settings.
    ListOrMap,
    /// Several, which cloud-init itself tells apart.
    Any,
}

impl Type {
    pub(super) fn is(self, value: Value) -> bool {
        match self {
            Self::Truth => value == Value::Truth,
            Self::Text => matches!(value, Value::Text | Value::Number),
            Self::List => value == Value::List,
            Self::Map => matches!(value, Value::Map | Value::Null),
            Self::ListOrMap => matches!(value, Value::List | Value::Map | Value::Text),
            Self::Any => true,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truth => "a truth value",
            Self::Text => "a text",
            Self::List => "a list",
            Self::Map => "a mapping",
            Self::ListOrMap => "a list or a mapping",
            Self::Any => "anything",
        })
    }
}

/// The keys at the top of a cloud-config, by name (cloud-init's "Module reference"). One that is not
/// here may be an image's own.
pub(super) const TYPES: &[(&str, Type)] = &[
    ("allow_public_ssh_keys", Type::Truth),
    ("ansible", Type::Map),
    ("apk_repos", Type::Map),
    ("apt", Type::Map),
    ("apt_pipelining", Type::Any),
    ("apt_reboot_if_required", Type::Truth),
    ("apt_update", Type::Truth),
    ("apt_upgrade", Type::Truth),
    ("authkey_hash", Type::Text),
    ("autoinstall", Type::Map),
    ("bootcmd", Type::List),
    ("byobu_by_default", Type::Text),
    ("ca-certs", Type::Map),
    ("ca_certs", Type::Map),
    ("chef", Type::Map),
    ("chpasswd", Type::Map),
    ("cloud_config_modules", Type::List),
    ("cloud_final_modules", Type::List),
    ("cloud_init_modules", Type::List),
    ("create_hostname_file", Type::Truth),
    ("device_aliases", Type::Map),
    ("disable_ec2_metadata", Type::Truth),
    ("disable_root", Type::Truth),
    ("disable_root_opts", Type::Text),
    ("disk_setup", Type::Map),
    ("drivers", Type::Map),
    ("fan", Type::Map),
    ("final_message", Type::Text),
    ("fqdn", Type::Text),
    ("fs_setup", Type::List),
    ("groups", Type::ListOrMap),
    ("growpart", Type::Map),
    ("grub-dpkg", Type::Map),
    ("grub_dpkg", Type::Map),
    ("hostname", Type::Text),
    ("keyboard", Type::Map),
    ("landscape", Type::Map),
    ("launch-index", Type::Any),
    ("locale", Type::Any),
    ("locale_configfile", Type::Text),
    ("lxd", Type::Map),
    ("manage_etc_hosts", Type::Any),
    ("manage_resolv_conf", Type::Truth),
    ("mcollective", Type::Map),
    ("merge_how", Type::Any),
    ("merge_type", Type::Any),
    ("migrate", Type::Any),
    ("mount_default_fields", Type::List),
    ("mounts", Type::List),
    ("no_ssh_fingerprints", Type::Truth),
    ("ntp", Type::Map),
    ("output", Type::Map),
    ("package_reboot_if_required", Type::Truth),
    ("package_update", Type::Truth),
    ("package_upgrade", Type::Truth),
    ("packages", Type::List),
    ("password", Type::Text),
    ("phone_home", Type::Map),
    ("power_state", Type::Map),
    ("prefer_fqdn_over_hostname", Type::Truth),
    ("preserve_hostname", Type::Truth),
    ("puppet", Type::Map),
    ("random_seed", Type::Map),
    ("reporting", Type::Map),
    ("resize_rootfs", Type::Any),
    ("resolv_conf", Type::Map),
    ("rh_subscription", Type::Map),
    ("rsyslog", Type::Map),
    ("runcmd", Type::List),
    ("salt_minion", Type::Map),
    ("snap", Type::Map),
    ("spacewalk", Type::Map),
    ("ssh", Type::Map),
    ("ssh_authorized_keys", Type::List),
    ("ssh_deletekeys", Type::Truth),
    ("ssh_fp_console_blacklist", Type::List),
    ("ssh_genkeytypes", Type::List),
    ("ssh_import_id", Type::List),
    ("ssh_key_console_blacklist", Type::List),
    ("ssh_keys", Type::Map),
    ("ssh_publish_hostkeys", Type::Map),
    ("ssh_pwauth", Type::Any),
    ("ssh_quiet_keygen", Type::Truth),
    ("swap", Type::Map),
    ("system_info", Type::Map),
    ("timezone", Type::Text),
    ("ubuntu_advantage", Type::Map),
    ("ubuntu_pro", Type::Map),
    ("updates", Type::Map),
    ("user", Type::Any),
    ("users", Type::ListOrMap),
    ("vendor_data", Type::Map),
    ("version", Type::Any),
    ("wireguard", Type::Map),
    ("write_files", Type::List),
    ("yum_repo_dir", Type::Text),
    ("yum_repos", Type::Map),
    ("zypper", Type::Map),
];
