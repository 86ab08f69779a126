//! The gateway as admins and staff see it: its host keys, and whom the kernel refused before SSH.

use super::{Service, refusal};
use crate::{caller::Caller, status::chain};
use jiff::{SignedDuration, Timestamp};
use nonstop_api::{
    ApiError, ErrorCode, HostKeyView, HostKeysView, NextHostKeyView, RefusedSourceView, Reply,
    SourceRefusal,
};
use nonstop_host::{HostError, firewall::Refused, gate::PublicHostKeys};
use nonstop_model::{Account, AccountState};
use serde_json::json;

/// As many accounts are named beside a source.
const NAMED: usize = 10;

impl Service {
    pub(super) fn host_keys(&self) -> Result<HostKeysView, ApiError> {
        self.host_keys.show().map(shown).map_err(failed)
    }

    pub(super) fn host_keys_shown(&self) -> Result<Reply, ApiError> {
        self.host_keys().map(Reply::HostKeys)
    }

    pub(super) fn host_key_rotate(&self, caller: &Caller) -> Result<Reply, ApiError> {
        caller.must_be_admin()?;
        let current = self.host_keys()?.current.fingerprint;
        self.commit(caller, |w| w.trace("host_key.rotate", &current, json!({})))?;
        self.host_keys.rotate().map(shown).map(Reply::HostKeys).map_err(failed)
    }

    pub(super) fn host_key_finish(&self, caller: &Caller) -> Result<Reply, ApiError> {
        caller.must_be_admin()?;
        let keys = self.host_keys()?;
        let none = || {
            ApiError::new(ErrorCode::Conflict, "the gateway has one host key, and no next one")
                .help("begin with `nonstop lab host-key rotate`")
        };
        let next = keys.next.ok_or_else(none)?.fingerprint;
        let old = keys.current.fingerprint;
        self.commit(caller, |w| w.trace("host_key.finish", &next, json!({ "old": old })))?;
        match self.host_keys.finish().map_err(failed)? {
            true => self.host_keys_shown(),
            false => Err(none()),
        }
    }

    pub(super) fn sources_refused(&self, caller: &Caller) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        let refused = self.firewall.refused().map_err(failed)?;
        let accounts = self.db.read(|read| read.accounts()).map_err(refusal)?;
        let now = self.now();
        let view = |one: Refused| {
            let ago = SignedDuration::from_secs(one.seconds_ago.try_into().unwrap_or(i64::MAX));
            let from = |account: &&Account| {
                account.state != AccountState::Removed
                    && account.sources.iter().any(|net| net.contains(&one.source))
            };
            RefusedSourceView {
                source: one.source,
                why: match one.registered {
                    true => SourceRefusal::TooMany,
                    false => SourceRefusal::NotRegistered,
                },
                packets: one.packets,
                last_at: now.saturating_sub(ago).unwrap_or(now),
                accounts: accounts
                    .iter()
                    .filter(from)
                    .take(NAMED)
                    .map(|a| a.name.clone())
                    .collect(),
            }
        };
        Ok(Reply::SourcesRefused(refused.into_iter().map(view).collect()))
    }
}

fn shown(keys: PublicHostKeys) -> HostKeysView {
    let HostKeyView { key, fingerprint } = one(keys.current);
    let next = keys.next.map(|(next, since)| {
        let HostKeyView { key, fingerprint } = one(next);
        let since = Timestamp::try_from(since).unwrap_or_default();
        NextHostKeyView { key, fingerprint, since }
    });
    HostKeysView { current: HostKeyView { key, fingerprint }, next }
}

fn one(key: String) -> HostKeyView {
    let fingerprint = openssh_keys::PublicKey::parse(&key)
        .map(|key| format!("SHA256:{}", key.fingerprint()))
        .unwrap_or_default();
    HostKeyView { key, fingerprint }
}

fn failed(e: HostError) -> ApiError {
    ApiError::new(ErrorCode::Internal, chain(&e)).help(e.help.clone())
}
