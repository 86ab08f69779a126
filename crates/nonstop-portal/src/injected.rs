//! Words of samples and injections: how far they are, how they went in, and how they ended.

use crate::page::{Badge, Page};
use nonstop_api::samples::{InjectionView, SampleView};
use nonstop_model::{InjectBy, InjectionState};

/// Days that are shown of a sample.
const DAYS: usize = 2;

impl Page {
    /// How far an injection is.
    pub(crate) fn injection_badge(&self, state: &InjectionState) -> Badge {
        let s = self.s;
        let (class, text) = match state {
            InjectionState::Preparing => ("busy", s.state_preparing),
            InjectionState::There => ("good", s.state_there),
            InjectionState::Failed => ("bad", s.state_failed),
            InjectionState::Ended => ("quiet", s.state_ended),
        };
        Badge { class, text }
    }

    /// How it went in.
    pub(crate) fn injection_way(&self, by: &InjectBy) -> &'static str {
        match by {
            InjectBy::Disc => self.s.by_disc,
            InjectBy::Agent => self.s.by_agent,
        }
    }

    /// What ended it, in the reader's language; empty where nothing has, or where it never was there.
    pub(crate) fn injection_end<'a>(&self, injection: &'a InjectionView) -> &'a str {
        let s = self.s;
        match injection.ended_by.as_deref().unwrap_or_default() {
            "revert" => s.ended_revert,
            "return" => s.ended_return,
            "eject" => s.ended_eject,
            "replaced" => s.ended_replaced,
            "environment end" => s.ended_environment,
            other => other,
        }
    }

    /// Whether a guest says anything in one of `rows`.
    pub(crate) fn any_guest(&self, rows: &[InjectionView]) -> bool {
        rows.iter().any(|row| row.guest_says.is_some())
    }

    /// The newest days that have a sample.
    pub(crate) fn days(&self, sample: &SampleView) -> Vec<String> {
        sample.days.iter().take(DAYS).map(ToString::to_string).collect()
    }

    /// How many more do; 0 if none.
    pub(crate) fn more_days(&self, sample: &SampleView) -> usize {
        sample.days.len().saturating_sub(DAYS)
    }

    /// First and last day on which a sample was seen.
    pub(crate) fn seen(&self, sample: &SampleView) -> Vec<String> {
        match (sample.first_seen, sample.last_seen) {
            (None, None) => vec!["–".into()],
            (Some(first), Some(last)) if first != last => {
                vec![format!("{first} –"), last.to_string()]
            }
            (first, last) => first.or(last).map(|day| day.to_string()).into_iter().collect(),
        }
    }
}
