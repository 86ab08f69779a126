//! Periods: from when until when a right holds.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A half-open span of time: `from` belongs to it, `until` does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawPeriod")]
pub struct Period {
    from: Timestamp,
    until: Timestamp,
}

/// A period that would end before it starts, or at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a period must end after it starts, but {until} is not after {from}")]
pub struct PeriodError {
    from: Timestamp,
    until: Timestamp,
}

#[derive(Deserialize)]
struct RawPeriod {
    from: Timestamp,
    until: Timestamp,
}

impl TryFrom<RawPeriod> for Period {
    type Error = PeriodError;

    fn try_from(raw: RawPeriod) -> Result<Self, PeriodError> {
        Period::new(raw.from, raw.until)
    }
}

impl Period {
    /// The period from `from` (in it) to `until` (outside it).
    pub fn new(from: Timestamp, until: Timestamp) -> Result<Period, PeriodError> {
        if from < until { Ok(Period { from, until }) } else { Err(PeriodError { from, until }) }
    }

    /// When it starts.
    pub fn from(&self) -> Timestamp {
        self.from
    }

    /// The first instant after it.
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// Whether `now` lies in it.
    pub fn contains(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }

    /// Whether some instant lies in both.
    pub fn overlaps(&self, other: &Period) -> bool {
        self.from < other.until && other.from < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a small number of seconds")
    }

    #[test]
    fn the_end_is_outside_and_the_start_inside() {
        let period = Period::new(at(10), at(20)).expect("ordered");
        assert!(period.contains(at(10)) && period.contains(at(19)) && !period.contains(at(20)));
        assert!(!period.overlaps(&Period::new(at(20), at(30)).expect("ordered")));
    }

    #[test]
    fn an_empty_period_cannot_be_made_nor_read() {
        assert!(Period::new(at(10), at(10)).is_err());
        let json = r#"{"from":"2030-01-02T00:00:00Z","until":"2030-01-01T00:00:00Z"}"#;
        assert!(serde_json::from_str::<Period>(json).is_err());
    }
}
