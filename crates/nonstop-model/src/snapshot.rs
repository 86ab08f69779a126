//! Named snapshots: what machines were at one time, memory included.
//!
//! A snapshot names one generation of each of its machines. A generation that is named is frozen:
//! nothing writes to it any more, and the machine goes on in another that is made from it. So is
//! one that another was made from, for as long as that exists, whether it has a name or not.

use crate::{
    ids::{EnvironmentId, MachineId, SnapshotId},
    template::MachineRole,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, str::FromStr};

/// What a researcher calls a snapshot: up to 40 letters and digits of any script, and ` ._-`
/// within.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SnapshotName(String);

/// The most characters of a name.
pub const LONGEST_NAME: usize = 40;

impl SnapshotName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for SnapshotName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let within = |c: char| c.is_alphanumeric() || " ._-".contains(c);
        let good = text.starts_with(char::is_alphanumeric)
            && text.chars().all(within)
            && text.chars().count() <= LONGEST_NAME;
        if good {
            return Ok(SnapshotName(text.into()));
        }
        Err("a snapshot's name begins with a letter or digit, has letters, digits, spaces and \
             any of `._-`, and at most 40 characters"
            .into())
    }
}

impl From<SnapshotName> for String {
    fn from(name: SnapshotName) -> String {
        name.0
    }
}

impl TryFrom<String> for SnapshotName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// How far a snapshot is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum SnapshotState {
    /// It is being taken.
    Taking,
    /// One can return to it.
    Whole,
    /// It could not be taken; nothing of it is kept.
    Failed {
        /// Why.
        why: String,
    },
    /// It has no name any more; what others were made from is still there.
    Deleted,
}

/// What machines of an environment were at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Handed out once; files derive from it.
    pub id: SnapshotId,
    /// Whose machines.
    pub environment: EnvironmentId,
    /// Its name.
    pub name: SnapshotName,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// How far it is.
    pub state: SnapshotState,
    /// Its machines, by number; none of one that failed.
    pub machines: Vec<SnapshottedMachine>,
}

impl Snapshot {
    /// What it has of `machine`.
    pub fn machine(&self, machine: MachineId) -> Option<&SnapshottedMachine> {
        self.machines.iter().find(|m| m.machine == machine)
    }
}

/// What a snapshot has of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshottedMachine {
    /// Which.
    pub machine: MachineId,
    /// What it is for.
    pub role: MachineRole,
    /// The generation that the snapshot names.
    pub generation: u32,
    /// What that one was made from; None for the image.
    pub origin: Option<u32>,
    /// Whether its guest ran: then its memory is kept.
    pub memory: bool,
}

/// Where the memory of a guest is kept: beside what it had written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Memory {
    /// The generation that it belongs to.
    pub generation: u32,
    /// The snapshot that it was kept for.
    pub snapshot: SnapshotId,
}

/// A generation that nothing writes to any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Frozen {
    /// Which.
    pub generation: u32,
    /// The snapshot whose memory is kept with it; None once it only bears others.
    pub memory: Option<SnapshotId>,
}

/// The frozen generations of `machine` that must be kept: those that `snapshots` name, and those
/// that they or the current one, made from `origin`, were made from; the oldest first.
pub fn frozen(machine: MachineId, origin: Option<u32>, snapshots: &[Snapshot]) -> Vec<Frozen> {
    let known: BTreeMap<u32, Option<u32>> = snapshots
        .iter()
        .filter(|s| matches!(s.state, SnapshotState::Whole | SnapshotState::Deleted))
        .filter_map(|s| s.machine(machine))
        .map(|m| (m.generation, m.origin))
        .collect();
    let named = snapshots.iter().filter(|s| s.state == SnapshotState::Whole);
    let named = named.filter_map(|s| Some((s.id, s.machine(machine)?)));
    let mut kept: BTreeMap<u32, Option<SnapshotId>> =
        named.map(|(id, m)| (m.generation, m.memory.then_some(id))).collect();
    let mut ways: Vec<Option<u32>> = kept.keys().map(|g| known.get(g).copied().flatten()).collect();
    ways.push(origin);
    for way in ways {
        let mut next = way;
        while let Some(generation) = next {
            kept.entry(generation).or_default();
            // What was made from something is younger: no circle.
            next = known.get(&generation).copied().flatten().filter(|older| *older < generation);
        }
    }
    kept.into_iter().map(|(generation, memory)| Frozen { generation, memory }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const M7: MachineId = MachineId(7);

    fn snapshot(id: u32, generation: u32, origin: Option<u32>, state: SnapshotState) -> Snapshot {
        let machine = SnapshottedMachine {
            machine: M7,
            role: MachineRole::Analyst,
            generation,
            origin,
            memory: true,
        };
        Snapshot {
            id: SnapshotId(id),
            environment: EnvironmentId(3),
            name: "a".parse().expect("a name"),
            asked_at: Timestamp::UNIX_EPOCH,
            state,
            machines: vec![machine],
        }
    }

    fn kept(origin: Option<u32>, snapshots: &[Snapshot]) -> Vec<(u32, Option<u32>)> {
        let frozen = frozen(M7, origin, snapshots).into_iter();
        frozen.map(|f| (f.generation, f.memory.map(|s| s.0))).collect()
    }

    #[test]
    fn a_deleted_snapshot_in_the_middle_bears_what_was_made_from_it_without_its_memory() {
        use SnapshotState::*;
        let chain = [
            snapshot(1, 1, None, Whole),
            snapshot(2, 2, Some(1), Deleted),
            snapshot(3, 3, Some(2), Whole),
        ];
        assert_eq!(kept(Some(3), &chain), [(1, Some(1)), (2, None), (3, Some(3))]);
        assert_eq!(kept(Some(1), &chain), [(1, Some(1)), (2, None), (3, Some(3))]);
        // After a revert, and once nothing stands on it.
        assert_eq!(kept(None, &chain[..2]), [(1, Some(1))]);
        assert_eq!(kept(Some(2), &chain[..2]), [(1, Some(1)), (2, None)]);
    }

    #[test]
    fn what_is_being_taken_or_failed_freezes_nothing() {
        let failed = SnapshotState::Failed { why: "no space".into() };
        let all = [snapshot(1, 1, None, SnapshotState::Taking), snapshot(2, 2, None, failed)];
        assert_eq!(kept(None, &all), []);
        assert_eq!(frozen(MachineId(8), None, &all), []);
    }

    #[test]
    fn a_name_is_words_of_any_script_and_nothing_that_hides() {
        for good in ["before the sample", "感染前 1", "v1.2_a-b"] {
            assert_eq!(good.parse::<SnapshotName>().expect(good).as_str(), good);
        }
        assert_eq!(" a ".parse::<SnapshotName>().expect("trimmed").as_str(), "a");
        let long = "a".repeat(41);
        for bad in ["", " ", "-a", "../x", "a\nb", "a\u{202e}b", "<b>", long.as_str()] {
            assert!(bad.parse::<SnapshotName>().is_err(), "{bad:?}");
        }
    }
}
