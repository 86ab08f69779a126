//! The worker: speaks RDP with one client at a time, shows the broker's picture, types.
//!
//! A client's bytes come through `stream`, where typing (`input`) is taken out and what no honest
//! client says ends it (`guard`); the library speaks the rest of RDP with it (`server`). What the
//! broker shows lies in `screen`; `updates` brings it to the client as fast as that takes it: by
//! the graphics pipeline (`graphics`: what moved and what differs by `changes`, text by
//! `bands`, all of it packed by `zgfx`) or as bitmaps. What the broker is told waits in `outbox`.

mod bands;
mod changes;
mod confirm;
mod count;
mod graphics;
mod guard;
#[cfg(any(test, feature = "harm"))]
pub mod harm;
mod input;
mod link;
mod outbox;
mod pointer;
mod screen;
mod server;
mod setup;
mod stream;
mod updates;
mod zgfx;

use nonstop_confine::{
    ConfineError, Left, MESSAGES, TCP, THREADS, confine, refuse_clone3, with_one_heap,
};
use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
};

/// A worker that ends.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// What it was started with makes no sense.
    #[error("read the setup: {0}")]
    Setup(String),
    /// It cannot give up its rights.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// The kernel refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The broker is gone or broke the rules.
    #[error("the broker is gone")]
    Broker,
}

/// System calls beside those that every process of a desktop needs.
const CALLS: &[i64] = &[
    5,   // fstat
    17,  // pread64
    20,  // writev
    39,  // getpid
    232, // epoll_wait
    233, // epoll_ctl
    281, // epoll_pwait
    290, // eventfd2
    291, // epoll_create1
];

/// Serves until the broker is gone.
pub fn run(uid: u32) -> Result<(), WorkerError> {
    with_one_heap(&[])?;
    let tls = setup::read()?;
    let listener = std::net::TcpListener::from(duplicate(io::stdout())?);
    listener.set_nonblocking(true)?;
    let link = UnixStream::from(duplicate(io::stdin())?);
    link.set_nonblocking(true)?;
    // Before the filter: it opens a pair of sockets that it never uses.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(1)
        .build()?;
    refuse_clone3()?;
    confine(Left {
        uid,
        gid: uid,
        memory_bytes: 1 << 30,
        file_bytes: 0,
        files: 64,
        threads: 4,
        cpu_seconds: None,
        calls: &[MESSAGES, THREADS, TCP, CALLS],
    })?;
    // A panic over what a client said ends that client's session alone. There is nobody to read of
    // it, and to look for where it was would take files that are out of reach.
    std::panic::set_hook(Box::new(|_| {}));
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, server::serve(listener, link, tls))
}

fn duplicate(of: impl std::os::fd::AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(of, 3)?)
}
