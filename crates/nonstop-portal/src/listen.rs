//! One listener on each account's loopback address, and what each accepted connection carries.
//!
//! Which addresses there are, only the daemon knows; it is asked every second. While it does not
//! answer, what is open stays open. An address that is gone takes its connections with it.

use crate::app::App;
use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use nonstop_api::{CallError, Reply, Request};
use nonstop_model::network::ACCOUNT_NET;
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
};
use tracing::{error, info, warn};

/// Connections of one account at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 32;

/// Questions to the daemon that one account may have open.
const ASKS: usize = 4;

/// How long a browser may take to say what it wants, and stay silent in between.
const HEADERS: Duration = Duration::from_secs(15);

/// An accepted connection: the proof of who is asking.
pub(crate) struct Connection {
    /// The socket itself, for the daemon to look at.
    pub(crate) fd: OwnedFd,
    /// The account's address, at which it was accepted.
    pub(crate) address: Ipv4Addr,
    /// Limits what one account asks at once.
    pub(crate) asks: Arc<Semaphore>,
}

/// Listeners that end when they are dropped.
#[derive(Default)]
struct Listeners(BTreeMap<Ipv4Addr, Guarded>);

struct Guarded(AbortHandle);

impl Drop for Guarded {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Keeps a listener on each account's address, for as long as the process lives.
pub async fn keep_listening(app: Arc<App>) -> ! {
    let (mut listeners, mut trouble) = (Listeners::default(), String::new());
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        let client = app.client.clone();
        let asked = tokio::task::spawn_blocking(move || client.call(&Request::PortalAddresses));
        let now = match asked.await {
            Ok(Ok(Reply::Addresses(wanted))) => listeners.adjust(&app, &wanted),
            Ok(Ok(_)) => "nonstopd answered something else than addresses".into(),
            Ok(Err(e)) => chain(&e),
            Err(_) => "a thread that asks nonstopd panicked".into(),
        };
        if now != trouble {
            match now.as_str() {
                "" => info!("nonstopd answers again"),
                _ => warn!("{now}; trying again every second"),
            }
            trouble = now;
        }
    }
}

impl Listeners {
    /// Opens and closes listeners until they are those `wanted`. Says what could not be opened.
    fn adjust(&mut self, app: &Arc<App>, wanted: &[Ipv4Addr]) -> String {
        // Nothing else is ever listened on, whatever the daemon says.
        let good = |a: &&Ipv4Addr| ACCOUNT_NET.contains(*a);
        let wanted: Vec<Ipv4Addr> = wanted.iter().filter(good).copied().collect();
        self.0.retain(|address, listener| {
            let keep = wanted.contains(address) && !listener.0.is_finished();
            if !keep {
                info!("{address} is closed");
            }
            keep
        });
        let mut trouble = Vec::new();
        for address in wanted {
            if self.0.contains_key(&address) {
                continue;
            }
            match listen(address, app.lab.portal.port) {
                Ok(listener) => {
                    info!("{address} is open");
                    let task = tokio::spawn(serve(listener, address, app.router()));
                    self.0.insert(address, Guarded(task.abort_handle()));
                }
                Err(e) => trouble.push(format!("listen at {address}: {e}")),
            }
        }
        trouble.join("; ")
    }
}

fn listen(address: Ipv4Addr, port: u16) -> std::io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(SocketAddrV4::new(address, port))?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Serves `router` to whoever connects to `address`. Dropping it closes all its connections.
pub(crate) async fn serve(listener: TcpListener, address: Ipv4Addr, router: Router) {
    let (places, asks) = (Arc::new(Semaphore::new(CONNECTIONS)), Arc::new(Semaphore::new(ASKS)));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                error!("accept at {address}: {e}");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let Ok(fd) = stream.as_fd().try_clone_to_owned() else { continue };
        let connection = Arc::new(Connection { fd, address, asks: Arc::clone(&asks) });
        let router = router.clone();
        connections.spawn(async move {
            let _place = place;
            converse(stream, connection, router).await;
        });
    }
}

async fn converse(stream: TcpStream, connection: Arc<Connection>, router: Router) {
    let router = router.layer(axum::Extension(connection));
    // Errors are those of a browser that went away or spoke no HTTP.
    let _ended = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
}

fn chain(error: &CallError) -> String {
    let mut line = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(e) = cause {
        line = format!("{line}: {e}");
        cause = e.source();
    }
    line
}
