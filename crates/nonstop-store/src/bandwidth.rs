//! Limits of bandwidth that accounts have for themselves.

use crate::{Read, StoreError, Write};
use nonstop_model::{AccountId, AccountName, Bandwidth};
use rusqlite::OptionalExtension;
use serde_json::json;
use std::collections::BTreeMap;

impl Read<'_> {
    /// The limit of each account that has one of its own.
    pub fn bandwidths(&self) -> Result<BTreeMap<AccountId, Bandwidth>, StoreError> {
        let mut statement = self.tx.prepare_cached("SELECT account, kbit FROM bandwidth")?;
        let rows =
            statement.query_map([], |row| Ok((AccountId(row.get(0)?), of_row(row.get(1)?))))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The limit of `account`.
    pub fn bandwidth(&self, account: AccountId) -> Result<Bandwidth, StoreError> {
        let sql = "SELECT kbit FROM bandwidth WHERE account = ?1";
        let kbit = self.tx.query_row(sql, [account.0], |row| row.get(0)).optional()?;
        Ok(kbit.map_or(Bandwidth::Default, of_row))
    }
}

fn of_row(kbit: u32) -> Bandwidth {
    match kbit {
        0 => Bandwidth::Unlimited,
        kbit => Bandwidth::Kbit(kbit),
    }
}

impl Write<'_> {
    /// Sets the limit of the account `name`.
    pub fn set_bandwidth(
        &mut self,
        name: &AccountName,
        bandwidth: Bandwidth,
        reason: &str,
    ) -> Result<(), StoreError> {
        let account = self.account(name)?.id;
        let before = self.bandwidth(account)?;
        let kbit = match bandwidth {
            Bandwidth::Default => None,
            Bandwidth::Unlimited => Some(0),
            Bandwidth::Kbit(kbit) => Some(kbit),
        };
        match kbit {
            None => {
                self.tx.execute("DELETE FROM bandwidth WHERE account = ?1", [account.0])?;
            }
            Some(kbit) => {
                self.tx.execute(
                    "INSERT INTO bandwidth (account, kbit) VALUES (?1, ?2)
                     ON CONFLICT (account) DO UPDATE SET kbit = ?2",
                    (account.0, kbit),
                )?;
            }
        }
        let detail = json!({ "before": before, "bandwidth": bandwidth, "reason": reason });
        self.trace("account.bandwidth", name, detail)
    }
}
