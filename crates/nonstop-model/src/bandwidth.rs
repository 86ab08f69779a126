//! How fast an account may move bytes through the gateway.

use crate::account::Role;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The least that a limit may be, in kbit/s: a modem's, on which nobody sees a desktop any more.
pub const LEAST_KBIT: u32 = 64;

/// The most, in kbit/s.
pub const MOST_KBIT: u32 = 10_000_000;

/// What an account's limit is, each way, shared by all its sessions: `default`, `none`, or a number
/// in kbit/s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Bandwidth {
    /// The lab's for researchers; none for staff.
    #[default]
    Default,
    /// None.
    Unlimited,
    /// So many kbit/s; made by parsing alone, which checks its bounds.
    Kbit(u32),
}

/// A text that is no limit of bandwidth.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no bandwidth: use kbit/s from {LEAST_KBIT} to {MOST_KBIT}, such as 10000 for 10 Mbit/s, or `none`, \
     or `default`"
)]
pub struct BandwidthError(String);

impl Bandwidth {
    /// The limit in kbit/s of somebody of `role` in a lab whose researchers have `default`.
    pub fn kbit(self, role: Role, default: Option<u32>) -> Option<u32> {
        match (self, role) {
            (Bandwidth::Kbit(kbit), _) => Some(kbit),
            (Bandwidth::Unlimited, _) | (Bandwidth::Default, Role::Staff) => None,
            (Bandwidth::Default, Role::Researcher) => default,
        }
    }
}

impl FromStr for Bandwidth {
    type Err = BandwidthError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.parse()) {
            ("default", _) => Ok(Bandwidth::Default),
            ("none", _) => Ok(Bandwidth::Unlimited),
            (_, Ok(kbit)) if (LEAST_KBIT..=MOST_KBIT).contains(&kbit) => Ok(Bandwidth::Kbit(kbit)),
            _ => Err(BandwidthError(text.chars().filter(|c| !c.is_control()).take(40).collect())),
        }
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bandwidth::Default => f.pad("default"),
            Bandwidth::Unlimited => f.pad("none"),
            Bandwidth::Kbit(kbit) => write!(f, "{kbit}"),
        }
    }
}

impl From<Bandwidth> for String {
    fn from(bandwidth: Bandwidth) -> String {
        bandwidth.to_string()
    }
}

impl TryFrom<String> for Bandwidth {
    type Error = BandwidthError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_within_bounds_or_one_of_two_words() {
        for good in ["default", "none", "64", "10000", "10000000"] {
            assert_eq!(good.parse::<Bandwidth>().expect(good).to_string(), good);
        }
        for bad in ["", "0", "63", "10000001", "-1", "10 Mbit/s", "unlimited", "1e4"] {
            assert!(bad.parse::<Bandwidth>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_labs_limit_is_for_researchers_who_have_none_of_their_own() {
        let of = |role| {
            [Bandwidth::Default, Bandwidth::Unlimited, Bandwidth::Kbit(500)]
                .map(|bandwidth| bandwidth.kbit(role, Some(9000)))
        };
        assert_eq!(of(Role::Researcher), [Some(9000), None, Some(500)]);
        assert_eq!(of(Role::Staff), [None, None, Some(500)]);
    }
}
