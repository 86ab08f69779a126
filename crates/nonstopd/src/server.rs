//! The unix sockets: accepting, finding out who asks, and answering one request a connection.

use crate::{
    caller::Caller, gateway::Gateway, heads::Heads, login::Logins, person, service::Service,
};
use nonstop_api::{ApiError, ErrorCode, LoginRequest, Reply, Request, WireError, heard::Heard};
use rustix::net::sockopt::socket_peercred;
use std::{
    fs,
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::{PermissionsExt, chown},
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tracing::{debug, error, warn};

/// Connections of one socket that are answered at once.
const AT_ONCE: usize = 64;

/// How long a caller may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a socket is for.
#[derive(Clone)]
pub enum Door {
    /// The CLI: root, and nobody else.
    Admin(Arc<Service>),
    /// The portal, for persons that it shows the connection of.
    Portal {
        /// What answers.
        service: Arc<Service>,
        /// The portal's uid.
        uid: u32,
        /// The portal's port on accounts' addresses.
        port: u16,
    },
    /// The hook in the gateway's login path.
    Login(Arc<Logins>),
    /// What listens to sshd.
    Gateway(Arc<Gateway>),
    /// What puts heads of the trace out of the host's reach.
    Heads {
        /// What answers.
        heads: Arc<Heads>,
        /// Its uid.
        uid: u32,
    },
}

/// Listens at `path`, owned by root and the group `gid`, with `mode`.
///
/// A socket left by an earlier run is replaced.
pub fn listen(path: &Path, gid: Option<u32>, mode: u32) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    // Made in a folder that others can pass but not write; closed until its owner is set.
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    chown(path, Some(0), gid)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Answers at `listener` for as long as the process lives.
pub fn serve(listener: &UnixListener, door: &Door) -> ! {
    let busy = Arc::new(AtomicUsize::new(0));
    loop {
        let socket = match listener.accept() {
            Ok((socket, _)) => socket,
            Err(e) => {
                error!("accept a caller: {e}");
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if busy.fetch_add(1, Ordering::SeqCst) >= AT_ONCE {
            busy.fetch_sub(1, Ordering::SeqCst);
            warn!("a caller was turned away: {AT_ONCE} are being answered");
            continue;
        }
        let (door, busy) = (door.clone(), Arc::clone(&busy));
        std::thread::spawn(move || {
            let _busy = Leave(busy);
            if let Err(e) = answer(&socket, &door) {
                debug!("a caller went away: {e}");
            }
        });
    }
}

struct Leave(Arc<AtomicUsize>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn answer(socket: &UnixStream, door: &Door) -> Result<(), WireError> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let peer = socket_peercred(socket).map_err(io::Error::from)?.uid.as_raw();
    match door {
        Door::Admin(service) => {
            let request: Request = nonstop_api::receive(socket)?;
            let (reply, file) = if peer == 0 {
                service.answer_with_file(&Caller::Admin { user: "root".into() }, request)
            } else {
                let message = "only root may use the admin socket";
                (Err(ApiError::new(ErrorCode::Forbidden, message)), None)
            };
            send(socket, &reply, file)
        }
        Door::Portal { service, uid, port } => {
            let (request, connection) = nonstop_api::receive_with_fd::<Request>(socket)?;
            let (reply, file) = if peer != *uid {
                let message = "only the portal may use its socket";
                (Err(ApiError::new(ErrorCode::Forbidden, message)), None)
            } else {
                by_portal(service, *port, request, connection)
            };
            send(socket, &reply, file)
        }
        Door::Login(logins) => {
            let request: LoginRequest = nonstop_api::receive(socket)?;
            if peer == 0 {
                nonstop_api::send(socket, &logins.answer(&request))?;
            }
            Ok(())
        }
        Door::Heads { heads, uid } => {
            let ask: nonstop_api::heads::Ask = nonstop_api::receive(socket)?;
            if peer == *uid {
                nonstop_api::send(socket, &heads.answer(&ask))?;
            }
            Ok(())
        }
        Door::Gateway(gateway) => {
            let heard: Vec<Heard> = nonstop_api::receive(socket)?;
            if peer != 0 {
                return Ok(());
            }
            // What cannot be recorded is told again until it can.
            match gateway.take_in(heard) {
                Ok(()) => (&mut &*socket).write_all(b"1")?,
                Err(e) => error!("record what sshd said: {}", crate::status::chain(&e)),
            }
            Ok(())
        }
    }
}

fn send(
    socket: &UnixStream,
    reply: &Result<Reply, ApiError>,
    file: Option<OwnedFd>,
) -> Result<(), WireError> {
    match file {
        Some(file) => nonstop_api::send_with_fd(socket, reply, file.as_fd()),
        None => nonstop_api::send(socket, reply),
    }
}

fn by_portal(
    service: &Service,
    port: u16,
    request: Request,
    connection: Option<OwnedFd>,
) -> (Result<Reply, ApiError>, Option<OwnedFd>) {
    let Some(connection) = connection else {
        return (service.answer(&Caller::Portal, request), None);
    };
    let nobody = |e: &dyn std::error::Error| {
        let message = format!("nobody is behind this connection: {}", crate::status::chain(e));
        ApiError::new(ErrorCode::Forbidden, message).help("open the tunnel again, then reload")
    };
    let person = person::account_behind(connection, port)
        .map_err(|e| nobody(&e))
        .and_then(|id| service.account_of(id));
    match person {
        Ok(account) => service.answer_with_file(&Caller::Person(account), request),
        Err(e) => (Err(e), None),
    }
}
