//! What one machine may use up, so that it starves no other.

use crate::reach::NetworkLimits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Bounds of a machine; each has a default that an ordinary desktop does not notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Its share of the processors under load, beside 100 of another machine's.
    pub cpu_weight: u32,
    /// Reads and writes of its disk a second.
    pub iops: u32,
    /// MiB that it may read and write of its disk a second.
    pub disk_mib_a_second: u32,
    /// Connections that it may hold open at once; rounded up to a power of two.
    pub connections: u32,
    /// Connections that it may open a second.
    pub new_connections_a_second: u32,
    /// Broadcasts and multicasts that it may send a second, on each of its cards.
    pub broadcasts_a_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            cpu_weight: 100,
            iops: 5000,
            disk_mib_a_second: 200,
            connections: 1000,
            new_connections_a_second: 100,
            broadcasts_a_second: 50,
        }
    }
}

impl From<&Limits> for NetworkLimits {
    fn from(limits: &Limits) -> NetworkLimits {
        NetworkLimits {
            connections: limits.connections.into(),
            new_connections_a_second: limits.new_connections_a_second,
            broadcasts_a_second: limits.broadcasts_a_second,
        }
    }
}

impl Limits {
    /// What is out of its range: the field, and one sentence with the range.
    pub(crate) fn faults(&self) -> Vec<(&'static str, String)> {
        let all: [(&'static str, u32, RangeInclusive<u32>); 6] = [
            ("cpu_weight", self.cpu_weight, 10..=1000),
            ("iops", self.iops, 50..=1_000_000),
            ("disk_mib_a_second", self.disk_mib_a_second, 1..=100_000),
            ("connections", self.connections, 1..=65_535),
            ("new_connections_a_second", self.new_connections_a_second, 1..=10_000),
            ("broadcasts_a_second", self.broadcasts_a_second, 1..=10_000),
        ];
        let wrong = all.into_iter().filter(|(_, value, range)| !range.contains(value));
        wrong
            .map(|(key, value, range)| {
                (key, format!("`{key}` is {value}: use {} to {}", range.start(), range.end()))
            })
            .collect()
    }
}
