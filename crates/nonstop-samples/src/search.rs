//! A search over days, the newest first, page by page.

use crate::{
    days::{Day, DayError},
    digest::Digest,
    index::{Filter, FilterError, IndexError, Sample},
};
use jiff::civil::Date;
use nonstop_api::samples::{SamplePage, SampleQuery, SampleView};
use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

/// A search without an answer.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// What is asked makes no sense.
    #[error(transparent)]
    Query(#[from] FilterError),
    /// A day cannot be read.
    #[error(transparent)]
    Day(#[from] DayError),
    /// It took too long before anything was found.
    #[error("nothing was found in {} seconds: ask for rarer words, or for fewer days", .0.as_secs())]
    Late(Duration),
}

/// What `query` finds in `days`, the newest of which is first, within `time`.
///
/// A sample that several days have is found in the newest of them that it is found in. Where the time
/// is over and something was found, the page ends there and the next goes on.
pub fn search(
    days: &[Arc<Day>],
    query: &SampleQuery,
    time: Duration,
) -> Result<SamplePage, SearchError> {
    let filter = Filter::new(query)?;
    let most = match query.limit {
        0 => SampleQuery::USUAL,
        limit => limit.min(SampleQuery::MOST),
    };
    let (first, mut after) = match &query.after {
        Some(text) => {
            let place = Place::read(text).ok_or(FilterError::After)?;
            (Some(place.day), place.at)
        }
        None => (None, -1),
    };
    let asked: Vec<&Arc<Day>> = days
        .iter()
        .filter(|day| query.from.is_none_or(|from| from <= day.day))
        .filter(|day| query.until.is_none_or(|until| day.day <= until))
        .collect();
    let until = Instant::now() + time;
    let mut page = SamplePage::default();
    let mut told = HashSet::new();
    for (number, day) in asked.iter().enumerate() {
        if first.is_some_and(|first| day.day > first) {
            continue;
        }
        if first.is_some_and(|first| day.day < first) && page.samples.is_empty() {
            // The day of the cursor is done, or is there no more.
            after = -1;
        }
        let newer = &asked[..number];
        loop {
            let wanted = most - page.samples.len() as u32;
            let found = day.index().search(&filter, after, wanted, until);
            let found = match found {
                Ok(found) => found,
                Err(e) if e.is_late() => return late(page, day.day, after, time),
                Err(e) => return Err(DayError::Index(day.day, e).into()),
            };
            let last = (found.len() as u32) < wanted;
            for (at, sample) in found {
                match is_in(newer, &filter, sample.digest, until) {
                    Ok(false) if told.insert(sample.digest) => {
                        page.samples.push(view(days, sample.digest)?);
                    }
                    Ok(_) => {}
                    Err((_, e)) if e.is_late() => return late(page, day.day, after, time),
                    Err((day, e)) => return Err(DayError::Index(day, e).into()),
                }
                after = at;
            }
            if page.samples.len() as u32 >= most {
                page.after = Some(Place { day: day.day, at: after }.to_string());
                return Ok(page);
            }
            if last {
                break;
            }
        }
        after = -1;
    }
    Ok(page)
}

/// The same of those `days` that can be read; the others are left out, and told of in `wrong`.
pub fn search_readable(
    mut days: Vec<Arc<Day>>,
    query: &SampleQuery,
    time: Duration,
    wrong: &mut Vec<DayError>,
) -> Result<SamplePage, SearchError> {
    let until = Instant::now() + time;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match search(&days, query, left) {
            Err(SearchError::Day(DayError::Index(of, e))) if days.iter().any(|d| d.day == of) => {
                days.retain(|day| day.day != of);
                wrong.push(DayError::Index(of, e));
            }
            Err(SearchError::Late(_)) => return Err(SearchError::Late(time)),
            done => return done,
        }
    }
}

fn late(
    mut page: SamplePage,
    day: Date,
    at: i64,
    time: Duration,
) -> Result<SamplePage, SearchError> {
    if page.samples.is_empty() {
        return Err(SearchError::Late(time));
    }
    page.after = Some(Place { day, at }.to_string());
    Ok(page)
}

/// Whether one of `newer` finds `digest` too.
fn is_in(
    newer: &[&Arc<Day>],
    filter: &Filter,
    digest: Digest,
    until: Instant,
) -> Result<bool, (Date, IndexError)> {
    for day in newer {
        let told = |e| (day.day, e);
        let index = day.index();
        if index.sample(digest).map_err(told)?.is_some()
            && index.lets_through(filter, digest, until).map_err(told)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What all `days`, the newest of which is first, know of `digest` together.
///
/// Words are of the newest day that has some, times and reports of all of them. A day that cannot be
/// read is an error only where no other knows the sample.
pub fn view(days: &[Arc<Day>], digest: Digest) -> Result<SampleView, DayError> {
    let mut view = SampleView {
        sha256: digest.to_string(),
        bytes: None,
        kind: String::new(),
        family: String::new(),
        tags: Vec::new(),
        first_seen: None,
        last_seen: None,
        days: Vec::new(),
        source: String::new(),
        reports: 0,
    };
    let mut wrong = None;
    for day in days {
        match day.sample(digest) {
            Ok(Some(sample)) => add(&mut view, day.day, sample),
            Ok(None) => {}
            Err(e) => wrong = Some(e),
        }
    }
    match wrong.filter(|_| view.days.is_empty()) {
        Some(e) => Err(e),
        None => Ok(view),
    }
}

fn add(view: &mut SampleView, day: Date, sample: Sample) {
    let fill = |empty: &mut String, with: String| {
        if empty.is_empty() {
            *empty = with;
        }
    };
    view.bytes = view.bytes.or(sample.place.map(|place| place.bytes));
    fill(&mut view.kind, sample.kind);
    fill(&mut view.family, sample.family);
    fill(&mut view.source, sample.source);
    if view.tags.is_empty() {
        view.tags = sample.tags;
    }
    let (first, last) = (sample.first_seen.unwrap_or(day), sample.last_seen.unwrap_or(day));
    view.first_seen = Some(view.first_seen.map_or(first, |seen| seen.min(first)));
    view.last_seen = Some(view.last_seen.map_or(last, |seen| seen.max(last)));
    view.days.push(day);
    view.reports = view.reports.saturating_add(sample.reports);
}

/// Where a page ended.
struct Place {
    day: Date,
    at: i64,
}

impl Place {
    fn read(text: &str) -> Option<Place> {
        let (day, at) = text.split_once('.')?;
        let at = at.parse().ok().filter(|at| *at >= 0)?;
        Some(Place { day: crate::days::day_of(day)?, at })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.day, self.at)
    }
}
