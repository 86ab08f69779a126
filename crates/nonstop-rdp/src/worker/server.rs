//! Accepting clients, and serving the one that looks.
//!
//! A client that comes through its handshake takes the place of the one before. A slow one gets
//! fewer and newer pictures: the next part is copied when the last has gone out.

use super::{
    WorkerError,
    count::Counted,
    graphics::{Factory, Pictures, Pipeline},
    input::Typing,
    link::{self, Shared},
};
use bytes::Bytes;
use ironrdp_displaycontrol::pdu::DisplayControlMonitorLayout;
use ironrdp_server::{
    BitmapUpdate, DesktopSize, DisplayUpdate, PixelFormat, RGBAPointer, RdpServer,
    RdpServerDisplay, RdpServerDisplayUpdates,
};
use nonstop_display::link::{Cursor, Meter, Rect, Told};
use std::{
    collections::VecDeque,
    num::{NonZeroU16, NonZeroUsize},
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

/// Clients at once that have not come through their handshake.
const HANDSHAKES: usize = 4;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Between two clients: who knocks faster waits in the kernel.
const PACE: Duration = Duration::from_millis(4);

/// How long a client may take to say that it knows the graphics pipeline.
const UNDECIDED: Duration = Duration::from_millis(500);

/// A client that takes nothing for so long is gone.
const STUCK: Duration = Duration::from_secs(30);

/// Figures of one session.
#[derive(Debug, Default)]
struct Figures {
    frames: AtomicU64,
    keys: Arc<AtomicU64>,
    out: Arc<AtomicU64>,
}

impl Figures {
    fn meter(&self) -> Meter {
        Meter {
            frames: self.frames.load(Ordering::Relaxed),
            bytes_out: self.out.load(Ordering::Relaxed),
            keys_in: self.keys.load(Ordering::Relaxed),
        }
    }
}

/// One client.
struct Session {
    number: u64,
    shared: Arc<Shared>,
    tell: mpsc::Sender<Told>,
    figures: Figures,
    /// Rung when the client is through its handshake.
    active: Notify,
}

impl Session {
    fn looks(&self) -> bool {
        self.shared.screen().session == self.number
    }
}

/// Serves clients until the broker is gone.
pub(super) async fn serve(
    listener: std::net::TcpListener,
    link: UnixStream,
    tls: TlsAcceptor,
) -> Result<(), WorkerError> {
    // The only thread that encodes is started now: the filter of system calls knows it.
    let _started = tokio::task::spawn_blocking(|| ()).await;
    let shared = Arc::new(Shared::default());
    let (tell, outbox) = mpsc::channel(1024);
    let accepting =
        accept(TcpListener::from_std(listener)?, Arc::clone(&shared), tell.clone(), tls);
    tokio::select! {
        ended = link::keep(link, shared, tell, outbox) => ended,
        ended = accepting => ended,
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    tell: mpsc::Sender<Told>,
    tls: TlsAcceptor,
) -> Result<(), WorkerError> {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    for number in 1.. {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // The client is gone already, or there is no descriptor left: others end.
            Err(_) => {
                sleep(PACE).await;
                continue;
            }
        };
        sleep(PACE).await;
        let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else { continue };
        let session = Arc::new(Session {
            number,
            shared: Arc::clone(&shared),
            tell: tell.clone(),
            figures: Figures::default(),
            active: Notify::new(),
        });
        let tls = tls.clone();
        tokio::task::spawn_local(async move {
            let running = run(stream, Arc::clone(&session), tls);
            tokio::pin!(running);
            let through = tokio::select! {
                () = &mut running => false,
                through = timeout(HANDSHAKE, session.active.notified()) => through.is_ok(),
            };
            drop(permit);
            if !through {
                return;
            }
            let _told = session.tell.send(Told::Opened).await;
            tokio::select! {
                () = &mut running => {}
                () = watch(&session) => {}
            }
            let meter = session.figures.meter();
            let was_looking = {
                let mut screen = session.shared.screen();
                let was_looking = screen.session == session.number;
                if was_looking {
                    screen.session = 0;
                }
                was_looking
            };
            if was_looking {
                let _told = session.tell.send(Told::Closed(meter)).await;
            }
        });
    }
    Ok(())
}

/// Speaks RDP until the client or its session ends.
async fn run(stream: TcpStream, session: Arc<Session>, tls: TlsAcceptor) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let _smaller = rustix::net::sockopt::set_socket_send_buffer_size(&stream, 128 << 10);
    let counted = Counted::new(stream, Arc::clone(&session.figures.out));
    let looks = Arc::clone(&session);
    let typing = Typing {
        tell: session.tell.clone(),
        keys: Arc::clone(&session.figures.keys),
        looks: Box::new(move || looks.looks()),
    };
    let pipeline = Pipeline::new(Arc::clone(&session.shared));
    let display =
        Display { session: Arc::clone(&session), pipeline: Arc::clone(&pipeline), size: (0, 0) };
    let mut server = RdpServer::builder()
        .with_addr(([127, 0, 0, 1], 0))
        .with_tls(tls)
        .with_input_handler(typing)
        .with_display_handler(display)
        .with_honor_client_desktop_size(true)
        .with_gfx_factory(Some(Box::new(Factory { pipeline, events: None })))
        .build();
    // What was wrong with a client is its own affair.
    let _ended = server.run_connection(counted).await;
}

/// Tells the session's figures each second; ends when the session is another's, or stuck.
async fn watch(session: &Session) {
    let mut told = Meter::default();
    let mut moved = tokio::time::Instant::now();
    loop {
        sleep(Duration::from_secs(1)).await;
        if !session.looks() {
            return;
        }
        let meter = session.figures.meter();
        let waits = session.shared.screen().damage.is_some();
        if meter.bytes_out != told.bytes_out || !waits {
            moved = tokio::time::Instant::now();
        }
        if meter != told {
            told = meter;
            let _told = session.tell.try_send(Told::Metered(meter));
        }
        if moved.elapsed() > STUCK {
            return;
        }
    }
}

/// The display as one client sees it.
struct Display {
    session: Arc<Session>,
    pipeline: Arc<Pipeline>,
    size: (u16, u16),
}

#[async_trait::async_trait]
impl RdpServerDisplay for Display {
    async fn size(&mut self) -> DesktopSize {
        // Before the broker's first picture there is nothing to show a size of.
        loop {
            let changed = self.session.shared.changed.notified();
            {
                let screen = self.session.shared.screen();
                if screen.width > 0 {
                    self.size = (screen.width, screen.height);
                    return DesktopSize { width: screen.width, height: screen.height };
                }
            }
            changed.await;
        }
    }

    async fn request_initial_size(&mut self, client: DesktopSize) -> DesktopSize {
        self.wish(client.width, client.height);
        self.size().await
    }

    async fn updates(&mut self) -> anyhow::Result<Box<dyn RdpServerDisplayUpdates>> {
        let before = {
            let mut screen = self.session.shared.screen();
            std::mem::replace(&mut screen.session, self.session.number)
        };
        if before != self.session.number {
            self.session.shared.changed.notify_waiters();
            self.session.active.notify_one();
        }
        Ok(Box::new(Updates {
            session: Arc::clone(&self.session),
            pictures: Pictures::new(Arc::clone(&self.pipeline)),
            pipeline: Arc::clone(&self.pipeline),
            decided: tokio::time::Instant::now() + UNDECIDED,
            piped: false,
            size: self.size,
            fresh: true,
            taken: None,
            cursors: 0,
            queue: VecDeque::new(),
        }))
    }

    fn request_layout(&mut self, layout: DisplayControlMonitorLayout) {
        if let Some(monitor) = layout.monitors().first() {
            let (width, height) = monitor.dimensions();
            let side = |side: u32| u16::try_from(side).unwrap_or(u16::MAX);
            self.wish(side(width), side(height));
        }
    }
}

impl Display {
    fn wish(&self, width: u16, height: u16) {
        // A client that was made as large as the picture says so; that is no wish.
        let screen = self.session.shared.screen();
        let other = (screen.width, screen.height) != (width, height);
        drop(screen);
        if width > 0 && height > 0 && other {
            let _lags = self.session.tell.try_send(Told::Resize { width, height });
        }
    }
}

/// What one client is still to be shown.
struct Updates {
    session: Arc<Session>,
    pipeline: Arc<Pipeline>,
    pictures: Pictures,
    /// Until then the client may still say that it knows the graphics pipeline.
    decided: tokio::time::Instant,
    /// Pictures go by the pipeline.
    piped: bool,
    size: (u16, u16),
    /// All of the picture is to be shown.
    fresh: bool,
    /// What was given out last: once it is asked for more, the client has taken it.
    taken: Option<u64>,
    cursors: u64,
    queue: VecDeque<DisplayUpdate>,
}

#[async_trait::async_trait]
impl RdpServerDisplayUpdates for Updates {
    async fn next_update(&mut self) -> anyhow::Result<Option<DisplayUpdate>> {
        loop {
            if let Some(update) = self.queue.pop_front() {
                return Ok(Some(update));
            }
            let session = Arc::clone(&self.session);
            let changed = session.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !session.looks() {
                return Ok(None);
            }
            if let Some(serial) = self.taken.take() {
                let mut screen = session.shared.screen();
                if screen.damage.as_ref().is_some_and(|(pending, _)| *pending == serial) {
                    screen.damage = None;
                    drop(screen);
                    let _gone = session.tell.try_send(Told::Ready { serial });
                }
                session.figures.frames.fetch_add(1, Ordering::Relaxed);
            }
            if self.pipeline.is_ready() {
                self.pipe()?;
            } else if tokio::time::Instant::now() < self.decided {
                tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(self.decided) => {}
                }
                continue;
            } else if self.fill() {
                continue;
            }
            if self.queue.is_empty() {
                changed.await;
            }
        }
    }
}

impl Updates {
    /// Sends what has changed by the graphics pipeline, as far as the client keeps up.
    fn pipe(&mut self) -> anyhow::Result<()> {
        let session = Arc::clone(&self.session);
        let mut screen = session.shared.screen();
        if screen.width == 0 || !self.pictures.may_send() {
            return Ok(());
        }
        if !std::mem::replace(&mut self.piped, true) {
            self.fresh = true;
        }
        self.fresh |= self.pictures.resize(screen.width, screen.height)?;
        self.size = (screen.width, screen.height);
        if screen.cursors != self.cursors {
            self.cursors = screen.cursors;
            self.queue.push_back(pointer(screen.cursor.as_ref()));
        }
        let all = std::mem::take(&mut self.fresh);
        let damage = screen.damage.take();
        let rects = match &damage {
            _ if all => vec![screen.whole()],
            Some((_, rects)) => rects.clone(),
            None => return Ok(()),
        };
        let parts: Vec<_> = rects.into_iter().map(|rect| (rect, screen.pixels(rect))).collect();
        drop(screen);
        if self.pictures.show(&parts, all)? {
            session.figures.frames.fetch_add(1, Ordering::Relaxed);
        }
        if let Some((serial, _)) = damage {
            let _gone = session.tell.try_send(Told::Ready { serial });
        }
        Ok(())
    }

    /// Puts what has changed into the queue; false if nothing has.
    fn fill(&mut self) -> bool {
        let session = Arc::clone(&self.session);
        let screen = session.shared.screen();
        if screen.width == 0 {
            return false;
        }
        if (screen.width, screen.height) != self.size {
            self.size = (screen.width, screen.height);
            let size = DesktopSize { width: screen.width, height: screen.height };
            self.queue.push_back(DisplayUpdate::Resize(size));
            return true;
        }
        if screen.cursors != self.cursors {
            self.cursors = screen.cursors;
            self.queue.push_back(pointer(screen.cursor.as_ref()));
        }
        let damage = screen.damage.as_ref();
        let rects = match (std::mem::take(&mut self.fresh), damage) {
            (true, _) => vec![screen.whole()],
            (false, Some((_, rects))) => rects.clone(),
            (false, None) => Vec::new(),
        };
        if !rects.is_empty() {
            self.taken = Some(damage.map_or(0, |(serial, _)| *serial));
        }
        for rect in rects {
            self.queue.extend(bitmap(rect, screen.pixels(rect)));
        }
        !self.queue.is_empty()
    }
}

fn bitmap(rect: Rect, pixels: Vec<u8>) -> Option<DisplayUpdate> {
    let stride = NonZeroUsize::new(usize::from(rect.width) * super::screen::PIXEL)?;
    Some(DisplayUpdate::Bitmap(BitmapUpdate {
        x: rect.x,
        y: rect.y,
        width: NonZeroU16::new(rect.width)?,
        height: NonZeroU16::new(rect.height)?,
        format: PixelFormat::BgrX32,
        data: Bytes::from(pixels),
        stride,
    }))
}

/// RDP wants rows from the bottom.
fn pointer(cursor: Option<&Cursor>) -> DisplayUpdate {
    let Some(cursor) = cursor else { return DisplayUpdate::HidePointer };
    let row = usize::from(cursor.width) * super::screen::PIXEL;
    let data = cursor.pixels.chunks_exact(row).rev().flatten().copied().collect();
    DisplayUpdate::RGBAPointer(RGBAPointer {
        cache_index: 0,
        width: cursor.width,
        height: cursor.height,
        hot_x: cursor.hot_x,
        hot_y: cursor.hot_y,
        data,
    })
}
