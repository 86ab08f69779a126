//! Whether one more environment fits into the lab.

use crate::time::Period;

/// What an environment takes while its period lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// From when until when.
    pub period: Period,
    /// Memory of its machines in MiB.
    pub memory_mib: u64,
    /// How many machines.
    pub machines: u64,
}

/// What the lab has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Memory for machines in MiB.
    pub memory_mib: u64,
    /// Machines at once.
    pub machines: u64,
}

/// Why it does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// Too little memory.
    #[error(
        "the lab has {room_mib} MiB for machines, {taken_mib} MiB of it are taken at the busiest time of this period, and this needs {needed_mib} MiB"
    )]
    Memory {
        /// What there is.
        room_mib: u64,
        /// What others have at the busiest time.
        taken_mib: u64,
        /// What this one needs.
        needed_mib: u64,
    },
    /// Too many machines.
    #[error(
        "the lab runs {room} machines at once, {taken} are taken at the busiest time of this period, and this needs {needed}"
    )]
    Machines {
        /// What there is.
        room: u64,
        /// What others have at the busiest time.
        taken: u64,
        /// What this one needs.
        needed: u64,
    },
}

/// Whether `new` fits beside `others` at every instant of its period.
pub fn fits(room: Room, others: &[Load], new: Load) -> Result<(), Full> {
    let beside: Vec<&Load> = others.iter().filter(|l| l.period.overlaps(&new.period)).collect();
    // What is taken grows only where a period begins.
    let begins = beside.iter().map(|l| l.period.from()).chain([new.period.from()]);
    for at in begins.filter(|at| new.period.contains(*at)) {
        let there = beside.iter().filter(|l| l.period.contains(at));
        let (memory, machines) = there.fold((0, 0), |(m, n), l| (m + l.memory_mib, n + l.machines));
        if memory + new.memory_mib > room.memory_mib {
            return Err(Full::Memory {
                room_mib: room.memory_mib,
                taken_mib: memory,
                needed_mib: new.memory_mib,
            });
        }
        if machines + new.machines > room.machines {
            return Err(Full::Machines {
                room: room.machines,
                taken: machines,
                needed: new.machines,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn load(from: i64, until: i64, memory_mib: u64) -> Load {
        let at = |s| Timestamp::from_second(s).expect("small");
        let period = Period::new(at(from), at(until)).expect("ordered");
        Load { period, memory_mib, machines: 1 }
    }

    #[test]
    fn environments_one_after_another_share_the_same_room() {
        let room = Room { memory_mib: 1000, machines: 10 };
        let others = [load(0, 10, 800), load(20, 30, 800)];
        assert_eq!(fits(room, &others, load(10, 20, 800)), Ok(()));
        assert!(matches!(
            fits(room, &others, load(5, 25, 300)),
            Err(Full::Memory { taken_mib: 800, .. })
        ));
    }

    #[test]
    fn the_number_of_machines_counts_too() {
        let room = Room { memory_mib: 10_000, machines: 1 };
        assert!(matches!(
            fits(room, &[load(0, 10, 1)], load(9, 12, 1)),
            Err(Full::Machines { .. })
        ));
    }
}
