//! What was seen of the host: plain data, for `plan`.

#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use camino::Utf8PathBuf;
use ipnet::IpNet;
use serde::Serialize;

use super::{Needs, NetworkFacts, PciDevices, Storage, TuningFacts};
use crate::booted::Booted;
use crate::host::{Isolation, Mac, VmId};
use crate::hypervisor::Version;
use crate::unit::LimitValues;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    pub systemd: SystemdVersion,
    pub networkd: Networkd,
    pub hypervisor: Hypervisor,
    /// The units of VMs that systemd has loaded.
    pub units: BTreeMap<VmId, Unit>,
    /// Unit files that would take the name of a VM's transient unit: a template, a mask, a file.
    pub unit_files: Vec<Utf8PathBuf>,
    /// Every link of the host, by name.
    pub links: BTreeMap<String, Link>,
    /// nkudo's files for networkd, by name.
    pub networkd_files: BTreeMap<String, String>,
    pub remains: BTreeMap<VmId, Remains>,
    /// VMs that somebody stopped, and that a switch leaves alone.
    pub held: BTreeMap<VmId, HeldBy>,
    pub network: NetworkFacts,
    /// Empty where nobody looked: see `observe::storage`.
    pub storage: Storage,
    /// Likewise: see `observe::tuning`.
    pub tuning: TuningFacts,
    /// Likewise: see `observe::needs`.
    pub needs: Needs,
    /// VMs that the last switch left out, and why.
    pub obstructed: BTreeMap<VmId, String>,
    /// Likewise: see `pci::look`.
    pub pci: PciDevices,
}

impl Observed {
    /// The VMs that have a VMM, or will have in a moment.
    pub fn running(&self) -> BTreeSet<&VmId> {
        let runs = |unit: &Unit| matches!(unit.state, UnitState::Active | UnitState::Activating);
        let running = self.units.iter().filter(|(_, unit)| runs(unit));
        running.map(|(id, _)| id).collect()
    }
}

/// Who stopped a VM for good, until it is started again or the host boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldBy {
    /// `nkudo stop`.
    Nkudo,
    /// A stop of its unit that was none of nkudo's: `systemctl stop`.
    Systemd,
}

impl HeldBy {
    /// What the file says.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nkudo => "nkudo\n",
            Self::Systemd => "systemd\n",
        }
    }

    pub fn from_bytes(bytes: &[u8]) -> Self {
        if bytes == Self::Systemd.as_str().as_bytes() {
            Self::Systemd
        } else {
            Self::Nkudo
        }
    }
}

/// systemd's major version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SystemdVersion(pub u32);

impl SystemdVersion {
    /// The first one with `ExtraFileDescriptors`, by which TAPs are handed over.
    pub const MINIMUM: Self = Self(257);

    /// Reads the manager's `Version` property: `257.13-1~deb13u1`, `v258~rc1`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.trim_start_matches('v');
        let end = digits
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(digits.len());
        digits[..end].parse().ok().map(Self)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Networkd {
    Runs,
    Absent,
}

/// The hypervisor that the generation names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hypervisor {
    Found(Version),
    /// It cannot be run, or does not say its version.
    Unusable(String),
}

/// A VM's unit as systemd has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    pub state: UnitState,
    /// `SubState`, in systemd's words: `running`, `auto-restart`, `stop-sigterm`.
    pub sub_state: String,
    pub origin: UnitOrigin,
    /// `NKUDO_DIGEST` of its `LogExtraFields`.
    pub digest: Option<String>,
    /// `NKUDO_GENERATION`, likewise.
    pub generation: Option<u64>,
    /// The limits of its definition: of its text, and of the drop-ins that SetUnitProperties made.
    pub limits: LimitValues,
    /// The administrator's drop-ins, as systemd has read them.
    pub drop_ins: Vec<String>,
    /// What it takes a call per unit to know; `None` where nobody asked, which is so for units that
    /// simply run, unless a status is wanted.
    pub facts: Option<UnitFacts>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFacts {
    /// 0 where there is none.
    pub main_pid: u32,
    /// `Result`: `success`, `exit-code`, `timeout`, …
    pub result: String,
    /// How often systemd restarted it by itself.
    pub restarts: u32,
    /// When its last start began, in microseconds since 1970; 0 where it did not.
    pub since: u64,
}

/// How much of the units is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// What a plan needs: units that run cost no call of their own.
    Plan,
    /// All of VMs, and nothing of the network but its links: listing the firewall's rules costs more than the rest.
    Status,
    /// All of VMs and networks.
    Networks,
}

/// `ActiveState` (org.freedesktop.systemd1(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitState {
    Active,
    /// Starting, or waiting for its automatic restart.
    Activating,
    Deactivating,
    Failed,
    Inactive,
}

impl fmt::Display for UnitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Activating => "activating",
            Self::Deactivating => "deactivating",
            Self::Failed => "failed",
            Self::Inactive => "inactive",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitOrigin {
    Transient,
    /// Somebody's file, or nothing that systemd could name.
    File(String),
}

/// A network link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub kind: LinkKind,
    /// `None` where it is not six bytes.
    pub mac: Option<[u8; 6]>,
    /// The index of the bridge or bond that it is in.
    pub master: Option<u32>,
    /// As a port of a bridge: whether it is kept from other such ports.
    pub isolation: Isolation,
    /// The index of the link that it is on, as a VLAN or a macvtap is.
    pub below: Option<u32>,
    pub traffic: Traffic,
    pub admin: Admin,
    pub addresses: BTreeSet<IpNet>,
}

impl Link {
    /// One that is up, and of which nothing else is known.
    pub fn new(index: u32, kind: LinkKind) -> Self {
        Self {
            index,
            kind,
            mac: None,
            master: None,
            isolation: Isolation::Off,
            below: None,
            traffic: Traffic::default(),
            admin: Admin::Up,
            addresses: BTreeSet::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    Bridge,
    Tun,
    /// With its id.
    Vlan(u16),
    Macvtap,
    Other,
}

/// What went through a link, as the host sees it: what a VM sends, its TAP receives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Traffic {
    pub received_bytes: u64,
    pub received_packets: u64,
    pub received_dropped: u64,
    pub sent_bytes: u64,
    pub sent_packets: u64,
    pub sent_dropped: u64,
}

/// Whether a link is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admin {
    Up,
    Down,
}

impl Link {
    pub fn has_mac(&self, mac: Mac) -> bool {
        self.mac == Some(mac.octets())
    }
}

/// What is in /run/nkudo of a VM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remains {
    pub specification: Specification,
    /// Whether its root directory is there.
    pub root: bool,
}

/// The booted specification.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Specification {
    #[default]
    Absent,
    Known(Box<Booted>),
    /// Damaged, or written by another version of nkudo.
    Unreadable,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_versions_are_read() {
        for (text, number) in [("257.13-1~deb13u1", 257), ("v258~rc1", 258), ("262", 262)] {
            assert_eq!(SystemdVersion::parse(text), Some(SystemdVersion(number)));
        }
        assert_eq!(SystemdVersion::parse("unknown"), None);
    }
}
