//! What a VM may use of the host: cgroup limits (systemd.resource-control(5)).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Size;

/// Each absent one is not set at all: the unit gets systemd's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<Weight>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<CpuQuota>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_high: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<Weight>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks_max: Option<std::num::NonZeroU32>,
}

/// A cgroup weight, 1 to 10000; a unit without one has 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Weight(u16);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not from 1 to 10000")]
pub struct BadWeight(u32);

impl Weight {
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u32> for Weight {
    type Error = BadWeight;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        match u16::try_from(number) {
            Ok(weight @ 1..=10_000) => Ok(Self(weight)),
            _ => Err(BadWeight(number)),
        }
    }
}

impl From<Weight> for u32 {
    fn from(weight: Weight) -> Self {
        weight.0.into()
    }
}

/// CPU time in percent of one CPU: 150 is one and a half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CpuQuota(std::num::NonZeroU32);

impl CpuQuota {
    pub const fn from_percent(percent: std::num::NonZeroU32) -> Self {
        Self(percent)
    }

    /// `CPUQuotaPerSecUSec`: microseconds of CPU time in each second.
    pub const fn usec_per_sec(self) -> u64 {
        self.0.get() as u64 * 10_000
    }
}

impl fmt::Display for CpuQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}
