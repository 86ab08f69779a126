//! Requests: made once, decided once.

use crate::{Read, StoreError, Write, codec};
use nonstop_model::{
    AccountName, EnvironmentId, Period, Request, RequestId, RequestState, TemplateName,
};
use rusqlite::Row;
use serde_json::json;

/// A request to be entered.
#[derive(Debug, Clone)]
pub struct NewRequest {
    /// Who applies.
    pub account: AccountName,
    /// For which template.
    pub template: TemplateName,
    /// From when until when.
    pub period: Period,
    /// What for.
    pub purpose: String,
}

const SELECT: &str = "SELECT r.id, a.name, r.template, r.from_at, r.until_at, r.purpose, r.made_at,
    r.state, r.decided_by, r.reason, r.environment
    FROM requests r JOIN accounts a ON a.id = r.account";

impl Read<'_> {
    /// All requests, newest first; with `account`, that account's.
    pub fn requests(&self, account: Option<&AccountName>) -> Result<Vec<Request>, StoreError> {
        let sql = format!("{SELECT} WHERE ?1 IS NULL OR a.name = ?1 ORDER BY r.id DESC");
        let mut statement = self.tx.prepare_cached(&sql)?;
        codec::all(statement.query([account.map(AccountName::as_str)])?, request_from)
    }

    /// The request `id`.
    pub fn request(&self, id: RequestId) -> Result<Request, StoreError> {
        let mut statement = self.tx.prepare_cached(&format!("{SELECT} WHERE r.id = ?1"))?;
        let mut rows = statement.query([id.0])?;
        rows.next()?.map_or(Err(StoreError::NoRequest(id)), request_from)
    }
}

fn request_from(row: &Row<'_>) -> Result<Request, StoreError> {
    let text = |column| row.get::<_, String>(column);
    let period = Period::new(codec::time(row.get(3)?)?, codec::time(row.get(4)?)?);
    let state = match text(7)?.as_str() {
        "open" => RequestState::Open,
        "approved" => {
            RequestState::Approved { by: text(8)?, environment: EnvironmentId(row.get(10)?) }
        }
        _ => RequestState::Refused { by: text(8)?, reason: text(9)? },
    };
    Ok(Request {
        id: RequestId(row.get(0)?),
        account: codec::parsed("an account's name", &text(1)?)?,
        template: codec::parsed("a template's name", &text(2)?)?,
        period: period.map_err(|e| codec::corrupt("a period", e))?,
        purpose: text(5)?,
        made_at: codec::time(row.get(6)?)?,
        state,
    })
}

impl Write<'_> {
    /// Enters a request.
    pub fn add_request(&mut self, new: &NewRequest) -> Result<RequestId, StoreError> {
        let account = self.account(&new.account)?;
        self.tx.execute(
            "INSERT INTO requests (account, template, from_at, until_at, purpose, made_at, state)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'open')",
            (
                account.id.0,
                new.template.as_str(),
                codec::micros(new.period.from()),
                codec::micros(new.period.until()),
                &new.purpose,
                codec::micros(self.now()),
            ),
        )?;
        let id = u32::try_from(self.tx.last_insert_rowid())
            .map(RequestId)
            .map_err(|e| codec::corrupt("a request's number", e))?;
        let detail = json!({
            "account": new.account, "template": new.template, "period": new.period,
            "purpose": new.purpose,
        });
        self.trace("request.apply", &id, detail)?;
        Ok(id)
    }

    /// Refuses an open request.
    pub fn refuse_request(&mut self, id: RequestId, reason: &str) -> Result<(), StoreError> {
        self.decide(id, "refused", Some(reason), None)?;
        self.trace("request.refuse", &id, json!({ "reason": reason }))
    }

    /// Approves an open request by an environment that was made for it in this transaction.
    pub fn approve_request(
        &mut self,
        id: RequestId,
        environment: EnvironmentId,
    ) -> Result<(), StoreError> {
        self.decide(id, "approved", None, Some(environment))?;
        self.trace("request.approve", &id, json!({ "environment": environment }))
    }

    fn decide(
        &mut self,
        id: RequestId,
        state: &str,
        reason: Option<&str>,
        environment: Option<EnvironmentId>,
    ) -> Result<(), StoreError> {
        self.request(id)?;
        let changed = self.tx.execute(
            "UPDATE requests SET state = ?2, decided_by = ?3, reason = ?4, environment = ?5
             WHERE id = ?1 AND state = 'open'",
            (id.0, state, self.actor(), reason, environment.map(|e| e.0)),
        )?;
        if changed == 0 { Err(StoreError::Decided(id)) } else { Ok(()) }
    }
}
