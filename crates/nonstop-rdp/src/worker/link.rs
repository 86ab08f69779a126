//! The link to the broker: what it shows goes into the screen, what is told goes out.

use super::{WorkerError, outbox::Outbox, screen::Screen};
use nonstop_display::{
    link::{Show, Told},
    wire::{self, WireError},
};
use std::{
    io,
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{io::Interest, sync::Notify};

/// The screen as all tasks share it.
#[derive(Debug, Default)]
pub(super) struct Shared {
    screen: Mutex<Screen>,
    /// Rung at each change of the screen.
    pub(super) changed: Notify,
}

impl Shared {
    pub(super) fn screen(&self) -> MutexGuard<'_, Screen> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hears the broker, and tells it what comes out of `outbox`, until it is gone.
pub(super) async fn keep(
    link: UnixStream,
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
) -> Result<(), WorkerError> {
    let link = tokio::net::UnixStream::from_std(link)?;
    let hear = async {
        loop {
            link.readable().await?;
            match link.try_io(Interest::READABLE, || blocking(wire::receive::<Show>(&link))) {
                Ok((show, file)) => heed(&shared, &outbox, show, file)?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(WorkerError::Broker),
            }
        }
    };
    let tell = async {
        loop {
            let told = outbox.next().await;
            link.writable().await?;
            match link.try_io(Interest::WRITABLE, || blocking(wire::send(&link, &told, None))) {
                Ok(()) => outbox.told(&told),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(WorkerError::Broker),
            }
        }
    };
    tokio::select! { ended = hear => ended, ended = tell => ended }
}

/// What would have to wait, in the words of the runtime.
fn blocking<T>(result: Result<T, WireError>) -> io::Result<T> {
    result.map_err(|e| match e {
        WireError::Empty | WireError::Full => io::ErrorKind::WouldBlock.into(),
        other => io::Error::other(other),
    })
}

fn heed(
    shared: &Shared,
    outbox: &Outbox,
    show: Show,
    file: Option<std::os::fd::OwnedFd>,
) -> Result<(), WorkerError> {
    let mut screen = shared.screen();
    let kept = match (show, file) {
        (Show::Picture { width, height, stride }, Some(memory)) => {
            let kept = screen.picture((width, height), stride, memory);
            outbox.tell(Told::Ready { serial: 0 });
            kept
        }
        (Show::Damage { serial, rects }, None) => screen.damaged(serial, rects),
        (Show::Cursor(cursor), None) => screen.point(cursor),
        _ => Err(super::screen::Nonsense),
    };
    drop(screen);
    shared.changed.notify_waiters();
    kept.map_err(|_| WorkerError::Broker)
}
