//! Sessions at the gateway: listing, ending, those that were refused, and logins a day.

use super::{Service, refusal};
use crate::caller::Caller;
use jiff::Timestamp;
use nonstop_api::{
    ApiError, DayOfLoginsView, ErrorCode, FlowView, RefusedLoginsView, RefusedView, RepeatedView,
    Reply, SessionView,
};
use nonstop_model::CardId;
use nonstop_store::{Flows, LoginRefusal, Session, StoreError};
use std::{collections::BTreeMap, time::Duration};

/// So many refusals within a day are told as repeated.
const REPEATED: u64 = 3;
/// Rows of refusals that are told.
const ROWS: u32 = 500;
/// Days of logins that are told, and over how many the average goes.
const DAYS: u16 = 30;
const AVERAGE_OF: u16 = 20;

impl Service {
    pub(super) fn session_list(&self, caller: &Caller, all: bool) -> Result<Reply, ApiError> {
        let own = caller.account().map(|account| account.name.clone());
        let may_see =
            |session: &Session| caller.is_staff() || Some(&session.account) == own.as_ref();
        let sessions = self.db.read(|read| {
            let sessions = read.sessions(all)?.into_iter().filter(may_see);
            let views = sessions.map(|session| {
                let card = read.card_of_key(&session.fingerprint)?.map(|card| card.id);
                let flows = match session.closed_at {
                    Some(_) => read.flows(session.id)?,
                    None => self.meter.flows(session.id).0,
                };
                Ok(session_view(flows, session, card))
            });
            views.collect::<Result<Vec<SessionView>, StoreError>>()
        });
        Ok(Reply::Sessions(sessions.map_err(refusal)?))
    }

    pub(super) fn session_end(&self, caller: &Caller, id: u64) -> Result<Reply, ApiError> {
        let session = self.db.read(|read| read.session(id)).map_err(refusal)?;
        caller.must_own(&session.account, &format!("session {id}"))?;
        if session.closed_at.is_some() {
            let message = format!("session {id} has ended already");
            return Err(ApiError::new(ErrorCode::Conflict, message));
        }
        let why = format!("ended by {}", caller.actor());
        self.commit(caller, |w| w.end_session(id, &why))?;
        Ok(Reply::Done)
    }

    pub(super) fn refused_logins(&self, caller: &Caller, hours: u32) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        let since = self.before(Duration::from_secs(3600 * u64::from(hours.clamp(1, 24 * 366))));
        let (rows, all) = self
            .db
            .read(|read| {
                Ok::<_, StoreError>((read.refusals(since, ROWS)?, read.refused_since(since)?))
            })
            .map_err(refusal)?;
        let by_user = repeated(&rows, |row| &row.user);
        let by_source = repeated(&rows, |row| &row.source);
        let rows = rows.into_iter().map(refused_view).collect();
        Ok(Reply::RefusedLogins(RefusedLoginsView { since, all, by_user, by_source, rows }))
    }

    /// Logins a day, with their moving average; refused logins of the last day, and by how many
    /// accounts or addresses they were repeated.
    pub(super) fn logins(&self) -> Result<(Vec<DayOfLoginsView>, u64, u64), StoreError> {
        let now = self.now();
        let since = self.before(Duration::from_secs(86_400));
        let (days, refused, rows) = self.db.read(|read| {
            Ok::<_, StoreError>((
                read.logins_a_day(DAYS + AVERAGE_OF - 1, now)?,
                read.refused_since(since)?,
                read.refusals(since, ROWS)?,
            ))
        })?;
        let repeated =
            repeated(&rows, |row| &row.user).len() + repeated(&rows, |row| &row.source).len();
        Ok((moving(&days), refused, repeated as u64))
    }

    fn before(&self, time: Duration) -> Timestamp {
        self.now().checked_sub(time).unwrap_or(Timestamp::MIN)
    }
}

/// Each of the last days, with the average of the twenty days that end with it.
fn moving(days: &[(String, u64)]) -> Vec<DayOfLoginsView> {
    let windows = days.windows(usize::from(AVERAGE_OF));
    let views = windows.filter_map(|window| {
        let (day, logins) = window.last()?;
        let sum: u64 = window.iter().map(|(_, logins)| logins).sum();
        let average = sum as f64 / f64::from(AVERAGE_OF);
        Some(DayOfLoginsView { day: day.clone(), logins: *logins, average })
    });
    views.collect()
}

/// Who or what was refused again and again.
fn repeated(rows: &[LoginRefusal], of: impl Fn(&LoginRefusal) -> &String) -> Vec<RepeatedView> {
    let mut sums = BTreeMap::<&String, (u64, Timestamp)>::new();
    for row in rows.iter().filter(|row| !of(row).is_empty()) {
        let (tries, last) = sums.entry(of(row)).or_insert((0, row.last_at));
        *tries = tries.saturating_add(row.tries);
        *last = (*last).max(row.last_at);
    }
    let often = sums.into_iter().filter(|(_, (tries, _))| *tries >= REPEATED);
    let mut often: Vec<RepeatedView> = often
        .map(|(what, (tries, last_at))| RepeatedView { what: what.clone(), tries, last_at })
        .collect();
    often.sort_by_key(|r| std::cmp::Reverse(r.tries));
    often.truncate(50);
    often
}

fn refused_view(row: LoginRefusal) -> RefusedView {
    RefusedView {
        first_at: row.first_at,
        last_at: row.last_at,
        user: row.user,
        source: row.source,
        why: row.why,
        reason: row.reason,
        key: row.fingerprint,
        client: row.client,
        tries: row.tries,
    }
}

fn session_view(flows: Flows, session: Session, card: Option<CardId>) -> SessionView {
    let flow = |(target, flow): (String, nonstop_store::Flow)| FlowView {
        target,
        bytes_in: flow.bytes_in,
        bytes_out: flow.bytes_out,
        connections: flow.connections,
    };
    SessionView {
        id: session.id,
        account: session.account,
        source: session.source,
        key: session.fingerprint,
        card,
        client: session.client,
        opened_at: session.opened_at,
        closed_at: session.closed_at,
        ended: session.ended,
        uncounted: session.uncounted,
        flows: flows.into_iter().map(flow).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_is_of_the_twenty_days_that_end_with_each() {
        let days: Vec<_> = (0..21).map(|n| (format!("day {n}"), n)).collect();
        let views = moving(&days);
        let told: Vec<_> = views.iter().map(|v| (v.day.as_str(), v.logins, v.average)).collect();
        assert_eq!(told, [("day 19", 19, 9.5), ("day 20", 20, 10.5)]);
    }
}
