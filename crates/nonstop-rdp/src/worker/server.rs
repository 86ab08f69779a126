//! Accepting clients, and serving the one that looks.
//!
//! A client that comes through its handshake takes the place of the one before.

use super::{
    WorkerError,
    count::Counted,
    graphics::{Factory, Pipeline},
    input::{Heard, Typing},
    link::{self, Shared},
    outbox::Outbox,
    stream::{Flow, Stream},
    updates::Updates,
};
use ironrdp_displaycontrol::pdu::DisplayControlMonitorLayout;
use ironrdp_server::{
    DesktopSize, RdpServer, RdpServerDisplay, RdpServerDisplayUpdates, TransportTls,
};
use nonstop_display::link::{Meter, Told};
use std::{
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore, watch},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

/// Clients at once that have not come through their handshake.
const HANDSHAKES: usize = 4;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Between two clients: who knocks faster waits in the kernel.
const PACE: Duration = Duration::from_millis(4);

/// A client that takes nothing for so long is gone.
const STUCK: Duration = Duration::from_secs(30);

/// A window whose size has not changed for so long has the size that is wished for.
const SETTLED: Duration = Duration::from_millis(200);

/// Figures of one session.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) frames: AtomicU64,
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
pub(super) struct Session {
    number: u64,
    pub(super) shared: Arc<Shared>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) flow: Arc<Flow>,
    pub(super) figures: Arc<Figures>,
    /// The client's window is hidden: it wants no pictures.
    pub(super) hidden: Arc<AtomicBool>,
    /// The size of the client's window.
    wish: watch::Sender<(u16, u16)>,
    /// Rung when the client is through its handshake.
    active: Notify,
}

impl Session {
    pub(super) fn new(number: u64, shared: Arc<Shared>, outbox: Arc<Outbox>) -> Session {
        Session {
            number,
            shared,
            outbox,
            flow: Arc::default(),
            figures: Arc::default(),
            hidden: Arc::default(),
            wish: watch::Sender::new((0, 0)),
            active: Notify::new(),
        }
    }

    pub(super) fn looks(&self) -> bool {
        self.shared.screen().session == self.number
    }

    /// Takes the place of whoever looked before.
    fn look(&self) {
        let mut screen = self.shared.screen();
        if screen.session == self.number {
            return;
        }
        screen.session = self.number;
        if let Some(before) = screen.figures.replace(Arc::clone(&self.figures)) {
            self.outbox.tell(Told::Closed(before.meter()));
        }
        drop(screen);
        self.outbox.tell(Told::Opened);
        self.shared.changed.notify_waiters();
        self.active.notify_one();
    }

    /// Looks no more, if it did.
    fn look_away(&self) {
        let mut screen = self.shared.screen();
        if screen.session == self.number {
            screen.session = 0;
            screen.figures = None;
            drop(screen);
            self.outbox.tell(Told::Closed(self.figures.meter()));
        }
    }

    /// Asks for the size of the client's window. A client that was made as large as the picture
    /// says so; that is no wish.
    fn ask_for_size(&self, (width, height): (u16, u16)) {
        let screen = self.shared.screen();
        let other = (screen.width, screen.height) != (width, height);
        drop(screen);
        if width > 0 && height > 0 && other && self.looks() {
            self.outbox.tell(Told::Resize { width, height });
        }
    }

    /// Passes on the size of the client's window whenever it has settled.
    async fn follow_wishes(&self) {
        let mut wishes = self.wish.subscribe();
        while wishes.changed().await.is_ok() {
            while timeout(SETTLED, wishes.changed()).await.is_ok() {}
            let wish = *wishes.borrow_and_update();
            self.ask_for_size(wish);
        }
    }
}

/// However a session ends, a panic of the library included, that is told.
struct Ending(Arc<Session>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.look_away();
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
    let outbox = Arc::new(Outbox::default());
    let accepting =
        accept(TcpListener::from_std(listener)?, Arc::clone(&shared), Arc::clone(&outbox), tls);
    tokio::select! {
        ended = link::keep(link, shared, outbox) => ended,
        ended = accepting => ended,
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
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
        let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else {
            sleep(PACE).await;
            continue;
        };
        let session = Session::new(number, Arc::clone(&shared), Arc::clone(&outbox));
        tokio::task::spawn_local(attend(stream, Arc::new(session), tls.clone(), permit));
        sleep(PACE).await;
    }
    Ok(())
}

/// Serves one client to its end.
async fn attend(
    stream: TcpStream,
    session: Arc<Session>,
    tls: TlsAcceptor,
    permit: tokio::sync::OwnedSemaphorePermit,
) {
    let _ending = Ending(Arc::clone(&session));
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
    tokio::select! {
        () = &mut running => {}
        () = keep_count(&session) => {}
        () = session.follow_wishes() => {}
    }
}

/// Serves a client's connection until it or its session ends.
async fn run(stream: TcpStream, session: Arc<Session>, tls: TlsAcceptor) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let _smaller = rustix::net::sockopt::set_socket_send_buffer_size(&stream, 64 << 10);
    let counted = Counted::new(stream, Arc::clone(&session.figures.out));
    let looks = Arc::clone(&session);
    let typing = Arc::new(Mutex::new(Typing::new(
        Arc::clone(&session.outbox),
        Arc::clone(&session.figures.keys),
        Box::new(move || looks.looks()),
    )));
    let flow = Arc::clone(&session.flow);
    let stream = Stream::new(counted, tls.clone(), Arc::clone(&typing), flow);
    speak(stream, session, typing, Some(tls)).await;
}

/// Speaks RDP. With `tls` the stream changes to it where RDP wants that.
pub(super) async fn speak<T>(
    stream: Stream<T>,
    session: Arc<Session>,
    typing: Arc<Mutex<Typing>>,
    tls: Option<TlsAcceptor>,
) where
    T: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static,
{
    let pipeline = Pipeline::new(Arc::clone(&session.shared), Arc::clone(&session.flow));
    let display =
        Display { session: Arc::clone(&session), pipeline: Arc::clone(&pipeline), client: None };
    let server = RdpServer::builder().with_addr(([127, 0, 0, 1], 0));
    let server = match tls {
        Some(tls) => server.with_tls(tls),
        None => server.with_no_security(),
    };
    let mut server = server
        .with_input_handler(Heard(typing))
        .with_display_handler(display)
        .with_honor_client_desktop_size(true)
        .with_display_suppressed_handle(Arc::clone(&session.hidden))
        .with_gfx_factory(Some(Box::new(Factory { pipeline, events: None })))
        .build();
    // What was wrong with a client is its own affair.
    let _ended = server.run_connection_with(stream, TransportTls::AlreadyDone).await;
}

/// Tells the session's figures each second; ends when the session is another's, or stuck.
async fn keep_count(session: &Session) {
    let mut told = Meter::default();
    let mut moved = Instant::now();
    loop {
        sleep(Duration::from_secs(1)).await;
        if !session.looks() {
            return;
        }
        let meter = session.figures.meter();
        let waits = session.shared.screen().damage.is_some();
        let hidden = session.hidden.load(Ordering::Relaxed);
        if meter.bytes_out != told.bytes_out || !waits || hidden {
            moved = Instant::now();
        }
        if meter != told {
            told = meter;
            session.outbox.tell(Told::Metered(meter));
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
    /// The size that the client was told it has.
    client: Option<(u16, u16)>,
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
                    return DesktopSize { width: screen.width, height: screen.height };
                }
            }
            changed.await;
        }
    }

    async fn request_initial_size(&mut self, client: DesktopSize) -> DesktopSize {
        self.client = Some((client.width, client.height));
        self.size().await
    }

    async fn updates(&mut self) -> anyhow::Result<Box<dyn RdpServerDisplayUpdates>> {
        self.session.look();
        if let Some(client) = self.client {
            self.session.ask_for_size(client);
        }
        Ok(Box::new(Updates::new(
            Arc::clone(&self.session),
            Arc::clone(&self.pipeline),
            self.client,
        )))
    }

    fn request_layout(&mut self, layout: DisplayControlMonitorLayout) {
        if let Some(monitor) = layout.monitors().first() {
            let (width, height) = monitor.dimensions();
            let side = |side: u32| u16::try_from(side).unwrap_or(u16::MAX);
            self.session.wish.send_replace((side(width), side(height)));
        }
    }
}
