//! The kinds of settings that nkudo's units have.

use std::net::IpAddr;
use std::time::Duration;

/// The section of the unit file that a setting stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    Unit,
    Service,
}

/// The value of a setting. Two settings of one key add up, as two lines of a unit file do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    Text(String),
    Flag(bool),
    /// A key that ends in `Sec`; on D-Bus it ends in `USec`.
    Span(Duration),
    Number(u64),
    Count(u32),
    /// A file mode.
    Mode(u32),
    Words(Vec<String>),
    Exec(Exec),
    /// The system calls or groups that may be made.
    Allow(Vec<&'static str>),
    /// The system calls or groups that may not, out of those allowed before.
    Deny(Vec<&'static str>),
    Device {
        path: String,
        access: &'static str,
    },
    Binds(Vec<Bind>),
    JournalField {
        name: &'static str,
        value: String,
    },
    /// `CapabilityBoundingSet=` of these, each with its number (linux/capability.h).
    Capabilities(&'static [(&'static str, u32)]),
    /// `CapabilityBoundingSet=` of nothing.
    NoCapabilities,
    /// CAP_NET_BIND_SERVICE, CAP_NET_ADMIN and CAP_NET_RAW (capabilities(7)).
    NetworkServerCapabilities,
    /// `RestrictNamespaces=` of all but IPC namespaces: the mask 0 ("none at all") is written by
    /// systemd as an empty line, and means "any" after the next daemon-reload.
    IpcNamespacesOnly,
    /// `CPUQuota=`, in microseconds of CPU time a second.
    CpuQuota {
        usec_per_sec: u64,
    },
    /// An exit status that counts as success (`SuccessExitStatus=`).
    ExitStatus(u8),
    /// A signal, in place of an exit status (`SuccessExitStatus=`, `RestartPreventExitStatus=`): its name and its number.
    ExitSignal(&'static str, i32),
    /// `IPAddressDeny=any`.
    DenyAnyAddress,
    Addresses(Vec<IpAddr>),
}

/// One command of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// The program, an absolute path, and its arguments, passed on as they are: `$` and `%` in
    /// them mean nothing.
    pub argv: Vec<String>,
    pub privilege: Privilege,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// As the unit's user in the unit's sandbox.
    Sandboxed,
    /// As root, outside of it (`+`, systemd.service(5)).
    Full,
}

/// A path of the host that the unit sees; one that is missing is passed over,
/// so that it is the VMM which says what it misses, not an error from setting up the namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    pub source: String,
    pub destination: String,
}

impl Bind {
    /// At the same place.
    pub fn same(path: impl Into<String>) -> Self {
        let source = path.into();
        Self {
            destination: source.clone(),
            source,
        }
    }
}
