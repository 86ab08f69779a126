//! A listener, and a thread for each connection that has a seat.
//!
//! Each thread waits for its own client and for the daemon, and for nobody else.

use crate::{
    asker::Asker,
    dav::{Site, Talk},
    http::{Answer, Body, Framing, LIMITS, answer::STALLED},
    target::Side,
};
use anyhow::{Context, Result};
use nonstop_http::{Head, Incoming, NoHead, Seat, Seats, farewell, refuse, segment};
use nonstop_model::network::ACCOUNT_NET;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

/// Connections of one party, and of all.
const SEATS: (usize, usize) = (128, 512);
/// Descriptors that all connections together may have open: the client's, the daemon's, a file.
pub(crate) const FILES: u64 = 4 * SEATS.1 as u64 + 64;
/// Connections that wait to be accepted.
const WAITING: i32 = 1024;
const STACK: usize = 512 << 10;
/// Requests of one connection.
const REQUESTS: usize = 100_000;
/// How long a connection that ends may take to hear of it; where it still sends, longer.
const FAREWELL: Duration = Duration::from_millis(500);
const LONG_FAREWELL: Duration = Duration::from_secs(30);

/// What a connection without a seat is told.
const FULL: &str = "you have too many connections here: close some of them.\r\n";

/// Listens for the clients of `side`.
///
/// Outside, that is on all loopback addresses, since accounts come and go; what does not come to an
/// account's is not answered.
pub(crate) fn listen(side: Side, port: u16) -> Result<TcpListener> {
    let socket =
        Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).context("a socket")?;
    socket.set_reuse_address(true).context("a socket")?;
    if side == Side::Outside {
        socket.bind_device(Some(b"lo")).context("listen on the loopback interface alone")?;
    }
    let address = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port));
    socket.bind(&address.into()).with_context(|| format!("listen on port {port}"))?;
    socket.listen(WAITING).with_context(|| format!("listen on port {port}"))?;
    Ok(socket.into())
}

/// Serves `site` to whoever connects, until accepting fails.
pub(crate) fn accept(listener: &TcpListener, site: &Arc<Site>) -> Result<()> {
    let seats = Seats::new(SEATS.0, SEATS.1);
    loop {
        let (stream, from) = nonstop_http::accept(listener).context("accept a connection")?;
        let Some((own, party)) = parties(site.side, &stream, from) else { continue };
        match seats.take(party, &stream) {
            Some(seat) => begin(site, stream, own, seat),
            None => refuse(&stream, FULL),
        }
    }
}

/// The address that a connection of `from` came to, and whose seats it takes; None if it is
/// nobody's.
fn parties(side: Side, stream: &TcpStream, from: Ipv4Addr) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let IpAddr::V4(own) = stream.local_addr().ok()?.ip() else { return None };
    match side {
        Side::Outside => ACCOUNT_NET.contains(&own).then_some((own, own)),
        Side::Inside => Some((own, segment(from))),
    }
}

fn begin(site: &Arc<Site>, stream: Arc<TcpStream>, own: Ipv4Addr, seat: Seat) {
    let site = Arc::clone(site);
    let talk = move || {
        converse(&site, &stream, own);
        drop(seat);
    };
    // Without a thread the connection is closed; its client tries again.
    drop(thread::Builder::new().stack_size(STACK).spawn(talk));
}

/// Answers whatever is asked on `stream` until one of the two ends it.
fn converse(site: &Site, stream: &TcpStream, own: Ipv4Addr) {
    if stream.set_nodelay(true).is_err() || stream.set_write_timeout(Some(STALLED)).is_err() {
        return;
    }
    let mut talk = Talk::new(site, Asker::new(&site.socket, stream), own);
    let mut incoming = Incoming::new(LIMITS);
    for number in 1..=REQUESTS {
        let head = incoming.next(stream).and_then(|head| Ok((Framing::of(&head)?, head)));
        let (framing, head) = match head {
            Ok(head) => head,
            Err(NoHead::Over) => return,
            Err(NoHead::Bad(status, why)) => {
                let _client_gone = Answer::text(status, why).send(
                    stream,
                    &Head::default(),
                    false,
                    &mut talk.asker,
                );
                return farewell(stream, FAREWELL);
            }
        };
        let mut body = Body::new(framing, stream, &mut incoming);
        let answer = talk.answer(&head, &mut body);
        let over = body.skip();
        let keep = head.keep_alive && over && number < REQUESTS;
        match answer.send(stream, &head, keep, &mut talk.asker) {
            Ok(true) => {}
            // Most clients send all of a body before they look for an answer.
            Ok(false) if !over => return farewell(stream, LONG_FAREWELL),
            Ok(false) => return farewell(stream, FAREWELL),
            Err(_) => return,
        }
    }
}
