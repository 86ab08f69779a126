//! `nonstop-data load`: fills a table beside the live day's, with its indexes.

use super::{
    NotNow, Writer, data_folder,
    part::{Part, time},
    room::Room,
    row::Rows,
};
use crate::{
    capture::{CaptureError, Reader},
    packet::Packet,
    rdb::{DATABASE, LOADER},
    say::{GivenDay, Say, Stdin},
    told::Told,
    wire::{Session, quoted},
};
use jiff::{Timestamp, civil::Date};
use nonstop_model::PublicationId;
use std::process::ExitCode;

/// Reads the file of packets on standard input into a table beside the live day's; `swap` makes
/// it the day. Repeatable: a table that is whole already is left as it is, and what an earlier try
/// left is removed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The data domain, for messages.
    #[arg(long)]
    pub domain: String,
    #[command(flatten)]
    given: GivenDay,
    /// The publication whose day it becomes.
    #[arg(long)]
    pub publication: PublicationId,
    /// SHA-256 of the file, for the table of days.
    #[arg(long, value_name = "HEX")]
    pub sha256: String,
    /// Leaves the indexes out, to measure what they cost.
    #[arg(long, hide = true)]
    pub without_indexes: bool,
    #[command(flatten)]
    writer: Writer,
}

/// How many bytes are sent between two looks at the disk.
const LOOK: u64 = 32 << 20;

/// Bytes of all indexes on both servers, and of sorting for one, for one row; generously.
const INDEXES_BYTES: u64 = 80;

/// Loads standard input.
pub fn run(args: &Args) -> ExitCode {
    let mut say = Say::new();
    let of = match crate::say::file_on_stdin() {
        Ok(of) => of,
        Err(reason) => return say.failed(&reason),
    };
    match load(args, of, &mut say) {
        Ok(rows) => say.last(&Told::Done { rows }),
        Err(e) => say.failed(&format!("load {} for {}: {e}", args.given.day, args.domain)),
    }
}

fn load(args: &Args, of: u64, say: &mut Say) -> Result<u64, NotNow> {
    let socket = &args.writer.socket;
    let folder = data_folder(socket)?;
    let room = Room::of(&folder).map_err(|e| NotNow(format!("{}: {e}", folder.display())))?;
    let mut session = Session::open(socket, LOADER, DATABASE, None)?;
    args.writer.confine()?;

    let part = Part { day: args.given.day, publication: args.publication };
    if let Some(rows) = there_already(&mut session, args, &part)? {
        return Ok(rows);
    }
    room.check(0)?;
    session
        .ask("begin; set local lock_timeout = '20s'; set local maintenance_work_mem = '512MB'")?;
    remove_leftovers(&mut session, args.given.day)?;
    session.ask(&part.create(args.given.from, args.given.until))?;
    let found = match copy(&mut session, &part, &room, of, say) {
        Ok(found) => found,
        Err(e) => {
            // The end of the connection does it, too; this tells when it is done.
            let _ = session.ask("rollback");
            return Err(e);
        }
    };
    room.check(found.rows * INDEXES_BYTES)?;
    let indexes = if args.without_indexes { Vec::new() } else { part.indexes().to_vec() };
    for index in indexes {
        session.ask_patiently(&index, || say.progress(of, of))?;
        room.check(0)?;
    }
    let name = part.name();
    let [first, last] = [found.first, found.last]
        .map(|microseconds| Timestamp::from_microsecond(microseconds).map_or("null".into(), time));
    session.ask(&format!(
        "analyze parts.{name};
         insert into parts.staged
             (part, day, day_from, day_until, rows, first, last, publication, sha256)
         values ({}, {}, {}, {}, {}, {first}, {last}, {}, {});
         commit",
        quoted(&name),
        quoted(&args.given.day.to_string()),
        time(args.given.from),
        time(args.given.until),
        found.rows,
        quoted(&args.publication.to_string()),
        quoted(&args.sha256),
    ))?;
    Ok(found.rows)
}

/// The rows, if this publication has put its day there or beside already.
fn there_already(session: &mut Session, args: &Args, part: &Part) -> Result<Option<u64>, NotNow> {
    let rows = session.ask_one(&format!(
        "select rows from public.days where part = {0} and sha256 = {1}
         union all select rows from parts.staged where part = {0} and sha256 = {1}",
        quoted(&part.name()),
        quoted(&args.sha256)
    ))?;
    Ok(rows.and_then(|rows| rows.parse().ok()))
}

/// Removes tables that stand beside `day` or have stood beside another for long: of publications
/// that came to nothing.
fn remove_leftovers(session: &mut Session, day: Date) -> Result<(), NotNow> {
    let old = format!("day = {} or staged < now() - interval '7 days'", quoted(&day.to_string()));
    for row in session.ask(&format!("select part from parts.staged where {old}"))? {
        if let [Some(part)] = &row[..] {
            session.ask(&format!("drop table if exists parts.{part}"))?;
        }
    }
    session.ask(&format!("delete from parts.staged where {old}"))?;
    Ok(())
}

struct Found {
    rows: u64,
    first: i64,
    last: i64,
}

fn copy(
    session: &mut Session,
    part: &Part,
    room: &Room,
    of: u64,
    say: &mut Say,
) -> Result<Found, NotNow> {
    let broken = |e: CaptureError| NotNow(format!("the file was whole when it was checked: {e}"));
    let mut reader = Reader::new(Stdin).map_err(broken)?;
    let mut copy = session.copy(&part.copy())?;
    let mut rows = Rows::new();
    let mut found = Found { rows: 0, first: i64::MAX, last: i64::MIN };
    let mut unlooked = 0;
    loop {
        let full = match reader.next() {
            Ok(Some(record)) => {
                let packet = Packet::decode(&record);
                found.rows += 1;
                found.first = found.first.min(packet.microseconds);
                found.last = found.last.max(packet.microseconds);
                rows.push(&packet);
                rows.is_full()
            }
            Ok(None) => break,
            Err(e) => {
                copy.abandon();
                return Err(broken(e));
            }
        };
        if full {
            unlooked += rows.bytes().len() as u64;
            copy.send(rows.bytes())?;
            rows.clear();
            say.progress(reader.offset(), of);
            if unlooked > LOOK {
                unlooked = 0;
                if let Err(e) = room.check(0) {
                    copy.abandon();
                    return Err(e);
                }
            }
        }
    }
    rows.end();
    copy.send(rows.bytes())?;
    let taken = copy.end()?;
    if taken != found.rows {
        return Err(NotNow(format!("PostgreSQL took {taken} of {} rows", found.rows)));
    }
    Ok(found)
}
