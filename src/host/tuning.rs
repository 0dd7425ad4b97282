//! `[host.tuning]`: settings of the host's kernel that VMs gain from.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Size, TimeSpan, by_text};

/// What is declared; all else is left as the host has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Tuning {
    /// How many huge pages the kernel keeps, by their size.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hugepages: BTreeMap<Size, u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ksm: Option<KsmRun>,
    /// How many pages KSM looks at before it sleeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ksm_pages_to_scan: Option<NonZeroU32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ksm_sleep: Option<TimeSpan>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_governor: Option<Governor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<SysctlName, SysctlValue>,
}

/// Whether the kernel merges equal pages (/sys/kernel/mm/ksm/run).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KsmRun {
    /// What is merged stays merged.
    Off,
    On,
}

/// Who chooses the CPUs' frequency. `userspace` is none of them: it needs somebody who does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Governor {
    Performance,
    Powersave,
    Ondemand,
    Conservative,
    Schedutil,
}

impl Governor {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Performance => "performance",
            Self::Powersave => "powersave",
            Self::Ondemand => "ondemand",
            Self::Conservative => "conservative",
            Self::Schedutil => "schedutil",
        }
    }
}

/// A kernel setting, by its path below /proc/sys: `vm/swappiness`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SysctlName(String);

/// Why a text names no setting that can be declared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSysctlName {
    #[error("it holds {0:?}")]
    Character(char),
    #[error("it has an empty part, or one of dots alone")]
    Part,
    #[error("it has one part only, and every setting has a group before it: `vm.swappiness`")]
    Group,
    #[error("it is longer than 255 bytes")]
    TooLong,
    #[error("{0}")]
    NotASetting(&'static str),
    #[error("{0}")]
    Nkudos(&'static str),
}

impl SysctlName {
    /// The path below /proc/sys.
    pub fn path(&self) -> &str {
        &self.0
    }

    /// What is no setting to be kept: a read-out, or something that happens when it is written.
    fn not_a_setting(path: &str) -> Option<&'static str> {
        const HAPPENS: &str = "something happens when it is written, and nothing is kept";
        const READ: &str = "it is what the kernel says, and cannot be set";
        match path {
            "vm/drop_caches" | "vm/compact_memory" | "vm/stat_refresh" => Some(HAPPENS),
            "kernel/hostname" | "kernel/domainname" => {
                Some("the host's name is /etc/hostname's (hostname(5))")
            }
            "fs/file-nr"
            | "fs/inode-nr"
            | "fs/inode-state"
            | "fs/dentry-state"
            | "fs/aio-nr"
            | "kernel/ostype"
            | "kernel/osrelease"
            | "kernel/version"
            | "kernel/ns_last_pid"
            | "kernel/tainted"
            | "kernel/cap_last_cap" => Some(READ),
            _ if path.starts_with("net/") && path.ends_with("/flush") => Some(HAPPENS),
            _ if path.starts_with("kernel/random/") => Some(READ),
            _ if path.starts_with("fs/binfmt_misc/") => {
                Some("it is a file system: binfmt.d(5) is for it")
            }
            _ => None,
        }
    }

    /// What nkudo itself sets, or what another key is for.
    fn nkudos(path: &str) -> Option<&'static str> {
        let parts: Vec<&str> = path.split('/').collect();
        match parts.as_slice() {
            ["vm", "nr_hugepages" | "nr_hugepages_mempolicy"] => {
                Some("`hugepages` under `[host.tuning]` is for it, by the size of the pages")
            }
            ["net", "ipv4", "ip_forward"]
            | [
                "net",
                "ipv4" | "ipv6",
                "conf",
                _,
                "forwarding" | "force_forwarding",
            ]
            | ["net", "ipv6", "conf", _, "accept_ra"] => Some(
                "nkudo sets it itself, link by link, for networks with `nat`, `route` or `forward`",
            ),
            _ => None,
        }
    }
}

/// The path of a name below /proc/sys, as sysctl.d(5) has it: where the first separator is a `/`, dots are part of
/// names (`eth0.5`).
pub fn sysctl_path(text: &str) -> String {
    match text.find(['.', '/']) {
        Some(at) if text[at..].starts_with('.') => text
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => text.to_owned(),
    }
}

impl FromStr for SysctlName {
    type Err = BadSysctlName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/@:".contains(c);
        if let Some(bad) = text.chars().find(|c| !allowed(*c)) {
            return Err(BadSysctlName::Character(bad));
        }
        if text.len() > 255 {
            return Err(BadSysctlName::TooLong);
        }
        let path = sysctl_path(text);
        let empty = |part: &str| part.chars().all(|c| c == '.');
        if path.split('/').any(empty) {
            return Err(BadSysctlName::Part);
        }
        if !path.contains('/') {
            return Err(BadSysctlName::Group);
        }
        if let Some(why) = Self::not_a_setting(&path) {
            return Err(BadSysctlName::NotASetting(why));
        }
        if let Some(why) = Self::nkudos(&path) {
            return Err(BadSysctlName::Nkudos(why));
        }
        Ok(Self(path))
    }
}

/// With dots, where that says the same.
impl fmt::Display for SysctlName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains('.') {
            f.write_str(&self.0)
        } else {
            f.write_str(&self.0.replace('/', "."))
        }
    }
}

// Not by its `Display`: a file of nkudo's has the path.
impl TryFrom<String> for SysctlName {
    type Error = BadSysctlName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SysctlName> for String {
    fn from(name: SysctlName) -> Self {
        name.0
    }
}

/// What a kernel setting is set to: one line, with one space where the kernel has tabs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SysctlValue(String);

/// Why a text is no such value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSysctlValue {
    #[error("it is empty")]
    Empty,
    #[error("it holds a control character ({0:?})")]
    Control(char),
    #[error("it is longer than 1023 bytes")]
    TooLong,
}

impl SysctlValue {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SysctlValue {
    type Err = BadSysctlValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(bad) = text.chars().find(|c| c.is_control() && *c != '\t') {
            return Err(BadSysctlValue::Control(bad));
        }
        let value = one_spaced(text);
        if value.is_empty() {
            return Err(BadSysctlValue::Empty);
        }
        if value.len() > 1023 {
            return Err(BadSysctlValue::TooLong);
        }
        Ok(Self(value))
    }
}

by_text!(SysctlValue);

impl fmt::Display for SysctlValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value as it is compared: the kernel parts numbers by tabs, and ends with a newline.
pub fn one_spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One of the settings, to name and to find it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    HugePages(Size),
    Ksm,
    KsmPagesToScan,
    KsmSleep,
    CpuGovernor,
    Sysctl(SysctlName),
}

impl Setting {
    /// The file that it is; of the governor, a pattern that each CPU's file fits.
    pub fn path(&self) -> String {
        match self {
            Self::HugePages(size) => format!(
                "/sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages",
                size.bytes() >> 10
            ),
            Self::Ksm => "/sys/kernel/mm/ksm/run".to_owned(),
            Self::KsmPagesToScan => "/sys/kernel/mm/ksm/pages_to_scan".to_owned(),
            Self::KsmSleep => "/sys/kernel/mm/ksm/sleep_millisecs".to_owned(),
            Self::CpuGovernor => {
                "/sys/devices/system/cpu/cpufreq/policy*/scaling_governor".to_owned()
            }
            Self::Sysctl(name) => format!("/proc/sys/{}", name.path()),
        }
    }

    /// Which setting a file is.
    pub fn of_path(path: &str) -> Option<Self> {
        if let Some(name) = path.strip_prefix("/proc/sys/") {
            return name.parse().ok().map(Self::Sysctl);
        }
        if let Some(rest) = path.strip_prefix("/sys/kernel/mm/hugepages/hugepages-") {
            let kibibytes: u64 = rest.strip_suffix("kB/nr_hugepages")?.parse().ok()?;
            return Some(Self::HugePages(Size::from_bytes(
                kibibytes.checked_mul(1024)?,
            )));
        }
        if path.starts_with("/sys/devices/system/cpu/cpufreq/") {
            return Some(Self::CpuGovernor);
        }
        [Self::Ksm, Self::KsmPagesToScan, Self::KsmSleep]
            .into_iter()
            .find(|setting| setting.path() == path)
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HugePages(size) => write!(f, "huge pages of {size}"),
            Self::Ksm => f.write_str("KSM run"),
            Self::KsmPagesToScan => f.write_str("KSM pages_to_scan"),
            Self::KsmSleep => f.write_str("KSM sleep_millisecs"),
            Self::CpuGovernor => f.write_str("CPU governor"),
            Self::Sysctl(name) => write!(f, "kernel setting {name}"),
        }
    }
}

impl Tuning {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Each setting with the text that its file is to have.
    pub fn settings(&self) -> BTreeMap<Setting, String> {
        let mut settings = BTreeMap::new();
        for (size, count) in &self.hugepages {
            settings.insert(Setting::HugePages(*size), count.to_string());
        }
        if let Some(run) = self.ksm {
            let run = match run {
                KsmRun::Off => "0",
                KsmRun::On => "1",
            };
            settings.insert(Setting::Ksm, run.to_owned());
        }
        if let Some(pages) = self.ksm_pages_to_scan {
            settings.insert(Setting::KsmPagesToScan, pages.to_string());
        }
        if let Some(sleep) = self.ksm_sleep {
            let millis = sleep.duration().as_millis().to_string();
            settings.insert(Setting::KsmSleep, millis);
        }
        if let Some(governor) = self.cpu_governor {
            settings.insert(Setting::CpuGovernor, governor.as_str().to_owned());
        }
        for (name, value) in &self.sysctl {
            settings.insert(Setting::Sysctl(name.clone()), value.as_str().to_owned());
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_sysctl_d() {
        for (text, path) in [
            ("vm.swappiness", "vm/swappiness"),
            ("vm/swappiness", "vm/swappiness"),
            (
                "net.ipv4.conf.eth0/5.rp_filter",
                "net/ipv4/conf/eth0.5/rp_filter",
            ),
            (
                "net/ipv4/conf/eth0.5/rp_filter",
                "net/ipv4/conf/eth0.5/rp_filter",
            ),
        ] {
            assert_eq!(text.parse::<SysctlName>().unwrap().path(), path, "{text}");
        }
        for bad in [
            "",
            "swappiness",
            "vm..swappiness",
            "vm.swappiness.",
            "/etc/passwd",
            "vm/../../etc/passwd",
            "net/./x",
            "vm.swap piness",
            "vm.*",
            "vm.drop_caches",
            "net.ipv4.route.flush",
            "kernel.random.boot_id",
            "net.ipv4.ip_forward",
            "net.ipv4.conf.eth0.forwarding",
            "vm.nr_hugepages",
        ] {
            assert!(bad.parse::<SysctlName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_settings_file_leads_back_to_it() {
        let name: SysctlName = "net.core.somaxconn".parse().unwrap();
        for setting in [
            Setting::HugePages(Size::from_mib(2)),
            Setting::Ksm,
            Setting::KsmPagesToScan,
            Setting::KsmSleep,
            Setting::Sysctl(name),
        ] {
            assert_eq!(Setting::of_path(&setting.path()), Some(setting));
        }
        let policy = "/sys/devices/system/cpu/cpufreq/policy3/scaling_governor";
        assert_eq!(Setting::of_path(policy), Some(Setting::CpuGovernor));
    }
}
