//! Files that no table has: what a PostgreSQL that was killed in the middle of a load leaves on the
//! disk, as large as that load, and never looks at again.

use crate::{
    rdb::{
        DATABASE, KEEPER,
        cluster::{self, Part},
        places::Places,
    },
    wire::{Session, WireError},
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

const PATIENCE: Option<Duration> = Some(Duration::from_secs(30));

/// Which servers were started and may still have some.
pub(crate) struct Leftovers {
    of: Vec<Part>,
    next: Instant,
}

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(2);

impl Leftovers {
    pub(crate) fn new() -> Leftovers {
        Leftovers { of: Vec::new(), next: Instant::now() }
    }

    /// Has the files of `part`, which was started, looked at as soon as nobody loads.
    pub(crate) fn look_after(&mut self, part: Part) {
        if !self.of.contains(&part) {
            self.of.push(part);
        }
    }

    /// Removes, once after each start of a server, what its last end left of a load.
    pub(crate) fn remove(&mut self, places: &Places) {
        if self.of.is_empty() || self.next > Instant::now() {
            return;
        }
        self.next = Instant::now() + PAUSE;
        // Where somebody loads, or a server starts, it is looked at again.
        self.of.retain(|part| !matches!(remove(places, *part), Ok(true)));
    }
}

/// Whether nothing is left in the files of `part` that no table has.
fn remove(places: &Places, part: Part) -> Result<bool, WireError> {
    let (folder, socket) = (part.folder(places), part.socket(places));
    let find = || find(&folder, socket, &places.load);
    let Some(before) = find()? else { return Ok(false) };
    if before.is_empty() {
        return Ok(true);
    }
    if !settle(socket, &places.load)? {
        return Ok(false);
    }
    let Some(mut files) = find()? else { return Ok(false) };
    files.retain(|file| before.contains(file));
    eprintln!("{}: {} files of no table are removed", part.word(), files.len());
    if let Err(e) = cluster::remove_all(places, &files) {
        eprintln!("{e:#}");
    }
    Ok(true)
}

/// Files of the database in `folder`, which the server at `socket` serves, that no table of it has.
/// None if this is not the time to say: somebody loads, or the reader does not follow.
///
/// A load that begins while this looks is seen by the second look at the writer; one that began and
/// ended has a table.
fn find(folder: &Path, socket: &Path, writer: &Path) -> Result<Option<Vec<PathBuf>>, WireError> {
    let mut writer = Session::open(writer, KEEPER, DATABASE, PATIENCE)?;
    let mut server = Session::open(socket, KEEPER, DATABASE, PATIENCE)?;
    if !is_quiet(&mut writer)? {
        return Ok(None);
    }
    let sql = format!("select oid from pg_database where datname = '{DATABASE}'");
    let database = server.ask_one(&sql)?.unwrap_or_default();
    let files = numbered(&folder.join("base").join(database));
    if !is_quiet(&mut writer)? {
        return Ok(None);
    }
    let sql =
        "select pg_relation_filenode(oid) from pg_class where relkind in ('r','i','t','m','S')";
    let known: BTreeSet<u32> = server
        .ask(sql)?
        .into_iter()
        .filter_map(|row| row.into_iter().next()??.parse().ok())
        .collect();
    Ok(Some(files.into_iter().filter(|(n, _)| !known.contains(n)).map(|(_, path)| path).collect()))
}

/// Has what `server` knows of such files written out and forgotten, so that they can be removed: pages
/// of theirs that are still to be written, or a log that would be read again from before them,
/// would be missed by PostgreSQL later, by a PANIC. False if this is not the time.
///
/// A reader's checkpoint reaches up to the last one of the writer that it has seen.
fn settle(socket: &Path, writer: &Path) -> Result<bool, WireError> {
    let mut writer = Session::open(writer, KEEPER, DATABASE, PATIENCE)?;
    let mut server = Session::open(socket, KEEPER, DATABASE, PATIENCE)?;
    const REDO: &str = "select redo_lsn from pg_control_checkpoint()";
    writer.ask("checkpoint")?;
    let Some(wanted) = writer.ask_one(REDO)? else { return Ok(false) };
    if !is_quiet(&mut writer)? {
        return Ok(false);
    }
    server.ask("checkpoint")?;
    let reached = format!("select redo_lsn >= '{wanted}'::pg_lsn from pg_control_checkpoint()");
    Ok(server.ask_one(&reached)?.as_deref() == Some("t"))
}

/// Whether nobody changes tables, and the reader has seen all changes.
fn is_quiet(writer: &mut Session) -> Result<bool, WireError> {
    let sql = "select not exists (select from pg_stat_activity where usename = 'loader')
                  and not exists (select from pg_stat_activity where backend_xid is not null)
                  and coalesce((select bool_and(replay_lsn >= pg_current_wal_flush_lsn())
                      from pg_stat_replication where application_name = 'reader'), false)";
    Ok(writer.ask_one(sql)?.as_deref() == Some("t"))
}

/// Files that are named like those of tables, and are not empty: an empty one is a table's that is
/// gone, which PostgreSQL keeps until its next checkpoint so that its number is not used again.
fn numbered(folder: &Path) -> Vec<(u32, PathBuf)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let digits = name.to_str().map(|name| {
            let end = name.find(|c: char| !c.is_ascii_digit()).unwrap_or(name.len());
            name[..end].parse::<u32>()
        });
        let is_file = entry.metadata().is_ok_and(|data| data.is_file() && data.len() > 0);
        if let Some(Ok(number)) = digits
            && is_file
        {
            found.push((number, entry.path()));
        }
    }
    found
}
