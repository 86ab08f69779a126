//! Whether a name may be changed by a client: its conditions, and the locks of others.

use super::{Request, Talk};
use crate::{
    guard,
    if_header::{If, State},
    refusal::{Outcome, Refusal},
    target::{Spot, Target, href},
};
use nonstop_api::airlock::{Entry, EntryKind, Place};
use nonstop_http::{Condition, Version, condition};

/// What a change does to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Touch {
    /// What it holds becomes another.
    Within,
    /// The name comes, or goes with all below it.
    Name,
}

/// A file's version.
pub(super) fn version(entry: &Entry) -> Option<Version> {
    match &entry.what {
        EntryKind::Folder => None,
        EntryKind::File { tag, .. } => {
            Some(Version { etag: format!("\"{tag}\""), modified: entry.modified_at })
        }
    }
}

impl Talk<'_> {
    /// The tokens that a client says to have, if its conditions hold: `If-Match` and its like on
    /// what is at the request's name, and `If`.
    pub(super) fn conditions(
        &mut self,
        request: &Request<'_>,
        place: &Place,
        there: Option<&Entry>,
    ) -> Outcome<Vec<String>> {
        let known = there.map(|entry| {
            // A folder has no version; it is there, which `*` asks for.
            version(entry).unwrap_or(Version { etag: String::new(), modified: entry.modified_at })
        });
        if condition(request.head, known.as_ref()) != Condition::Holds {
            return Err(Refusal::precondition());
        }
        let Some(field) = request.head.list("if") else { return Ok(vec![]) };
        let asked = If::parse(&field)
            .ok_or_else(|| Refusal::bad("the header field If cannot be understood"))?;
        for list in &asked.0 {
            if self.holds(request, list, place, there)? {
                return Ok(asked.tokens());
            }
        }
        Err(Refusal::precondition())
    }

    fn holds(
        &mut self,
        request: &Request<'_>,
        list: &crate::if_header::List,
        place: &Place,
        there: Option<&Entry>,
    ) -> Outcome<bool> {
        let (place, etag) = match &list.on {
            None => (Some(place.clone()), there.and_then(version)),
            Some(on) => {
                let host = guard::host(request.head);
                let own = self.environment;
                match Target::parse(self.site.side, own, on, &host).map(|found| found.spot) {
                    Ok(Spot::In(other)) => {
                        // What the client may not see counts as not there.
                        let there = self.asker.look(&other).ok().flatten();
                        (Some(other), there.as_ref().and_then(version))
                    }
                    _ => (None, None),
                }
            }
        };
        let locks = place.map(|place| self.site.locks.on(&place)).unwrap_or_default();
        Ok(list.conditions.iter().all(|(wanted, state)| {
            let is = match state {
                State::Token(token) => locks.iter().any(|lock| lock.token == *token),
                State::Tag(tag) => etag.as_ref().is_some_and(|version| version.etag == *tag),
            };
            is == *wanted
        }))
    }

    /// Admits a change of a name by a client that has `tokens`.
    pub(super) fn unlocked(&self, place: &Place, touch: Touch, tokens: &[String]) -> Outcome<()> {
        let locks = &self.site.locks;
        let refuse = |place: &Place| Err(Refusal::locked(href(self.site.side, place, false)));
        // One token is enough of those that share a lock.
        let missed = |held: &[crate::locks::Lock]| {
            !held.is_empty() && !held.iter().any(|lock| tokens.contains(&lock.token))
        };
        let own = locks.on(place);
        if missed(&own) {
            return refuse(&own[0].place);
        }
        if touch == Touch::Name {
            if let Some((parent, _)) = place.path.split() {
                let parent = Place { path: parent, ..place.clone() };
                let held = locks.on(&parent);
                if missed(&held) {
                    return refuse(&parent);
                }
            }
            if let Some(lock) = locks.below(place).iter().find(|lock| !tokens.contains(&lock.token))
            {
                return refuse(&lock.place);
            }
        }
        Ok(())
    }

    /// Where changes are possible at all.
    pub(super) fn writable(&self, place: &Place) -> Outcome<()> {
        if self.site.is_writable(place) { Ok(()) } else { Err(Refusal::read_only()) }
    }
}
