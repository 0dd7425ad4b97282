//! The D-Bus form: names and values of StartTransientUnit's properties, without a D-Bus library.

use std::net::IpAddr;

use super::Unit;
use super::setting::{Privilege, Setting};

/// A property, as `(sv)` carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    pub name: String,
    pub value: Value,
}

/// The D-Bus types that these properties have; the comment is the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `s`
    Str(String),
    /// `b`
    Bool(bool),
    /// `t`
    U64(u64),
    /// `u`
    U32(u32),
    /// `as`
    Strs(Vec<String>),
    /// `a(sasas)`: path, argv, flags
    Execs(Vec<(String, Vec<String>, Vec<String>)>),
    /// `(bas)`: whether the list is of what is allowed, the list
    Filter(bool, Vec<String>),
    /// `a(ss)`
    Pairs(Vec<(String, String)>),
    /// `a(ssbt)`: source, destination, ignore a missing source, mount flags
    Binds(Vec<(String, String, bool, u64)>),
    /// `aay`
    Bytes(Vec<Vec<u8>>),
    /// `(aiai)`: exit statuses, signals
    ExitStatuses(Vec<i32>, Vec<i32>),
    /// `a(iayu)`: address family, address, prefix length
    Addresses(Vec<(i32, Vec<u8>, u32)>),
}

/// CLONE_NEWIPC, the one namespace that `Setting::IpcNamespacesOnly` leaves.
const CLONE_NEWIPC: u64 = 0x0800_0000;
/// The bits 10, 12 and 13: CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW.
const NETWORK_SERVER: u64 = 1 << 10 | 1 << 12 | 1 << 13;
/// MS_REC: bind mounts that systemd makes from a unit file take what is mounted below along.
const MS_REC: u64 = 16384;
const AF_INET: i32 = 2;
const AF_INET6: i32 = 10;

impl Unit {
    /// The properties for StartTransientUnit, in the order of the settings.
    pub fn properties(&self) -> Vec<Property> {
        self.settings
            .iter()
            .map(|(_, key, setting)| property(key, setting))
            .collect()
    }
}

fn property(key: &str, setting: &Setting) -> Property {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let named = |name: String, value: Value| Property { name, value };
    let same = |value: Value| named(key.to_owned(), value);
    match setting {
        Setting::Text(text) => same(Value::Str(text.clone())),
        Setting::Flag(flag) => same(Value::Bool(*flag)),
        Setting::Span(span) => {
            let name = format!("{}USec", key.strip_suffix("Sec").unwrap_or(key));
            named(
                name,
                Value::U64(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)),
            )
        }
        Setting::Number(number) => same(Value::U64(*number)),
        Setting::Count(count) => same(Value::U32(*count)),
        Setting::Mode(mode) => same(Value::U32(*mode)),
        Setting::Words(words) => same(Value::Strs(words.clone())),
        Setting::Exec(exec) => {
            // `no-env-expand` keeps `$` from being expanded; without it systemd 257 expands it at
            // the first start and not after a daemon-reload.
            let mut flags = vec!["no-env-expand".to_owned()];
            if exec.privilege == Privilege::Full {
                flags.push("privileged".to_owned());
            }
            let path = exec.argv.first().cloned().unwrap_or_default();
            named(
                format!("{key}Ex"),
                Value::Execs(vec![(path, exec.argv.clone(), flags)]),
            )
        }
        Setting::Allow(list) => same(Value::Filter(true, owned(list))),
        Setting::Deny(list) => same(Value::Filter(false, owned(list))),
        Setting::Device { path, access } => {
            same(Value::Pairs(vec![(path.clone(), (*access).to_owned())]))
        }
        Setting::Binds(binds) => same(Value::Binds(
            binds
                .iter()
                .map(|bind| (bind.source.clone(), bind.destination.clone(), true, MS_REC))
                .collect(),
        )),
        Setting::JournalField { name, value } => {
            same(Value::Bytes(vec![format!("{name}={value}").into_bytes()]))
        }
        Setting::Capabilities(all) => same(Value::U64(
            all.iter().fold(0, |mask, (_, number)| mask | 1 << number),
        )),
        Setting::NoCapabilities => same(Value::U64(0)),
        Setting::NetworkServerCapabilities => same(Value::U64(NETWORK_SERVER)),
        Setting::IpcNamespacesOnly => same(Value::U64(CLONE_NEWIPC)),
        Setting::CpuQuota { usec_per_sec } => {
            named("CPUQuotaPerSecUSec".to_owned(), Value::U64(*usec_per_sec))
        }
        Setting::ExitStatus(status) => {
            same(Value::ExitStatuses(vec![i32::from(*status)], Vec::new()))
        }
        Setting::ExitSignal(_, number) => same(Value::ExitStatuses(Vec::new(), vec![*number])),
        Setting::DenyAnyAddress => same(Value::Addresses(vec![
            (AF_INET, vec![0; 4], 0),
            (AF_INET6, vec![0; 16], 0),
        ])),
        Setting::Addresses(all) => same(Value::Addresses(all.iter().map(address).collect())),
    }
}

fn address(ip: &IpAddr) -> (i32, Vec<u8>, u32) {
    match ip {
        IpAddr::V4(ip) => (AF_INET, ip.octets().to_vec(), 32),
        IpAddr::V6(ip) => (AF_INET6, ip.octets().to_vec(), 128),
    }
}
