//! The login socket: the hook in sshd's login path asks whether a person may come in, and tells
//! when sessions begin and end. If nobody answers here, sshd lets nobody in.

use crate::Clock;
use jiff::Timestamp;
use nonstop_api::{LoginEvent, LoginReply, LoginRequest};
use nonstop_model::{AccountName, AccountState};
use nonstop_store::{Db, NewSession, StoreError};
use std::{net::Ipv4Addr, sync::Arc};

/// Answers the hook.
pub struct Logins {
    db: Arc<Db>,
    clock: Arc<dyn Clock>,
    run: String,
}

impl Logins {
    /// Logins of the host's run `run`.
    pub fn new(db: Arc<Db>, clock: Arc<dyn Clock>, run: String) -> Logins {
        Logins { db, clock, run }
    }

    /// What the hook is told. Whatever cannot be decided or recorded is refused.
    pub fn answer(&self, request: &LoginRequest) -> LoginReply {
        let now = self.clock.now();
        let done = match request.event {
            LoginEvent::Account => self.may_log_in(request, now),
            LoginEvent::Open => self.opened(request, now),
            LoginEvent::Close => self.closed(request, now),
        };
        match done {
            Ok(None) => LoginReply { allow: true, reason: String::new() },
            Ok(Some(reason)) => LoginReply { allow: false, reason },
            Err(e) => LoginReply { allow: false, reason: crate::status::chain(&e) },
        }
    }

    fn may_log_in(
        &self,
        request: &LoginRequest,
        now: Timestamp,
    ) -> Result<Option<String>, StoreError> {
        let why_not = self.why_not(request)?;
        if let Some(reason) = &why_not {
            let source = source(request);
            let user: String = request.user.chars().take(40).collect();
            self.db.write("sshd", now, |w| w.login_refused(&user, &source, reason))?;
        }
        Ok(why_not)
    }

    fn why_not(&self, request: &LoginRequest) -> Result<Option<String>, StoreError> {
        let Ok(name) = request.user.parse::<AccountName>() else {
            return Ok(Some("no such account".into()));
        };
        let account = match self.db.read(|read| read.account(&name)) {
            Ok(account) => account,
            Err(StoreError::NoAccount(_)) => return Ok(Some("no such account".into())),
            Err(e) => return Err(e),
        };
        if account.state != AccountState::Active {
            return Ok(Some(format!("the account is {}", account.state.as_str())));
        }
        let from = source(request).parse::<Ipv4Addr>();
        let registered = account.sources.is_empty()
            || from.is_ok_and(|from| account.sources.iter().any(|net| net.contains(&from)));
        Ok((!registered).then(|| "the source address is not registered".into()))
    }

    fn opened(&self, request: &LoginRequest, now: Timestamp) -> Result<Option<String>, StoreError> {
        let Some(why_not) = self.why_not(request).transpose() else {
            let Ok(account) = request.user.parse::<AccountName>() else {
                return Ok(Some("no such account".into()));
            };
            let new = NewSession {
                account,
                source: source(request),
                fingerprint: fingerprint(&request.auth_info),
                pid: request.pid,
                run: self.run.clone(),
            };
            self.db.write("sshd", now, |w| w.open_session(&new))?;
            return Ok(None);
        };
        why_not.map(Some)
    }

    fn closed(&self, request: &LoginRequest, now: Timestamp) -> Result<Option<String>, StoreError> {
        let open = self.db.read(|read| read.sessions(false))?;
        let ours = open.iter().filter(|session| {
            session.account.as_str() == request.user
                && session.pid == request.pid
                && session.run == self.run
        });
        for session in ours {
            self.db.write("sshd", now, |w| w.close_session(session.id))?;
        }
        Ok(None)
    }

    /// Closes the records of sessions whose sshd is gone: it died, or the daemon was away.
    pub fn close_dead(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        for session in self.db.read(|read| read.sessions(false))? {
            let process = std::path::PathBuf::from(format!("/proc/{}/comm", session.pid));
            let alive = session.run == self.run
                && std::fs::read_to_string(process).is_ok_and(|comm| comm.starts_with("sshd"));
            if !alive {
                self.db.write("nonstopd", now, |w| w.close_session(session.id))?;
            }
        }
        Ok(())
    }
}

/// The source address, from `SSH_CONNECTION`, or PAM's word for it.
fn source(request: &LoginRequest) -> String {
    let first = request.connection.split(' ').next().filter(|s| !s.is_empty());
    first.unwrap_or(&request.rhost).chars().take(60).collect()
}

/// The fingerprint in `publickey ssh-ed25519 AAAA…`, or nothing.
fn fingerprint(auth_info: &str) -> String {
    let line = auth_info.lines().find_map(|line| line.strip_prefix("publickey "));
    let key = line.and_then(|line| openssh_keys::PublicKey::parse(line).ok());
    key.map_or_else(String::new, |key| format!("SHA256:{}", key.fingerprint()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_is_that_of_ssh_keygen() {
        let auth = "publickey ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4mgl+VnJWxyUMGJvGdmoIPRBbKzQm5k2cRP+k9HTkU\n";
        assert!(fingerprint(auth).starts_with("SHA256:"), "{}", fingerprint(auth));
        assert_eq!(fingerprint("password"), "");
    }
}
