//! A unit's cgroup limits as systemd names and writes them: what can change while it runs
//! (SetUnitProperties, org.freedesktop.systemd1(5)).

use std::collections::BTreeMap;
use std::fmt;

use crate::host::{CpuQuota, Limits, Size};

use super::setting::Setting;

/// A cgroup limit that nkudo sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    CpuWeight,
    CpuQuota,
    MemoryHigh,
    MemoryMax,
    IoWeight,
    TasksMax,
}

/// Limits by value, in the unit that D-Bus has them in; what is not there is systemd's default.
pub type LimitValues = BTreeMap<Limit, u64>;

impl Limit {
    pub const ALL: [Self; 6] = [
        Self::CpuWeight,
        Self::CpuQuota,
        Self::MemoryHigh,
        Self::MemoryMax,
        Self::IoWeight,
        Self::TasksMax,
    ];

    /// The name of the D-Bus property.
    pub fn property(self) -> &'static str {
        match self {
            Self::CpuQuota => "CPUQuotaPerSecUSec",
            other => other.key(),
        }
    }

    /// The key in a unit file (systemd.resource-control(5)).
    pub fn key(self) -> &'static str {
        match self {
            Self::CpuWeight => "CPUWeight",
            Self::CpuQuota => "CPUQuota",
            Self::MemoryHigh => "MemoryHigh",
            Self::MemoryMax => "MemoryMax",
            Self::IoWeight => "IOWeight",
            Self::TasksMax => "TasksMax",
        }
    }

    /// The value that takes the limit away. A unit without `TasksMax=` has the manager's
    /// `DefaultTasksMax`, which only systemd can tell.
    pub fn none(self) -> Option<u64> {
        match self {
            Self::TasksMax => None,
            _ => Some(u64::MAX),
        }
    }

    pub(super) const fn setting(self, value: u64) -> Setting {
        match self {
            Self::CpuQuota => Setting::CpuQuota {
                usec_per_sec: value,
            },
            _ => Setting::Number(value),
        }
    }

    /// The name of the drop-in that SetUnitProperties keeps the limit in (seen on 257).
    pub fn drop_in(self) -> String {
        format!("50-{}.conf", self.key())
    }

    fn parse(self, text: &str) -> Option<u64> {
        match self {
            // Written in percent of one CPU; a percent of a second is 10 ms.
            Self::CpuQuota => {
                let percent = text.strip_suffix('%')?.parse::<u64>().ok()?;
                percent.checked_mul(10_000)
            }
            _ => text.parse().ok(),
        }
    }
}

impl fmt::Display for Limit {
    /// As nkudo.toml has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CpuWeight => "limits.cpu-weight",
            Self::CpuQuota => "limits.cpu-quota",
            Self::MemoryHigh => "limits.memory-high",
            Self::MemoryMax => "limits.memory-max",
            Self::IoWeight => "limits.io-weight",
            Self::TasksMax => "limits.tasks-max",
        })
    }
}

/// The limits as values.
pub fn limit_values(limits: &Limits) -> LimitValues {
    let all = [
        (Limit::CpuWeight, limits.cpu_weight.map(|w| w.get().into())),
        (
            Limit::CpuQuota,
            limits.cpu_quota.map(CpuQuota::usec_per_sec),
        ),
        (Limit::MemoryHigh, limits.memory_high.map(Size::bytes)),
        (Limit::MemoryMax, limits.memory_max.map(Size::bytes)),
        (Limit::IoWeight, limits.io_weight.map(|w| w.get().into())),
        (Limit::TasksMax, limits.tasks_max.map(|n| n.get().into())),
    ];
    all.into_iter()
        .filter_map(|(limit, value)| Some((limit, value?)))
        .collect()
}

/// Reads the limits that stand in a unit file or a drop-in on top of those that are there: the later
/// line wins, and an empty one takes the limit away.
pub fn read_limits(values: &mut LimitValues, text: &str) {
    for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
        let Some(limit) = Limit::ALL.into_iter().find(|limit| limit.key() == key) else {
            continue;
        };
        match limit.parse(value.trim()) {
            Some(value) => values.insert(limit, value),
            // `infinity` is no limit too.
            None => values.remove(&limit),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_systemd_writes_them() {
        let mut values = LimitValues::new();
        read_limits(
            &mut values,
            "[Service]\nCPUWeight=200\nCPUQuota=150%\nMemoryMax=1000\nTasksMax=7\nNice=3\n",
        );
        read_limits(&mut values, "[Service]\nCPUWeight=\nMemoryMax=infinity\n");
        assert_eq!(
            values,
            LimitValues::from([(Limit::CpuQuota, 1_500_000), (Limit::TasksMax, 7)])
        );
    }
}
