//! Recordings of displays: who wanted them and why, and who saw them and why.

use crate::{Read, StoreError, Write, codec, desktops::signed};
use jiff::Timestamp;
use nonstop_model::{AccountName, EnvironmentId, MachineId, MachineRole};
use rusqlite::{OptionalExtension, Row};
use serde_json::json;

/// How long one who said why may see a recording, in seconds.
const PLAY_SECONDS: i64 = 3600;

/// A recording. Its pictures lie in the lab's folder of recordings, in the file `ID.age`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// Its number.
    pub id: u64,
    /// The environment of the machine.
    pub environment: EnvironmentId,
    /// Whose environment it is.
    pub owner: AccountName,
    /// Whose display.
    pub machine: MachineId,
    /// The machine's role.
    pub role: MachineRole,
    /// Its place at the display, from 1.
    pub viewer: u8,
    /// Who wanted it.
    pub wanted_by: String,
    /// Why.
    pub reason: String,
    /// The most bytes that it takes.
    pub max_bytes: u64,
    /// When it began.
    pub begun_at: Timestamp,
    /// When it ended; None while it goes on.
    pub ended_at: Option<Timestamp>,
    /// Bytes of its file when it ended.
    pub bytes: u64,
    /// Why it ended.
    pub note: String,
}

const SELECT: &str = "SELECT r.id, e.id, o.name, m.id, m.role, r.viewer, r.wanted_by, r.reason,
    r.max_bytes, r.begun_at, r.ended_at, r.bytes, r.note
    FROM recordings r JOIN machines m ON m.id = r.machine
    JOIN environments e ON e.id = m.environment JOIN accounts o ON o.id = e.account";

impl Read<'_> {
    /// Recordings, newest first: those that go on, or the last thousand.
    pub fn recordings(&self, all: bool) -> Result<Vec<Recording>, StoreError> {
        let sql = format!("{SELECT} WHERE ?1 OR r.ended_at IS NULL ORDER BY r.id DESC LIMIT 1000");
        let mut statement = self.tx.prepare_cached(&sql)?;
        codec::all(statement.query([all])?, recording_from)
    }

    /// The recording `id`.
    pub fn recording(&self, id: u64) -> Result<Recording, StoreError> {
        let mut statement = self.tx.prepare_cached(&format!("{SELECT} WHERE r.id = ?1"))?;
        let mut rows = statement.query([signed(id)])?;
        rows.next()?.map_or(Err(StoreError::NoRecording(id)), recording_from)
    }

    /// The recording that goes on at this place of a display.
    pub fn recording_at(&self, machine: MachineId, viewer: u8) -> Result<Option<u64>, StoreError> {
        let going = self.tx.query_row(
            "SELECT id FROM recordings WHERE machine = ?1 AND viewer = ?2 AND ended_at IS NULL",
            (machine.0, viewer),
            |row| row.get::<_, i64>(0).map(i64::unsigned_abs),
        );
        Ok(going.optional()?)
    }

    /// Recordings that go on although their environment has ended.
    pub fn stale_recordings(&self) -> Result<Vec<u64>, StoreError> {
        let stale = self
            .tx
            .prepare_cached(
                "SELECT r.id FROM recordings r JOIN machines m ON m.id = r.machine
                 JOIN environments e ON e.id = m.environment
                 WHERE r.ended_at IS NULL AND e.state <> 'granted'",
            )?
            .query_map([], |row| row.get::<_, i64>(0).map(i64::unsigned_abs))?
            .collect::<Result<_, _>>()?;
        Ok(stale)
    }

    /// Whether `actor` said within the last hour before `now` why it sees the recording `id`.
    pub fn may_play(&self, id: u64, actor: &str, now: Timestamp) -> Result<bool, StoreError> {
        let since = codec::micros(now).saturating_sub(PLAY_SECONDS * 1_000_000);
        let plays: i64 = self.tx.query_row(
            "SELECT count(*) FROM recording_plays
             WHERE recording = ?1 AND actor = ?2 AND at > ?3 AND at <= ?4",
            (signed(id), actor, since, codec::micros(now)),
            |row| row.get(0),
        )?;
        Ok(plays > 0)
    }
}

fn recording_from(row: &Row<'_>) -> Result<Recording, StoreError> {
    let number = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
    let text = |column| row.get::<_, String>(column);
    Ok(Recording {
        id: number(0)?,
        environment: EnvironmentId(row.get(1)?),
        owner: codec::parsed("an account's name", &text(2)?)?,
        machine: MachineId(row.get(3)?),
        role: codec::parsed("a role", &text(4)?)?,
        viewer: row.get(5)?,
        wanted_by: text(6)?,
        reason: text(7)?,
        max_bytes: number(8)?,
        begun_at: codec::time(row.get(9)?)?,
        ended_at: row.get::<_, Option<i64>>(10)?.map(codec::time).transpose()?,
        bytes: number(11)?,
        note: text(12)?,
    })
}

impl Write<'_> {
    /// Wants the display of `machine` recorded from now on. A display has one recording at a time.
    pub fn begin_recording(
        &mut self,
        machine: MachineId,
        reason: &str,
        max_bytes: u64,
    ) -> Result<u64, StoreError> {
        let going: i64 = self.tx.query_row(
            "SELECT count(*) FROM recordings WHERE machine = ?1 AND ended_at IS NULL",
            [machine.0],
            |row| row.get(0),
        )?;
        if going > 0 {
            return Err(StoreError::Recorded(machine));
        }
        let viewer = self.free_viewer(machine)?;
        let (actor, now) = (self.actor().to_string(), self.now());
        self.tx.execute(
            "INSERT INTO recordings (machine, viewer, wanted_by, reason, max_bytes, begun_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            (machine.0, viewer, actor, reason, signed(max_bytes), codec::micros(now)),
        )?;
        let id = self.tx.last_insert_rowid().unsigned_abs();
        let detail = json!({ "recording": id, "reason": reason, "max_bytes": max_bytes });
        self.trace("recording.begin", &machine, detail)?;
        Ok(id)
    }

    /// Ends a recording, whose file has `bytes`; one that has ended stays as it is.
    pub fn end_recording(&mut self, id: u64, bytes: u64, note: &str) -> Result<(), StoreError> {
        let recording = self.recording(id)?;
        let changed = self.tx.execute(
            "UPDATE recordings SET ended_at = ?2, bytes = ?3, note = ?4
             WHERE id = ?1 AND ended_at IS NULL",
            (signed(id), codec::micros(self.now()), signed(bytes), note),
        )?;
        if changed == 0 {
            return Ok(());
        }
        let detail = json!({ "recording": id, "bytes": bytes, "note": note });
        self.trace("recording.end", &recording.machine, detail)
    }

    /// Lets this change's actor see the recording `id` for an hour, for `reason`.
    pub fn play_recording(&mut self, id: u64, reason: &str) -> Result<(), StoreError> {
        let recording = self.recording(id)?;
        let (actor, now) = (self.actor().to_string(), self.now());
        self.tx.execute(
            "INSERT INTO recording_plays (recording, actor, reason, at) VALUES (?1, ?2, ?3, ?4)",
            (signed(id), actor, reason, codec::micros(now)),
        )?;
        let detail = json!({ "recording": id, "reason": reason });
        self.trace("recording.play", &recording.machine, detail)
    }
}
