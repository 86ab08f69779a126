//! The real program against a daemon of the test's own.

use nonstop_api::{LoginEvent, LoginReply, LoginRequest};
use std::{
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

fn hook(socket: &Path, phase: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nonstop-gate"))
        .arg("--socket")
        .arg(socket)
        .env_clear()
        .env("PAM_TYPE", phase)
        .env("PAM_USER", "alice")
        .env("PAM_RHOST", "192.0.2.1")
        .env("SSH_CONNECTION", "192.0.2.1 40000 192.0.2.2 22")
        .env("SSH_AUTH_INFO_0", "publickey ssh-ed25519 AAAA\n")
        .output()
        .expect("the hook runs")
}

/// A daemon that does `act` with one connection.
fn daemon<T: Send + 'static>(
    act: impl FnOnce(UnixStream) -> T + Send + 'static,
) -> (tempfile::TempDir, thread::JoinHandle<T>) {
    let dir = tempfile::tempdir().expect("a folder");
    let listener = UnixListener::bind(dir.path().join("s")).expect("a socket");
    (dir, thread::spawn(move || act(listener.accept().expect("a caller").0)))
}

fn answering(allow: bool) -> impl FnOnce(UnixStream) -> LoginRequest + Send {
    move |socket| {
        let request = nonstop_api::receive(&socket).expect("a request");
        let reply = LoginReply { allow, reason: "suspended".into() };
        nonstop_api::send(&socket, &reply).expect("sent");
        request
    }
}

#[test]
fn the_daemon_is_told_everything_and_its_yes_lets_in() {
    let (dir, daemon) = daemon(answering(true));
    let output = hook(&dir.path().join("s"), "account");
    assert!(output.status.success(), "{output:?}");
    let told = daemon.join().expect("no panic");
    assert_eq!(
        told,
        LoginRequest {
            event: LoginEvent::Account,
            user: "alice".into(),
            rhost: "192.0.2.1".into(),
            connection: "192.0.2.1 40000 192.0.2.2 22".into(),
            auth_info: "publickey ssh-ed25519 AAAA\n".into(),
            pid: std::process::id(),
        }
    );
}

#[test]
fn the_daemons_no_is_said_with_its_reason() {
    let (dir, _daemon) = daemon(answering(false));
    let output = hook(&dir.path().join("s"), "open_session");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "nonstop-gate: opening of `alice` from 192.0.2.1 is refused: suspended\n");
}

#[test]
fn without_a_daemon_nobody_gets_in() {
    let dir = tempfile::tempdir().expect("a folder");
    assert_eq!(hook(&dir.path().join("s"), "account").status.code(), Some(1));
    let listener = UnixListener::bind(dir.path().join("s")).expect("a socket");
    drop(listener);
    assert_eq!(hook(&dir.path().join("s"), "account").status.code(), Some(1));
}

#[test]
fn a_daemon_that_hangs_or_talks_nonsense_lets_nobody_in() {
    let (dir, hung) = daemon(|socket| {
        thread::sleep(Duration::from_secs(4));
        drop(socket);
    });
    let begun = Instant::now();
    assert_eq!(hook(&dir.path().join("s"), "account").status.code(), Some(1));
    assert!(begun.elapsed() < Duration::from_millis(3500), "{:?}", begun.elapsed());
    hung.join().expect("no panic");
    let (dir, _garbage) = daemon(|mut socket| {
        use std::io::Write;
        socket.write_all(b"\0\0\0\x04true").expect("sent");
        thread::sleep(Duration::from_millis(100));
    });
    assert_eq!(hook(&dir.path().join("s"), "account").status.code(), Some(1));
}

#[test]
fn a_phase_that_is_not_ours_is_refused() {
    let output = hook(Path::new("/nonexistent"), "auth");
    assert_eq!(output.status.code(), Some(1));
}
