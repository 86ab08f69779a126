//! The two sockets at which the airlock's programs speak for their clients.
//!
//! A connection to a door stands for one client's connection. It ends, and the client's with it,
//! within a second of the client's right to transfer files: whatever the program does.

use super::{
    Session, Transfers,
    denials::{denial, failed, gone},
    peers::{Nobody, Who},
};
use crate::status::chain;
use nonstop_api::{
    WireError,
    airlock::{Answer, Answered, Ask, Denial, DenialKind, Welcome},
};
use nonstop_model::{AccountId, AccountState, EnvironmentId};
use rustix::net::{Shutdown, shutdown, sockopt::socket_peercred};
use std::{
    collections::BTreeMap,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use tracing::{debug, error, warn};

/// Clients of one side at once, and of one environment or account.
const AT_ONCE: usize = 1024;
const OF_ONE: usize = 256;
/// How long a program may take to say whom it speaks for, and to take an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the right of each client is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A conversation needs little.
const STACK: usize = 512 << 10;

/// Which clients come through a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Machines.
    Inside,
    /// Persons.
    Outside,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A conversation that goes on.
struct Open {
    session: Arc<Session>,
    socket: UnixStream,
}

type Sessions = Arc<Mutex<BTreeMap<u64, Open>>>;

/// Answers the program of the user `uid` at `listener`, for clients of `side`, for as long as the
/// process lives.
pub fn serve(transfers: &Arc<Transfers>, side: Side, listener: &UnixListener, uid: u32) -> ! {
    let sessions = Sessions::default();
    let (watched, ground) = (Arc::clone(&sessions), Arc::clone(transfers));
    thread::spawn(move || {
        loop {
            thread::sleep(LOOK);
            end_lapsed(&ground, &watched);
        }
    });
    let busy = Arc::new(AtomicUsize::new(0));
    loop {
        let socket = match listener.accept() {
            Ok((socket, _)) => socket,
            Err(e) => {
                error!("accept a program of the airlock: {e}");
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        let peer = socket_peercred(&socket).map(|peer| peer.uid.as_raw());
        if !peer.is_ok_and(|peer| peer == uid) {
            warn!("somebody else than the airlock's program came to its door");
            continue;
        }
        if busy.fetch_add(1, Ordering::SeqCst) >= AT_ONCE {
            busy.fetch_sub(1, Ordering::SeqCst);
            warn!("a client of the airlock was turned away: {AT_ONCE} are being answered");
            continue;
        }
        let (transfers, sessions) = (Arc::clone(transfers), Arc::clone(&sessions));
        let leave = Leave(Arc::clone(&busy));
        let thread = thread::Builder::new().name("airlock".into()).stack_size(STACK);
        let begun = thread.spawn(move || {
            let _leave = leave;
            if let Err(e) = converse(&transfers, side, &sessions, socket) {
                debug!("a client of the airlock went away: {e}");
            }
        });
        if let Err(e) = begun {
            error!("answer a client of the airlock: {e}");
        }
    }
}

struct Leave(Arc<AtomicUsize>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One conversation, from its beginning to its end.
fn converse(
    transfers: &Arc<Transfers>,
    side: Side,
    sessions: &Sessions,
    socket: UnixStream,
) -> Result<(), WireError> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let (ask, connection) = nonstop_api::receive_with_fd::<Ask>(&socket)?;
    let begun = match (ask, connection) {
        (Ask::Begin, Some(connection)) => begin(transfers, side, connection),
        _ => Err(denial(DenialKind::Failed, "first say whom you speak for, with the connection")),
    };
    let begun = begun.and_then(|(session, client)| {
        let session = Arc::new(session);
        enter(sessions, &session, &socket)?;
        Ok((session, client))
    });
    let (session, client) = match begun {
        Ok(begun) => begun,
        Err(denial) => return nonstop_api::send::<Answered>(&socket, &Err(denial)),
    };
    let ended = Ended { transfers, sessions, id: session.id };
    let welcome = Welcome { lab: transfers.lab.name.clone(), client };
    nonstop_api::send::<Answered>(&socket, &Ok(Answer::Welcome(welcome)))?;
    socket.set_read_timeout(None)?;
    loop {
        let ask = nonstop_api::receive::<Ask>(&socket)?;
        let (answered, file) = transfers.answer(&session, ask);
        match file {
            Some(file) => nonstop_api::send_with_fd(&socket, &answered, file.as_fd())?,
            None => nonstop_api::send(&socket, &answered)?,
        }
        if matches!(&answered, Err(Denial { kind: DenialKind::Gone, .. })) {
            drop(ended);
            return Ok(());
        }
    }
}

/// Who is behind `connection`, if that one may transfer files now.
fn begin(
    transfers: &Transfers,
    side: Side,
    connection: OwnedFd,
) -> Result<(Session, String), Denial> {
    let who = match side {
        Side::Inside => transfers.peers.machine(connection.as_fd()),
        Side::Outside => transfers.peers.person(connection.as_fd()),
    };
    let who = who.map_err(|Nobody(why)| {
        denial(DenialKind::Gone, format!("nobody is taken to be behind this connection: {why}"))
    })?;
    let id = NEXT.fetch_add(1, Ordering::SeqCst);
    let (actor, client) = match &who {
        Who::Machine { machine, role, .. } => (format!("machine:{machine}"), role.to_string()),
        Who::Person(account) => {
            let found = transfers.db.read(|read| read.account_by_id(*account));
            let found = found.map_err(|e| failed("look for an account", &e))?.ok_or_else(gone)?;
            (found.name.to_string(), found.name.to_string())
        }
    };
    let session = Session { id, who, actor, connection, touched: Mutex::default() };
    if lapsed(transfers, &session, &mut Standings::default())? {
        return Err(gone());
    }
    Ok((session, client))
}

fn enter(sessions: &Sessions, session: &Arc<Session>, socket: &UnixStream) -> Result<(), Denial> {
    let mut sessions = lock(sessions);
    let alike = |other: &Open| match (&other.session.who, &session.who) {
        (Who::Machine { environment: a, .. }, Who::Machine { environment: b, .. }) => a == b,
        (Who::Person(a), Who::Person(b)) => a == b,
        _ => false,
    };
    if sessions.values().filter(|other| alike(other)).count() >= OF_ONE {
        let message = "too many connections at once: close some, then try again";
        return Err(denial(DenialKind::Busy, message));
    }
    let socket = socket.try_clone().map_err(|e| failed("keep a conversation", &e))?;
    sessions.insert(session.id, Open { session: Arc::clone(session), socket });
    Ok(())
}

/// Forgets a session when it ends, with what it was writing.
struct Ended<'a> {
    transfers: &'a Transfers,
    sessions: &'a Sessions,
    id: u64,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        lock(self.sessions).remove(&self.id);
        self.transfers.state().writings.end_session(self.id);
    }
}

/// What was found in one look at all clients.
#[derive(Default)]
struct Standings {
    environments: BTreeMap<EnvironmentId, bool>,
    accounts: BTreeMap<AccountId, bool>,
}

/// Ends conversations, and their clients' connections, whose client may transfer files no more.
fn end_lapsed(transfers: &Transfers, sessions: &Sessions) {
    let open: Vec<(Arc<Session>, io::Result<UnixStream>)> = lock(sessions)
        .values()
        .map(|open| (Arc::clone(&open.session), open.socket.try_clone()))
        .collect();
    let mut standings = Standings::default();
    for (session, socket) in open {
        let gone = !transfers.peers.lives(session.connection.as_fd());
        match lapsed(transfers, &session, &mut standings) {
            Ok(false) if !gone => continue,
            Ok(_) => {}
            // Without the database nobody is answered either.
            Err(_) => continue,
        }
        if let Ok(socket) = socket {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
        // The client's connection ends here, not by the program's good will; once it has, nobody is
        // answered for it any more.
        let _ = shutdown(&session.connection, Shutdown::Both);
    }
}

/// Whether the client of `session` may transfer files no more.
fn lapsed(
    transfers: &Transfers,
    session: &Session,
    standings: &mut Standings,
) -> Result<bool, Denial> {
    let now = transfers.clock.now();
    let failed = |e: nonstop_store::StoreError| {
        error!("look whether clients may transfer files: {}", chain(&e));
        failed("look at an account", &e)
    };
    let mut environments: Vec<EnvironmentId> = session.touched().iter().copied().collect();
    match &session.who {
        Who::Machine { environment, .. } => environments.push(*environment),
        Who::Person(account) => {
            let holds = match standings.accounts.get(account) {
                Some(holds) => *holds,
                None => {
                    let found = transfers.db.read(|read| read.account_by_id(*account));
                    let active = |a: nonstop_model::Account| a.state == AccountState::Active;
                    found.map_err(failed)?.is_some_and(active)
                }
            };
            standings.accounts.insert(*account, holds);
            if !holds {
                return Ok(true);
            }
        }
    }
    for environment in environments {
        let holds = match standings.environments.get(&environment) {
            Some(holds) => *holds,
            None => {
                let found = transfers.db.read(|read| read.standing(environment)).map_err(failed)?;
                found.is_some_and(|standing| standing.holds(now))
            }
        };
        standings.environments.insert(environment, holds);
        if !holds {
            return Ok(true);
        }
    }
    Ok(false)
}

fn lock(sessions: &Sessions) -> MutexGuard<'_, BTreeMap<u64, Open>> {
    sessions.lock().unwrap_or_else(PoisonError::into_inner)
}
