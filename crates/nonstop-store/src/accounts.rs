//! Accounts: who may come in, from where, and to what.

use crate::{NewKey, Read, StoreError, Write, codec};
use ipnet::Ipv4Net;
use jiff::Timestamp;
use nonstop_model::{
    Account, AccountId, AccountName, AccountState, CardKind, EnvironmentId, Role, account,
    lab::ACCOUNT_UIDS,
};
use rusqlite::{OptionalExtension, Row};
use serde_json::json;

/// An account to be entered.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Login name.
    pub name: AccountName,
    /// Name of the person.
    pub full_name: String,
    /// Where the person works.
    pub affiliation: String,
    /// What it may do.
    pub role: Role,
    /// The data domain that it works on; staff have none.
    pub edition: Option<String>,
    /// Networks the person comes from.
    pub sources: Vec<Ipv4Net>,
    /// Its key files.
    pub keys: Vec<NewKey>,
}

const COLUMNS: &str = "id, name, full_name, affiliation, role, state, sources, edition";

impl Read<'_> {
    /// All accounts by name, also removed ones.
    pub fn accounts(&self) -> Result<Vec<Account>, StoreError> {
        let mut statement =
            self.tx.prepare_cached(&format!("SELECT {COLUMNS} FROM accounts ORDER BY name"))?;
        let mut rows = statement.query([])?;
        let mut accounts = Vec::new();
        while let Some(row) = rows.next()? {
            accounts.push(self.account_from(row)?);
        }
        Ok(accounts)
    }

    /// The account called `name`.
    pub fn account(&self, name: &AccountName) -> Result<Account, StoreError> {
        let mut statement =
            self.tx.prepare_cached(&format!("SELECT {COLUMNS} FROM accounts WHERE name = ?1"))?;
        let mut rows = statement.query([name.as_str()])?;
        match rows.next()? {
            Some(row) => self.account_from(row),
            None => Err(StoreError::NoAccount(name.clone())),
        }
    }

    /// The account with `id`.
    pub fn account_by_id(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        let mut statement =
            self.tx.prepare_cached(&format!("SELECT {COLUMNS} FROM accounts WHERE id = ?1"))?;
        let mut rows = statement.query([id.0])?;
        rows.next()?.map(|row| self.account_from(row)).transpose()
    }

    /// When `id` was entered.
    pub fn account_added_at(&self, id: AccountId) -> Result<Timestamp, StoreError> {
        let sql = "SELECT added_at FROM accounts WHERE id = ?1";
        codec::time(self.tx.query_row(sql, [id.0], |row| row.get(0))?)
    }

    fn account_from(&self, row: &Row<'_>) -> Result<Account, StoreError> {
        let id = AccountId(row.get(0)?);
        let text = |column| row.get::<_, String>(column);
        Ok(Account {
            id,
            name: codec::parsed("an account's name", &text(1)?)?,
            full_name: text(2)?,
            affiliation: text(3)?,
            role: codec::parsed("a role", &text(4)?)?,
            state: codec::parsed("a state", &text(5)?)?,
            sources: codec::json("source networks", &text(6)?)?,
            edition: row.get(7)?,
            keys: self.card_keys(id)?,
            uid: ACCOUNT_UIDS + id.0,
            address: account::address(id).ok_or(StoreError::NoAccountId)?,
        })
    }
}

impl Write<'_> {
    /// Enters an account. Its name, keys, uid and address were never given before.
    pub fn add_account(&mut self, new: &NewAccount) -> Result<Account, StoreError> {
        let taken = self
            .tx
            .query_row("SELECT 1 FROM accounts WHERE name = ?1", [new.name.as_str()], |_| Ok(()))
            .optional()?;
        if taken.is_some() {
            return Err(StoreError::NameTaken(new.name.clone()));
        }
        self.tx.execute(
            "INSERT INTO accounts
                 (name, full_name, affiliation, role, state, sources, added_at, edition)
             VALUES (?1, ?2, ?3, ?4, 'active', ?5, ?6, ?7)",
            (
                new.name.as_str(),
                &new.full_name,
                &new.affiliation,
                new.role.as_str(),
                codec::to_json(&new.sources),
                codec::micros(self.now()),
                &new.edition,
            ),
        )?;
        let id = u32::try_from(self.tx.last_insert_rowid())
            .ok()
            .filter(|id| *id < 10_000)
            .map(AccountId)
            .ok_or(StoreError::NoAccountId)?;
        for key in &new.keys {
            self.enter_key(id, CardKind::KeyFile, key, None)?;
        }
        let keys: Vec<_> = new.keys.iter().map(|key| &key.fingerprint).collect();
        let detail = json!({
            "role": new.role, "edition": new.edition, "sources": new.sources, "keys": keys,
        });
        self.trace("account.add", &new.name, detail)?;
        self.account(&new.name)
    }

    /// Sets the data domain that the researcher `name` works on.
    ///
    /// Errors: an environment of another one is not gone yet.
    pub fn set_edition(
        &mut self,
        name: &AccountName,
        edition: &str,
        reason: &str,
    ) -> Result<(), StoreError> {
        let account = self.account(name)?;
        let other = self.tx.query_row(
            "SELECT min(id) FROM environments WHERE account = ?1 AND state <> 'gone'
                 AND json_extract(template_json, '$.domain') <> ?2",
            (account.id.0, edition),
            |row| row.get::<_, Option<u32>>(0),
        )?;
        if let Some(id) = other {
            return Err(StoreError::OfOtherEdition(EnvironmentId(id)));
        }
        self.tx
            .execute("UPDATE accounts SET edition = ?2 WHERE id = ?1", (account.id.0, edition))?;
        let detail = json!({ "before": account.edition, "edition": edition, "reason": reason });
        self.trace("account.edition", name, detail)
    }

    /// Sets the networks that the person comes from.
    pub fn set_sources(
        &mut self,
        name: &AccountName,
        sources: &[Ipv4Net],
        reason: &str,
    ) -> Result<(), StoreError> {
        let account = self.account(name)?;
        self.tx.execute(
            "UPDATE accounts SET sources = ?2 WHERE id = ?1",
            (account.id.0, codec::to_json(&sources)),
        )?;
        let detail = json!({ "before": account.sources, "sources": sources, "reason": reason });
        self.trace("account.sources", name, detail)
    }

    /// Sets whether an account may log in. Removal also revokes its
    /// cards; its name, keys, uid and address stay taken.
    pub fn set_account_state(
        &mut self,
        name: &AccountName,
        state: AccountState,
        reason: &str,
    ) -> Result<(), StoreError> {
        let account = self.account(name)?;
        self.tx.execute(
            "UPDATE accounts SET state = ?2 WHERE id = ?1",
            (account.id.0, state.as_str()),
        )?;
        if state == AccountState::Removed {
            for card in self.cards(Some(name))? {
                self.revoke_card(card.id, reason)?;
            }
        }
        self.trace("account.state", name, json!({ "state": state, "reason": reason }))
    }
}
