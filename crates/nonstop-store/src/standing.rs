//! Whether somebody may transfer files now: what is asked again for each request.

use crate::{Read, StoreError, codec};
use jiff::Timestamp;
use nonstop_model::{AccountId, AccountName, EnvironmentId, Period};
use rusqlite::Row;

/// An environment, as far as transfers ask for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Which.
    pub environment: EnvironmentId,
    /// Of which template.
    pub template: String,
    /// Whose.
    pub account: AccountId,
    /// The name of that.
    pub name: AccountName,
    /// Whether the account is active.
    pub active: bool,
    /// Whether it is granted, and not ended.
    pub granted: bool,
    /// From when until when.
    pub period: Period,
}

impl Standing {
    /// Whether files may be transferred at `now`.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.active && self.granted && self.period.contains(now)
    }
}

const SELECT: &str = "SELECT e.id, e.template, a.id, a.name, a.state = 'active',
    e.state = 'granted', e.from_at, e.until_at
    FROM environments e JOIN accounts a ON a.id = e.account";

impl Read<'_> {
    /// How the environment `id` stands.
    pub fn standing(&self, id: EnvironmentId) -> Result<Option<Standing>, StoreError> {
        let mut statement = self.tx.prepare_cached(&format!("{SELECT} WHERE e.id = ?1"))?;
        Ok(codec::all(statement.query([id.0])?, standing_from)?.pop())
    }

    /// How the environments of `account` stand that are granted, newest first.
    pub fn standings_of(&self, account: AccountId) -> Result<Vec<Standing>, StoreError> {
        let sql = format!("{SELECT} WHERE a.id = ?1 AND e.state = 'granted' ORDER BY e.id DESC");
        let mut statement = self.tx.prepare_cached(&sql)?;
        codec::all(statement.query([account.0])?, standing_from)
    }

    /// Environments that are gone, but still have names or contents.
    pub fn gone_with_transfers(&self) -> Result<Vec<EnvironmentId>, StoreError> {
        let mut statement = self.tx.prepare_cached(
            "SELECT e.id FROM environments e WHERE e.state = 'gone'
                 AND (EXISTS (SELECT 1 FROM entries n WHERE n.environment = e.id)
                     OR EXISTS (SELECT 1 FROM blobs b WHERE b.environment = e.id AND b.going = 0))",
        )?;
        codec::all(statement.query([])?, |row| Ok(EnvironmentId(row.get(0)?)))
    }
}

fn standing_from(row: &Row<'_>) -> Result<Standing, StoreError> {
    let period = Period::new(codec::time(row.get(6)?)?, codec::time(row.get(7)?)?);
    Ok(Standing {
        environment: EnvironmentId(row.get(0)?),
        template: row.get(1)?,
        account: AccountId(row.get(2)?),
        name: codec::parsed("an account's name", &row.get::<_, String>(3)?)?,
        active: row.get(4)?,
        granted: row.get(5)?,
        period: period.map_err(|e| codec::corrupt("a period", e))?,
    })
}
