//! How a sender's packets lie over the minutes of a day.

use super::dice::Dice;

/// Minutes of a day.
pub(super) const MINUTES: u64 = 24 * 60;

/// How busy people's machines are at each hour of theirs, of a thousand.
const HOURS: [u64; 24] = [
    520, 430, 370, 340, 330, 350, 420, 540, 690, 820, 900, 940, 950, 970, 1000, 990, 970, 960, 970,
    990, 980, 920, 800, 650,
];

/// Parts of the day's packets: sums up to each minute.
pub(super) struct Rate {
    parts: Vec<u64>,
}

impl Rate {
    /// That of somebody `zone` hours from UTC, or who never sleeps, over a day that begins `hours` from
    /// UTC's.
    pub(super) fn of(hours: i64, zone: Option<i64>) -> Self {
        let part = |minute: u64| {
            let Some(zone) = zone else { return 1000 * 60 };
            let local = minute as i64 + 60 * (hours + zone);
            let (hour, past) = (local.div_euclid(60), local.rem_euclid(60) as u64);
            let at = |hour: i64| HOURS[hour.rem_euclid(24) as usize];
            at(hour) * (60 - past) + at(hour + 1) * past
        };
        Self { parts: (0..MINUTES).map(part).collect() }
    }

    /// The same from minute `begin` up to `end`, or to the end of the day; nothing outside.
    pub(super) fn within(mut self, begin: u64, end: u64) -> Self {
        for (minute, part) in (0..).zip(&mut self.parts) {
            if !(begin..end).contains(&minute) {
                *part = 0;
            }
        }
        self
    }

    /// The same with what chance does to each minute.
    pub(super) fn uneven(mut self, dice: &mut Dice) -> Self {
        for part in &mut self.parts {
            *part = *part * dice.between(850, 1150) / 1000;
        }
        self
    }

    /// The same of senders whose number grows over the day.
    pub(super) fn growing(mut self, now: u64, then: u64) -> Self {
        for (minute, part) in (0..).zip(&mut self.parts) {
            *part = *part * (now * MINUTES + (then - now) * minute) / (1000 * MINUTES);
        }
        self
    }

    /// How many of `packets` come in each minute: their sum is `packets`. Where `phase`, of 2^32,
    /// makes those with few packets differ.
    pub(super) fn counts(&self, packets: u64, phase: u32) -> Vec<u32> {
        let all: u128 = self.parts.iter().map(|part| u128::from(*part)).sum();
        assert!(all > 0, "some minute is busy");
        let phase = (all * u128::from(phase)) >> 32;
        let (mut sum, mut before) = (0, 0);
        let count = |part: &u64| {
            sum += u128::from(*part);
            let until = (u128::from(packets) * sum + phase) / all;
            let count = until - before;
            before = until;
            count as u32
        };
        self.parts.iter().map(count).collect()
    }
}
