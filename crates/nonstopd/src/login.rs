//! The login socket: the hook in sshd's login path asks whether a person may come in, and tells
//! when sessions begin and end. If nobody answers here, sshd lets nobody in.

use crate::{
    Clock,
    desired::{holds, may_come_from},
    flows::Meter,
    gateway::{Alike, Gateway},
};
use jiff::Timestamp;
use nonstop_api::{LoginEvent, LoginReply, LoginRequest, heard::RefusedFor};
use nonstop_model::{AccountName, AccountState};
use nonstop_store::{Db, NewSession, StoreError};
use std::{sync::Arc, time::Duration};

/// How long after a session its last connections are told of.
const SETTLED: Duration = Duration::from_millis(800);

/// Answers the hook.
pub struct Logins {
    db: Arc<Db>,
    clock: Arc<dyn Clock>,
    run: String,
    gateway: Arc<Gateway>,
    meter: Arc<Meter>,
    /// Whether the lab takes key files.
    software_keys: bool,
}

/// Why not: what kind of reason, and its sentence.
type WhyNot = (RefusedFor, String);

impl Logins {
    /// Logins of the host's run `run`; what is refused is counted with what `gateway` hears.
    pub fn new(
        db: Arc<Db>,
        clock: Arc<dyn Clock>,
        run: String,
        gateway: Arc<Gateway>,
        meter: Arc<Meter>,
        software_keys: bool,
    ) -> Logins {
        Logins { db, clock, run, gateway, meter, software_keys }
    }

    /// What the hook is told. Whatever cannot be decided or recorded is refused.
    pub fn answer(self: &Arc<Self>, request: &LoginRequest) -> LoginReply {
        let now = self.clock.now();
        let done = match request.event {
            LoginEvent::Account => self.why_not(request),
            LoginEvent::Open => self.opened(request, now),
            LoginEvent::Close => self.closed(request, now).map(|()| None),
        };
        let (why, reason) = match done {
            Ok(None) => return LoginReply { allow: true, reason: String::new() },
            Ok(Some(why_not)) => why_not,
            Err(e) => (RefusedFor::Daemon, crate::status::chain(&e)),
        };
        if request.event != LoginEvent::Close {
            let alike = Alike {
                source: source(request),
                user: request.user.chars().take(40).collect(),
                why,
                reason: reason.clone(),
                fingerprint: fingerprint(&request.auth_info),
                client: self.gateway.client_of(request.pid),
            };
            self.gateway.refused_by_daemon(request.pid, alike);
        }
        LoginReply { allow: false, reason }
    }

    fn why_not(&self, request: &LoginRequest) -> Result<Option<WhyNot>, StoreError> {
        let unknown = || Ok(Some((RefusedFor::UnknownAccount, "no such account".into())));
        let Ok(name) = request.user.parse::<AccountName>() else { return unknown() };
        let account = match self.db.read(|read| read.account(&name)) {
            Ok(account) => account,
            Err(StoreError::NoAccount(_)) => return unknown(),
            Err(e) => return Err(e),
        };
        if account.state != AccountState::Active {
            let reason = format!("the account is {}", account.state.as_str());
            return Ok(Some((RefusedFor::Daemon, reason)));
        }
        if !may_come_from(&account, &source(request)) {
            let reason = "the source address is not registered";
            return Ok(Some((RefusedFor::Source, reason.into())));
        }
        // Its key line may be older than what is wanted now.
        let key = fingerprint(&request.auth_info);
        if !key.is_empty() && !holds(&account, &key, self.clock.now(), self.software_keys) {
            return Ok(Some((RefusedFor::UnknownKey, "the card is not valid any more".into())));
        }
        Ok(None)
    }

    fn opened(&self, request: &LoginRequest, now: Timestamp) -> Result<Option<WhyNot>, StoreError> {
        if let Some(why_not) = self.why_not(request)? {
            return Ok(Some(why_not));
        }
        let Ok(account) = request.user.parse::<AccountName>() else { return Ok(None) };
        let port = request.connection.split(' ').nth(1).and_then(|port| port.parse().ok());
        let new = NewSession {
            account,
            source: source(request),
            port: port.unwrap_or_default(),
            fingerprint: fingerprint(&request.auth_info),
            client: self.gateway.client_of(request.pid),
            pid: request.pid,
            run: self.run.clone(),
        };
        let open = self.db.read(|read| read.sessions(false))?;
        // The process number is used again: what had it before is over.
        for before in open.iter().filter(|s| s.pid == new.pid && s.run == new.run) {
            self.close("nonstopd", before.id, now)?;
        }
        self.db.write("sshd", now, |w| w.open_session(&new))?;
        Ok(None)
    }

    fn closed(self: &Arc<Self>, request: &LoginRequest, now: Timestamp) -> Result<(), StoreError> {
        let open = self.db.read(|read| read.sessions(false))?;
        let ours = open.iter().filter(|session| {
            session.account.as_str() == request.user
                && session.pid == request.pid
                && session.run == self.run
        });
        for session in ours {
            // Its last connections are counted first: the kernel and sshd tell of them by and by.
            let (this, id) = (Arc::clone(self), session.id);
            std::thread::spawn(move || {
                std::thread::sleep(SETTLED);
                if let Err(e) = this.close("sshd", id, now) {
                    tracing::error!("record the end of session {id}: {}", crate::status::chain(&e));
                }
            });
        }
        Ok(())
    }

    /// Closes the records of sessions whose sshd is gone: it died, or the daemon was away.
    pub fn close_dead(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        for session in self.db.read(|read| read.sessions(false))? {
            let process = std::path::PathBuf::from(format!("/proc/{}/comm", session.pid));
            let alive = session.run == self.run
                && std::fs::read_to_string(process).is_ok_and(|comm| comm.starts_with("sshd"));
            if !alive {
                self.close("nonstopd", session.id, now)?;
            }
        }
        Ok(())
    }

    fn close(&self, actor: &str, id: u64, now: Timestamp) -> Result<(), StoreError> {
        let (flows, uncounted) = self.meter.flows(id);
        self.db.write(actor, now, |w| w.close_session(id, &flows, uncounted))?;
        self.meter.forget(id);
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
