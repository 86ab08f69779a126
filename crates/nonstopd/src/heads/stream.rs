//! The whole trace as a stream, for who verifies it by themself.

use nonstop_store::{Db, StoreError};
use nonstop_trace::stream::Item;
use std::{
    io::{self, BufWriter, Write},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use tracing::debug;

/// Rows that are read at once; others may read in between.
const ROWS: u32 = 1000;

/// How many streams there are at once.
const AT_ONCE: usize = 4;

static STREAMS: AtomicUsize = AtomicUsize::new(0);

struct Place;

impl Place {
    fn take() -> Option<Place> {
        let taken = STREAMS.fetch_add(1, Ordering::SeqCst);
        let place = Place;
        (taken < AT_ONCE).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        STREAMS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Begins a stream of the trace as it is now; None if there are too many. It ends with its reader.
pub fn stream(db: &Arc<Db>) -> io::Result<Option<OwnedFd>> {
    let Some(place) = Place::take() else { return Ok(None) };
    let (reader, writer) = io::pipe()?;
    let db = Arc::clone(db);
    thread::Builder::new().name("trace".into()).spawn(move || {
        let _place = place;
        if let Err(e) = write(&db, BufWriter::with_capacity(1 << 16, writer)) {
            debug!("a stream of the trace ended early: {e}");
        }
    })?;
    Ok(Some(reader.into()))
}

fn write(db: &Db, mut to: impl Write) -> io::Result<()> {
    let read = |e: StoreError| io::Error::other(crate::status::chain(&e));
    let mut item = |item: &Item| -> io::Result<()> {
        serde_json::to_writer(&mut to, item)?;
        to.write_all(b"\n")
    };
    let rows = db.read(|r| r.trace_len()).map_err(read)?;
    item(&Item::Lab { uuid: db.lab_uuid().into(), rows })?;
    let mut seq = 0;
    loop {
        let part = db.read(|r| r.heads_after(seq, ROWS)).map_err(read)?;
        let Some(last) = part.last() else { break };
        seq = last.seq();
        part.iter().try_for_each(|head| item(&Item::Head { line: head.line() }))?;
    }
    // Behind the last head: none is of a row that is missing here.
    let mut seq = 0;
    loop {
        let part = db.read(|r| r.trace_after(seq, ROWS)).map_err(read)?;
        let Some(last) = part.last() else { break };
        seq = last.seq;
        part.into_iter().try_for_each(|row| item(&Item::Row(row)))?;
    }
    item(&Item::End)?;
    to.flush()
}
