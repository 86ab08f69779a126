//! The hook in the gateway's login path: `pam_exec` of the service `nonstop-sshd` runs it.
//!
//! In the account phase it asks the daemon whether the person may log in, and says no when the
//! daemon does, or does not answer within three seconds. In the session phase it tells of
//! sessions that open and close. sshd keeps a login whose session phase fails, so the hook ends
//! sshd's process itself when a session cannot be recorded; at that time nothing else of the
//! session exists. A closing session closes whatever we say.
//!
//! It trusts PAM's environment, which sshd sets.
//! One line on stderr says what happened.

use nonstop_api::{LoginEvent, LoginReply, LoginRequest, WireError};
use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc,
    thread,
    time::Duration,
};

/// Where the daemon answers.
pub(crate) const SOCKET: &str = "/run/nonstop/login.sock";
const PATIENCE: Duration = Duration::from_secs(3);

/// What PAM asks for, with the daemon at `socket`.
pub(crate) fn run(socket: PathBuf) -> ExitCode {
    let Some(request) = request() else {
        eprintln!("nonstop-gate: PAM_TYPE is none that this hook knows");
        return ExitCode::FAILURE;
    };
    let LoginRequest { event, user, rhost, .. } = &request;
    let event = match event {
        LoginEvent::Account => "login",
        LoginEvent::Open => "opening",
        LoginEvent::Close => "closing",
    };
    let reason = match ask_in_time(socket, &request) {
        Ok(LoginReply { allow: true, .. }) => {
            eprintln!("nonstop-gate: {event} of `{user}` from {rhost} is in order");
            return ExitCode::SUCCESS;
        }
        Ok(LoginReply { reason, .. }) => reason,
        Err(why) => why,
    };
    eprintln!("nonstop-gate: {event} of `{user}` from {rhost} is refused: {reason}");
    if request.event == LoginEvent::Open {
        end_session();
    }
    ExitCode::FAILURE
}

/// Ends the process of sshd that runs this hook.
fn end_session() {
    let Some(parent) = rustix::process::getppid() else { return };
    let comm = std::fs::read_to_string(format!("/proc/{parent}/comm")).unwrap_or_default();
    if comm.trim_end() == "sshd-session"
        && let Err(e) = rustix::process::kill_process(parent, rustix::process::Signal::KILL)
    {
        eprintln!("nonstop-gate: end sshd's process {parent}: {e}");
    }
}

/// What PAM tells of; None in a phase that is none of ours.
fn request() -> Option<LoginRequest> {
    let text = |name: &str| {
        let value = std::env::var_os(name).unwrap_or_default();
        value.to_string_lossy().chars().take(LONGEST).collect::<String>()
    };
    let event = match text("PAM_TYPE").as_str() {
        "account" => LoginEvent::Account,
        "open_session" => LoginEvent::Open,
        "close_session" => LoginEvent::Close,
        _ => return None,
    };
    Some(LoginRequest {
        event,
        user: text("PAM_USER"),
        rhost: text("PAM_RHOST"),
        connection: text("SSH_CONNECTION"),
        auth_info: text("SSH_AUTH_INFO_0"),
        pid: std::os::unix::process::parent_id(),
    })
}

// The longest is the line of a public key: an RSA key of 16384 bits has 2,800 characters.
const LONGEST: usize = 8192;

/// Asks the daemon, and gives up after [`PATIENCE`] whatever it does with the connection.
fn ask_in_time(socket: PathBuf, request: &LoginRequest) -> Result<LoginReply, String> {
    let (tell, told) = mpsc::channel();
    let request = request.clone();
    thread::spawn(move || {
        let answer = ask(&socket, &request)
            .map_err(|e| format!("the daemon does not answer at {}: {e}", socket.display()));
        // Nobody listens any more once the patience is over.
        drop(tell.send(answer));
    });
    told.recv_timeout(PATIENCE).unwrap_or_else(|_| Err("the daemon is too slow".into()))
}

fn ask(socket: &Path, request: &LoginRequest) -> Result<LoginReply, WireError> {
    let socket = UnixStream::connect(socket)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    nonstop_api::send(&socket, request)?;
    nonstop_api::receive(&socket)
}
