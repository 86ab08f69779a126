//! When the wall clock is believed: a pure function of readings.
//!
//! Two clocks are read. The wall clock may be set by anybody who sets clocks; the time since the host's
//! start only goes on. What the second says, counted from the last time that was trusted, is what the
//! wall clock is held against. Small corrections are followed, steps are not, until an admin confirms.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The largest step that is followed at once.
pub const SMALL: Duration = Duration::from_secs(10);
/// What all corrections of a day may come to: a clock that is led away in small steps is held, too.
pub const A_DAY: Duration = Duration::from_secs(60);
/// The longest absence of the host after which its clock is believed.
pub const ABSENCE: Duration = Duration::from_secs(3 * 86_400);

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// What the wall clock says.
    pub wall: Timestamp,
    /// Since the host's start, its sleep included.
    pub boot: Duration,
}

/// What has to be kept to go on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The time that is trusted, at `boot_us`.
    pub trusted: Timestamp,
    /// Microseconds since the host's start.
    pub boot_us: u64,
    /// Microseconds that corrections have used up of [`A_DAY`].
    pub used_us: u64,
    /// Why the wall clock is not believed, and since when.
    pub held: Option<(Why, Timestamp)>,
}

/// Why the wall clock is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It was set while the host ran.
    Stepped,
    /// At the host's start it says a time before the last that was trusted.
    Before,
    /// At the host's start it says a time long after the last that was trusted.
    LongAfter,
}

impl Why {
    /// In the trace.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Stepped => "stepped",
            Why::Before => "before",
            Why::LongAfter => "long_after",
        }
    }
}

/// The clock of a lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steady {
    kept: Kept,
    /// What was said last: it never goes back.
    said: Timestamp,
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// How far `to` is from `from`, and whether before it.
fn apart(from: Timestamp, to: Timestamp) -> (Duration, bool) {
    let signed = to.duration_since(from);
    (signed.unsigned_abs(), signed.is_negative())
}

impl Steady {
    /// A clock that has never run: it believes.
    pub fn new(reading: Reading) -> Steady {
        let kept =
            Kept { trusted: reading.wall, boot_us: micros(reading.boot), used_us: 0, held: None };
        Steady { kept, said: reading.wall }
    }

    /// Goes on after a restart of the daemon alone: the time since the host's start has gone on.
    pub fn resume(kept: Kept, reading: Reading) -> Steady {
        let mut steady = Steady { kept, said: kept.trusted };
        steady.read(reading);
        steady
    }

    /// Goes on after a start of the host, when `kept` was the last that was trusted.
    pub fn after_boot(kept: Kept, reading: Reading) -> Steady {
        let (apart, before) = apart(kept.trusted, reading.wall);
        let why = if before && apart > SMALL {
            Some(Why::Before)
        } else if apart > ABSENCE {
            Some(Why::LongAfter)
        } else {
            None
        };
        let trusted = if why.is_some() { kept.trusted } else { kept.trusted.max(reading.wall) };
        let kept = Kept {
            trusted,
            boot_us: micros(reading.boot),
            used_us: 0,
            held: why.map(|why| (why, trusted)),
        };
        Steady { kept, said: trusted }
    }

    /// The time, at `reading`.
    pub fn read(&mut self, reading: Reading) -> Timestamp {
        let passed_us = micros(reading.boot).saturating_sub(self.kept.boot_us);
        let passed = Duration::from_micros(passed_us);
        let expected = self.kept.trusted.checked_add(passed).unwrap_or(Timestamp::MAX);
        let (apart, _) = apart(expected, reading.wall);
        // What corrections have used up comes back with the time.
        let back = passed_us.saturating_mul(micros(A_DAY)) / 86_400_000_000;
        let used_us = self.kept.used_us.saturating_sub(back);
        let near = apart <= SMALL;
        let follows = near && used_us.saturating_add(micros(apart)) <= micros(A_DAY);
        let held = match self.kept.held {
            // It was set back to what it should be.
            Some(_) if near => None,
            None if !follows => Some((Why::Stepped, expected)),
            held => held,
        };
        let trusted = if held.is_none() && near { reading.wall } else { expected };
        let used_us = if held.is_none() { used_us + micros(apart) } else { used_us };
        // Fractions of what comes back would be lost by settling at each reading.
        if passed_us >= 1_000_000 || apart > Duration::from_millis(1) || held != self.kept.held {
            self.kept = Kept { trusted, boot_us: micros(reading.boot), used_us, held };
        }
        self.said = self.said.max(trusted);
        self.said
    }

    /// Believes the wall clock from now on.
    pub fn confirm(&mut self, reading: Reading) {
        *self = Steady::new(reading);
    }

    /// What has to be kept.
    pub fn kept(&self) -> Kept {
        self.kept
    }

    /// Why the wall clock is not believed; None if it is.
    pub fn held(&self) -> Option<(Why, Timestamp)> {
        self.kept.held
    }
}

#[cfg(test)]
mod tests;
