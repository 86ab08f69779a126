//! Accounts: entering, listing, suspending.

use super::{Service, cards::key, one_line, refusal};
use crate::caller::Caller;
use ipnet::Ipv4Net;
use nonstop_api::{AccountView, ApiError, ErrorCode, Reply};
use nonstop_model::{Account, AccountName, AccountState, Bandwidth, EnvironmentState, Role};
use nonstop_store::NewAccount;

/// An account as somebody entered it.
pub(super) struct Entry {
    pub(super) name: AccountName,
    pub(super) full_name: String,
    pub(super) affiliation: String,
    pub(super) role: Role,
    pub(super) edition: Option<String>,
    pub(super) sources: Vec<Ipv4Net>,
    pub(super) keys: Vec<String>,
}

impl Service {
    pub(super) fn account_add(&self, caller: &Caller, entry: Entry) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        if entry.role == Role::Staff {
            caller.must_be_admin()?;
        }
        if !entry.keys.is_empty() && !self.lab.software_keys {
            return Err(ApiError::new(ErrorCode::Forbidden, "this lab takes cards, not key files")
                .help("issue a card, or set `software_keys: true` in lab.yaml for a demo"));
        }
        let new = NewAccount {
            name: entry.name,
            full_name: one_line("full name", &entry.full_name, 100)?,
            affiliation: one_line("affiliation", &entry.affiliation, 100)?,
            role: entry.role,
            edition: self.edition_of(entry.role, entry.edition)?,
            keys: entry.keys.iter().map(|line| key(line)).collect::<Result<_, _>>()?,
            sources: networks(entry.sources)?,
        };
        let account = self.commit(caller, |w| w.add_account(&new))?;
        Ok(Reply::Account(self.account_view(&account)?))
    }

    /// The edition of a new account: of a researcher the one that is named, or the only one there is.
    fn edition_of(&self, role: Role, named: Option<String>) -> Result<Option<String>, ApiError> {
        let domains = &self.lab.data_domains;
        match (role, named) {
            (Role::Staff, None) => Ok(None),
            (Role::Staff, Some(_)) => {
                Err(ApiError::new(ErrorCode::Invalid, "staff have no edition: they see all")
                    .help("leave `--edition` out, or add a researcher"))
            }
            (Role::Researcher, Some(edition)) => self.known_edition(&edition).map(Some),
            (Role::Researcher, None) if domains.len() > 1 => {
                Err(ApiError::new(ErrorCode::Invalid, "of which edition is the account?")
                    .help(format!("name one of {}: `--edition NAME`", self.editions().join(", "))))
            }
            (Role::Researcher, None) => Ok(domains.keys().next().cloned()),
        }
    }

    /// The names of the lab's editions.
    pub(super) fn editions(&self) -> Vec<String> {
        self.lab.data_domains.keys().cloned().collect()
    }

    fn known_edition(&self, edition: &str) -> Result<String, ApiError> {
        if self.lab.data_domains.contains_key(edition) {
            return Ok(edition.into());
        }
        let short: String = edition.chars().filter(|c| !c.is_control()).take(40).collect();
        let help = match self.editions().as_slice() {
            [] => "lab.yaml has no `data_domains`: leave the edition out".into(),
            names => format!("it has {}", names.join(", ")),
        };
        let message = format!("this lab has no data domain `{short}` and hence no such edition");
        Err(ApiError::new(ErrorCode::Invalid, message).help(help))
    }

    pub(super) fn account_edition(
        &self,
        caller: &Caller,
        name: &AccountName,
        edition: &str,
        reason: &str,
    ) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        let reason = one_line("reason", reason, 500)?;
        let edition = self.known_edition(edition)?;
        let account = self.db.read(|read| read.account(name)).map_err(refusal)?;
        if account.role == Role::Staff || account.state == AccountState::Removed {
            let message = format!("`{name}` is not a researcher of this lab");
            return Err(ApiError::new(ErrorCode::Conflict, message).help("staff have no edition"));
        }
        if account.edition.as_deref() != Some(&edition) {
            self.commit(caller, |w| w.set_edition(name, &edition, &reason))?;
        }
        Ok(Reply::Done)
    }

    /// The account `name`, for staff who want to change it: one of staff is changed by admins alone.
    pub(super) fn account_to_change(
        &self,
        caller: &Caller,
        name: &AccountName,
    ) -> Result<Account, ApiError> {
        let account = self.db.read(|read| read.account(name)).map_err(refusal)?;
        if account.role == Role::Staff {
            caller.must_be_admin()?;
        }
        Ok(account)
    }

    pub(super) fn account_bandwidth(
        &self,
        caller: &Caller,
        name: &AccountName,
        bandwidth: Bandwidth,
        reason: &str,
    ) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        let reason = one_line("reason", reason, 500)?;
        let account = self.account_to_change(caller, name)?;
        if account.state == AccountState::Removed {
            return Err(ApiError::new(ErrorCode::Conflict, format!("`{name}` was removed")));
        }
        let before = self.db.read(|read| read.bandwidth(account.id)).map_err(refusal)?;
        if before != bandwidth {
            self.commit(caller, |w| w.set_bandwidth(name, bandwidth, &reason))?;
        }
        Ok(Reply::Done)
    }

    pub(super) fn account_sources(
        &self,
        caller: &Caller,
        name: &AccountName,
        sources: &[Ipv4Net],
        reason: &str,
    ) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        let reason = one_line("reason", reason, 500)?;
        let sources = networks(sources.to_vec())?;
        let account = self.account_to_change(caller, name)?;
        if account.sources != sources {
            self.commit(caller, |w| w.set_sources(name, &sources, &reason))?;
        }
        Ok(Reply::Done)
    }

    pub(super) fn account_list(&self, caller: &Caller) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        let accounts = self.db.read(|read| read.accounts()).map_err(refusal)?;
        let views = accounts.iter().map(|account| self.account_view(account));
        Ok(Reply::Accounts(views.collect::<Result<_, _>>()?))
    }

    pub(super) fn account_show(
        &self,
        caller: &Caller,
        name: &AccountName,
    ) -> Result<Reply, ApiError> {
        caller.must_own(name, &format!("account `{name}`"))?;
        let account = self.db.read(|read| read.account(name)).map_err(refusal)?;
        Ok(Reply::Account(self.account_view(&account)?))
    }

    pub(super) fn account_state(
        &self,
        caller: &Caller,
        name: &AccountName,
        state: AccountState,
        reason: &str,
    ) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        let reason = one_line("reason", reason, 500)?;
        let account = self.account_to_change(caller, name)?;
        match (account.state, state) {
            (AccountState::Removed, _) => {
                return Err(ApiError::new(ErrorCode::Conflict, format!("`{name}` was removed")));
            }
            (before, after) if before == after => return Ok(Reply::Done),
            _ => {}
        }
        let (pool, destroy_at) = (self.lab.network.pool, self.grace_end());
        self.commit(caller, |w| {
            if state == AccountState::Removed {
                let environments = w.environments(pool, false)?;
                let own = environments
                    .iter()
                    .filter(|e| e.account == *name && e.state == EnvironmentState::Granted);
                for environment in own {
                    w.end_environment(environment.id, destroy_at)?;
                }
            }
            w.set_account_state(name, state, &reason)
        })?;
        Ok(Reply::Done)
    }

    pub(super) fn account_view(&self, account: &Account) -> Result<AccountView, ApiError> {
        let (added_at, bandwidth) = self
            .db
            .read(|read| Ok((read.account_added_at(account.id)?, read.bandwidth(account.id)?)))
            .map_err(refusal)?;
        let (now, files) = (self.now(), self.lab.software_keys);
        let keys = account.keys.iter().filter(|key| key.opens(now, files));
        Ok(AccountView {
            name: account.name.clone(),
            full_name: account.full_name.clone(),
            affiliation: account.affiliation.clone(),
            role: account.role,
            edition: account.edition.clone(),
            state: account.state,
            sources: account.sources.clone(),
            keys: keys.map(|key| key.fingerprint.clone()).collect(),
            uid: account.uid,
            address: account.address,
            bandwidth,
            bandwidth_kbit: bandwidth.kbit(account.role, self.lab.gateway.bandwidth_kbit),
            added_at,
        })
    }

    /// Addresses that the portal has to listen on.
    pub(super) fn portal_addresses(&self) -> Result<Reply, ApiError> {
        let accounts = self.db.read(|read| read.accounts()).map_err(refusal)?;
        let active = accounts.into_iter().filter(|a| a.state == AccountState::Active);
        Ok(Reply::Addresses(active.map(|account| account.address).collect()))
    }
}

/// Networks that a person can come from: some, each without bits behind its prefix.
fn networks(sources: Vec<Ipv4Net>) -> Result<Vec<Ipv4Net>, ApiError> {
    let invalid = |message: String| ApiError::new(ErrorCode::Invalid, message);
    if sources.is_empty() {
        return Err(invalid("from which networks does the person come?".into())
            .help("name each, such as 192.0.2.0/24; 0.0.0.0/0 is anywhere"));
    }
    match sources.iter().find(|net| net.trunc() != **net) {
        Some(net) => Err(invalid(format!("the source network {net} has bits behind its prefix"))
            .help(format!("use {} or {}/32", net.trunc(), net.addr()))),
        None => Ok(sources),
    }
}
