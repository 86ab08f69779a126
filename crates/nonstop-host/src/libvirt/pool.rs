//! Connections to libvirt that come back after libvirtd was away.
//!
//! One connection serialises its calls, so each call takes a connection of its own out of the
//! pool. A call on a connection that turned out dead is made once more on a new one: everything
//! we ask of libvirt may be repeated. Nothing waits for ever: keepalive ends calls to a daemon
//! that stands still, and opening has a limit of its own, since keepalive only begins after it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};
use virt::{connect::Connect, error::Error};

/// How long libvirtd may take to answer a new connection.
const OPENING: Duration = Duration::from_secs(10);

/// Seconds between two questions whether libvirtd still lives, and how many may stay unanswered.
const KEEPALIVE: (i32, u32) = (3, 4);

/// Threads that may go on waiting for a daemon after their callers have given it up.
const STUCK: u32 = 4;

/// An open connection; `number` differs from that of every earlier one.
pub(super) struct Link {
    pub(super) connect: Connect,
    pub(super) number: u64,
}

/// Why a call was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// libvirtd is not there or does not answer.
    #[error("reach libvirtd at {uri}")]
    Unreachable { uri: String, source: Box<dyn std::error::Error + Send + Sync> },
    /// It answered no.
    #[error(transparent)]
    Refused(#[from] Error),
}

/// Open connections to one libvirtd.
pub(super) struct Pool {
    uri: String,
    idle: Mutex<Vec<Link>>,
    opened: AtomicU64,
    stuck: AtomicU32,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// A pool that opens connections to `uri` when they are needed.
    pub(super) fn new(uri: &str) -> Result<Arc<Pool>, Error> {
        event_loop()?;
        Ok(Arc::new(Pool {
            uri: uri.into(),
            idle: Mutex::default(),
            opened: AtomicU64::new(0),
            stuck: AtomicU32::new(0),
        }))
    }

    /// Calls `ask` with a connection of its own; twice where the first one died of it.
    pub(super) fn with<T>(
        self: &Arc<Self>,
        mut ask: impl FnMut(&Link) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let link = self.take()?;
        let first = ask(&link);
        if first.is_ok() || is_alive(&link.connect) {
            lock(&self.idle).push(link);
            return Ok(first?);
        }
        // The others were opened to the same dead daemon.
        lock(&self.idle).clear();
        drop(link);
        let link = self.open()?;
        let second = ask(&link);
        if is_alive(&link.connect) {
            lock(&self.idle).push(link);
        }
        Ok(second?)
    }

    fn take(self: &Arc<Self>) -> Result<Link, Failure> {
        loop {
            let Some(link) = lock(&self.idle).pop() else { return self.open() };
            if is_alive(&link.connect) {
                return Ok(link);
            }
        }
    }

    /// Opens a connection, in at most `OPENING`.
    pub(super) fn open(self: &Arc<Self>) -> Result<Link, Failure> {
        let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| Failure::Unreachable {
            uri: self.uri.clone(),
            source,
        };
        if self.stuck.load(Ordering::Relaxed) >= STUCK {
            return Err(unreachable("it accepts connections and does not answer".into()));
        }
        // Without a buffer a connection is taken by its caller or known to be wanted by nobody.
        let (tell, told) = mpsc::sync_channel(0);
        let this = Arc::clone(self);
        let spawned = thread::Builder::new().name("libvirt-open".into()).spawn(move || {
            // Nobody listens once the limit has passed: the connection is closed again.
            if tell.send(this.open_unlimited()).is_err() {
                this.stuck.fetch_sub(1, Ordering::Relaxed);
            }
        });
        if let Err(e) = spawned {
            return Err(unreachable(e.into()));
        }
        match told.recv_timeout(OPENING) {
            Ok(Ok(link)) => Ok(link),
            Ok(Err(e)) => Err(unreachable(e.into())),
            Err(_) => {
                // Before `told` is dropped, so that the thread finds itself counted.
                self.stuck.fetch_add(1, Ordering::Relaxed);
                let text = format!("no answer to a new connection within {} s", OPENING.as_secs());
                Err(unreachable(text.into()))
            }
        }
    }

    fn open_unlimited(&self) -> Result<Link, Error> {
        let connect = Connect::open(Some(&self.uri))?;
        // Drivers without a daemon (`test:///`) have nobody to keep alive.
        if self.uri.starts_with("qemu:") {
            connect.set_keep_alive(KEEPALIVE.0, KEEPALIVE.1)?;
        }
        Ok(Link { connect, number: self.opened.fetch_add(1, Ordering::Relaxed) })
    }
}

/// Whether the connection still leads to a daemon; asks nobody.
pub(super) fn is_alive(connect: &Connect) -> bool {
    connect.is_alive().unwrap_or(false)
}

/// Starts the thread that keeps connections alive and delivers events. libvirt wants it
/// registered before the first connection of the process is opened.
fn event_loop() -> Result<(), Error> {
    static STARTED: OnceLock<Result<(), Error>> = OnceLock::new();
    STARTED
        .get_or_init(|| {
            virt::error::clear_error_callback();
            virt::event::event_register_default_impl()?;
            let thread = thread::Builder::new().name("libvirt-events".into());
            let looped = thread.spawn(|| {
                loop {
                    if virt::event::event_run_default_impl().is_err() {
                        // Not seen; were it to fail for good, this must not eat a core.
                        thread::sleep(Duration::from_millis(100));
                    }
                }
            });
            looped.map(|_| ()).expect("a process that starts can start a thread");
            Ok(())
        })
        .clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_connection_is_used_again_and_only_by_one_call_at_a_time() {
        let pool = Pool::new("test:///default").expect("an event loop");
        let number = |link: &Link| Ok(link.number);
        assert_eq!(pool.with(number).expect("asked"), 0);
        assert_eq!(pool.with(number).expect("asked again"), 0);
        let both = pool.with(|link| Ok((link.number, pool.with(number).expect("asked within"))));
        assert_eq!(both.expect("asked"), (0, 1));
    }

    #[test]
    fn twenty_environments_at_once_each_get_a_connection() {
        let pool = Pool::new("test:///default").expect("an event loop");
        let together = std::sync::Barrier::new(20);
        thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    together.wait();
                    pool.with(|_| Ok(())).expect("a daemon that answers");
                });
            }
        });
        assert_eq!(pool.stuck.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn without_libvirtd_the_answer_comes_at_once_and_names_it() {
        let uri = "qemu+unix:///system?socket=/nonexistent/libvirt-sock";
        let pool = Pool::new(uri).expect("an event loop");
        let start = Instant::now();
        let failure = pool.with(|_| Ok(())).expect_err("nobody listens there");
        assert!(start.elapsed() < Duration::from_secs(2));
        assert_eq!(failure.to_string(), format!("reach libvirtd at {uri}"));
        let Failure::Unreachable { source, .. } = failure else { panic!("not refused") };
        assert!(source.to_string().contains("/nonexistent/libvirt-sock"), "{source}");
    }

    #[test]
    fn a_daemon_that_accepts_and_never_answers_is_given_up() {
        let dir = tempfile::tempdir().expect("a folder");
        let socket = dir.path().join("libvirt-sock");
        let _mute = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        let uri = format!("qemu+unix:///system?socket={}", socket.display());
        let pool = Pool::new(&uri).expect("an event loop");
        let start = Instant::now();
        let failure = pool.with(|_| Ok(())).expect_err("nobody answers there");
        assert!(start.elapsed() < OPENING * 2);
        let Failure::Unreachable { source, .. } = failure else { panic!("not refused") };
        assert!(source.to_string().starts_with("no answer to a new connection"), "{source}");
    }
}
