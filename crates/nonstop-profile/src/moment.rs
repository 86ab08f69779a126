//! Moments: seconds since 1970 (UTC).

use serde::{Deserialize, Serialize};
use std::fmt;

/// A second of UTC, as the lab's clock has it. Shown as `2026-11-28 21:00 UTC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Moment(u64);

/// The first second of the year 10000, which no lab will see.
const END: u64 = 253_402_300_800;

impl Moment {
    /// The moment `seconds` after 1970 began; None from the year 10000 on.
    pub fn from_seconds(seconds: u64) -> Option<Moment> {
        (seconds < END).then_some(Moment(seconds))
    }

    /// Seconds since 1970 began.
    pub fn seconds(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for Moment {
    type Error = &'static str;

    fn try_from(seconds: u64) -> Result<Moment, Self::Error> {
        Moment::from_seconds(seconds).ok_or("a moment after the year 9999")
    }
}

impl From<Moment> for u64 {
    fn from(moment: Moment) -> u64 {
        moment.0
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0 / 86_400, self.0 % 86_400);
        let (year, month, day) = date(days);
        let (hour, minute) = (second / 3600, second / 60 % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
    }
}

/// Year, month and day of the day `days` after 1970-01-01: years are counted from March, so that
/// the day that some have comes last.
fn date(days: u64) -> (u64, u64, u64) {
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_shown_as_dates() {
        for (seconds, shown) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_795_899_540, "2026-11-28 20:59 UTC"),
            (4_107_542_399, "2100-02-28 23:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
            (END - 1, "9999-12-31 23:59 UTC"),
        ] {
            assert_eq!(Moment::from_seconds(seconds).expect("in time").to_string(), shown);
        }
        assert_eq!(Moment::from_seconds(END), None);
    }
}
