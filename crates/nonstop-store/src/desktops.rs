//! Displays: who looked at which, what went through, and who else may look.

use crate::{Read, StoreError, Write, codec};
use jiff::Timestamp;
use nonstop_model::{AccountName, EnvironmentId, MachineId, MachineRole};
use rusqlite::{OptionalExtension, Row};
use serde_json::json;

/// The most viewers and recordings that a display has beside its owner.
pub const MOST_VIEWERS: u8 = 15;

/// Identifies a session at a display.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DesktopSessionId(pub u64);

/// In what right a person looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookerKind {
    /// The environment's owner, who types too.
    Owner,
    /// A person to whom the display was opened; sees only.
    Viewer,
}

impl LookerKind {
    /// The word of tables and trace.
    pub fn as_str(self) -> &'static str {
        match self {
            LookerKind::Owner => "owner",
            LookerKind::Viewer => "viewer",
        }
    }
}

/// A session at a display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesktopSession {
    /// Which.
    pub id: DesktopSessionId,
    /// The environment of the machine.
    pub environment: EnvironmentId,
    /// Whose environment it is.
    pub owner: AccountName,
    /// Whose display.
    pub machine: MachineId,
    /// The machine's role.
    pub role: MachineRole,
    /// Who looks.
    pub account: AccountName,
    /// In what right.
    pub kind: LookerKind,
    /// When it began.
    pub opened_at: Timestamp,
    /// When it ended.
    pub closed_at: Option<Timestamp>,
    /// Pictures and parts of one that were sent.
    pub frames: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// Keys pressed.
    pub keys_in: u64,
    /// Whether it used up its bytes of an hour at least once.
    pub over_budget: bool,
    /// What else is known of its end.
    pub note: String,
}

/// A permission to see a display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewGrant {
    /// Which.
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
    /// Who may look.
    pub account: AccountName,
    /// Who permitted it.
    pub granted_by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub from: Timestamp,
    /// Until when at most.
    pub until: Timestamp,
    /// When it was ended.
    pub ended_at: Option<Timestamp>,
}

const SESSIONS: &str = "SELECT s.id, e.id, o.name, m.id, m.role, a.name, s.kind, s.opened_at,
    s.closed_at, s.frames, s.bytes_out, s.keys_in, s.over_budget, s.note
    FROM desktop_sessions s JOIN machines m ON m.id = s.machine
    JOIN environments e ON e.id = m.environment
    JOIN accounts o ON o.id = e.account JOIN accounts a ON a.id = s.account";

const GRANTS: &str = "SELECT g.id, e.id, o.name, m.id, m.role, g.viewer, a.name, g.granted_by,
    g.reason, g.from_at, g.until_at, g.ended_at
    FROM view_grants g JOIN machines m ON m.id = g.machine
    JOIN environments e ON e.id = m.environment
    JOIN accounts o ON o.id = e.account JOIN accounts a ON a.id = g.account";

impl Read<'_> {
    /// Sessions at displays, newest first: open ones, or the last thousand; of one environment,
    /// or of all.
    pub fn desktop_sessions(
        &self,
        environment: Option<EnvironmentId>,
        all: bool,
    ) -> Result<Vec<DesktopSession>, StoreError> {
        let sql = format!(
            "{SESSIONS} WHERE (?1 OR s.closed_at IS NULL) AND (?2 IS NULL OR e.id = ?2)
             ORDER BY s.id DESC LIMIT 1000"
        );
        let mut statement = self.tx.prepare_cached(&sql)?;
        codec::all(statement.query((all, environment.map(|e| e.0)))?, session_from)
    }

    /// Sessions that used up their bytes of an hour and are open, or were after `since`.
    pub fn desktops_over_budget(
        &self,
        since: Timestamp,
    ) -> Result<Vec<DesktopSession>, StoreError> {
        let sql = format!(
            "{SESSIONS} WHERE s.over_budget = 1 AND coalesce(s.closed_at >= ?1, 1)
             ORDER BY s.id DESC LIMIT 100"
        );
        let mut statement = self.tx.prepare_cached(&sql)?;
        codec::all(statement.query([codec::micros(since)])?, session_from)
    }

    /// Permissions that hold at `now`, by machine and place: of one environment, or of all.
    /// Those of suspended accounts and of environments that have ended do not hold.
    pub fn view_grants(
        &self,
        environment: Option<EnvironmentId>,
        now: Timestamp,
    ) -> Result<Vec<ViewGrant>, StoreError> {
        let sql = format!(
            "{GRANTS} WHERE g.ended_at IS NULL AND g.until_at > ?1 AND a.state = 'active'
             AND e.state = 'granted' AND (?2 IS NULL OR e.id = ?2) ORDER BY m.id, g.viewer"
        );
        let mut statement = self.tx.prepare_cached(&sql)?;
        codec::all(statement.query((codec::micros(now), environment.map(|e| e.0)))?, grant_from)
    }

    /// The permission `id`, ended or not.
    pub fn view_grant(&self, id: u64) -> Result<ViewGrant, StoreError> {
        let mut statement = self.tx.prepare_cached(&format!("{GRANTS} WHERE g.id = ?1"))?;
        let mut rows = statement.query([signed(id)])?;
        rows.next()?.map_or(Err(StoreError::NoView(id)), grant_from)
    }

    /// Permissions that are not ended yet although their time is over at `now`, or their environment
    /// or person is gone.
    pub fn stale_views(&self, now: Timestamp) -> Result<Vec<u64>, StoreError> {
        let stale = self
            .tx
            .prepare_cached(
                "SELECT g.id FROM view_grants g JOIN machines m ON m.id = g.machine
                 JOIN environments e ON e.id = m.environment JOIN accounts a ON a.id = g.account
                 WHERE g.ended_at IS NULL
                 AND (g.until_at <= ?1 OR e.state <> 'granted' OR a.state <> 'active')",
            )?
            .query_map([codec::micros(now)], |row| row.get::<_, i64>(0).map(i64::unsigned_abs))?
            .collect::<Result<_, _>>()?;
        Ok(stale)
    }

    /// Who looks at the display of `machine` from the place `viewer`: its owner at 0, else who was
    /// last permitted that place. None for a recording, or when nobody was.
    pub fn looker(
        &self,
        machine: MachineId,
        viewer: u8,
    ) -> Result<Option<(AccountName, LookerKind)>, StoreError> {
        let (sql, kind) = match viewer {
            0 => (
                "SELECT a.name FROM machines m JOIN environments e ON e.id = m.environment
                 JOIN accounts a ON a.id = e.account WHERE m.id = ?1 AND ?2 = 0",
                LookerKind::Owner,
            ),
            _ => (
                "SELECT a.name FROM view_grants g JOIN accounts a ON a.id = g.account
                 WHERE g.machine = ?1 AND g.viewer = ?2 ORDER BY g.id DESC LIMIT 1",
                LookerKind::Viewer,
            ),
        };
        let name: Option<String> = self
            .tx
            .prepare_cached(sql)?
            .query_row((machine.0, viewer), |row| row.get(0))
            .optional()?;
        let name = name.map(|name| codec::parsed("an account's name", &name)).transpose()?;
        Ok(name.map(|name| (name, kind)))
    }

    /// The lowest place at the display of `machine` that nobody has.
    pub(crate) fn free_viewer(&self, machine: MachineId) -> Result<u8, StoreError> {
        let mut statement = self.tx.prepare_cached(
            "SELECT viewer FROM view_grants WHERE machine = ?1 AND ended_at IS NULL
             UNION SELECT viewer FROM recordings WHERE machine = ?1 AND ended_at IS NULL",
        )?;
        let taken = statement
            .query_map([machine.0], |row| row.get::<_, u8>(0))?
            .collect::<Result<Vec<u8>, _>>()?;
        (1..=MOST_VIEWERS).find(|place| !taken.contains(place)).ok_or(StoreError::NoPlace(machine))
    }

    fn open_desktop(&self, id: DesktopSessionId) -> Result<Option<DesktopSession>, StoreError> {
        let sql = format!("{SESSIONS} WHERE s.id = ?1 AND s.closed_at IS NULL");
        let mut statement = self.tx.prepare_cached(&sql)?;
        let mut rows = statement.query([signed(id.0)])?;
        rows.next()?.map(session_from).transpose()
    }
}

pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn session_from(row: &Row<'_>) -> Result<DesktopSession, StoreError> {
    let number = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
    let text = |column| row.get::<_, String>(column);
    Ok(DesktopSession {
        id: DesktopSessionId(number(0)?),
        environment: EnvironmentId(row.get(1)?),
        owner: codec::parsed("an account's name", &text(2)?)?,
        machine: MachineId(row.get(3)?),
        role: codec::parsed("a role", &text(4)?)?,
        account: codec::parsed("an account's name", &text(5)?)?,
        kind: if text(6)? == "owner" { LookerKind::Owner } else { LookerKind::Viewer },
        opened_at: codec::time(row.get(7)?)?,
        closed_at: row.get::<_, Option<i64>>(8)?.map(codec::time).transpose()?,
        frames: number(9)?,
        bytes_out: number(10)?,
        keys_in: number(11)?,
        over_budget: row.get(12)?,
        note: text(13)?,
    })
}

fn grant_from(row: &Row<'_>) -> Result<ViewGrant, StoreError> {
    let text = |column| row.get::<_, String>(column);
    Ok(ViewGrant {
        id: row.get::<_, i64>(0)?.unsigned_abs(),
        environment: EnvironmentId(row.get(1)?),
        owner: codec::parsed("an account's name", &text(2)?)?,
        machine: MachineId(row.get(3)?),
        role: codec::parsed("a role", &text(4)?)?,
        viewer: row.get(5)?,
        account: codec::parsed("an account's name", &text(6)?)?,
        granted_by: text(7)?,
        reason: text(8)?,
        from: codec::time(row.get(9)?)?,
        until: codec::time(row.get(10)?)?,
        ended_at: row.get::<_, Option<i64>>(11)?.map(codec::time).transpose()?,
    })
}

impl Write<'_> {
    /// Records that `account` began to look at the display of `machine`.
    pub fn desktop_opened(
        &mut self,
        machine: MachineId,
        account: &AccountName,
        kind: LookerKind,
    ) -> Result<DesktopSessionId, StoreError> {
        let person = self.account(account)?;
        self.tx.execute(
            "INSERT INTO desktop_sessions (machine, account, kind, opened_at)
             VALUES (?1, ?2, ?3, ?4)",
            (machine.0, person.id.0, kind.as_str(), codec::micros(self.now())),
        )?;
        let id = self.tx.last_insert_rowid().unsigned_abs();
        let detail = json!({ "session": id, "account": account, "as": kind.as_str() });
        self.trace("desktop.open", &machine, detail)?;
        Ok(DesktopSessionId(id))
    }

    /// Records that a session at a display ended, with its figures; one that is closed already
    /// stays as it is.
    pub fn desktop_closed(
        &mut self,
        id: DesktopSessionId,
        frames: u64,
        bytes_out: u64,
        keys_in: u64,
    ) -> Result<(), StoreError> {
        self.close_desktop(id, Some((frames, bytes_out, keys_in)), "")
    }

    /// Records the figures so far of a session that goes on.
    pub fn desktop_metered(
        &mut self,
        id: DesktopSessionId,
        frames: u64,
        bytes_out: u64,
        keys_in: u64,
    ) -> Result<(), StoreError> {
        self.desktop_goes_on(id, "desktop.meter", (frames, bytes_out, keys_in))
    }

    /// Records that a session has used up its bytes of this hour, with its figures so far.
    pub fn desktop_over_budget(
        &mut self,
        id: DesktopSessionId,
        frames: u64,
        bytes_out: u64,
        keys_in: u64,
    ) -> Result<(), StoreError> {
        self.tx.execute(
            "UPDATE desktop_sessions SET over_budget = 1 WHERE id = ?1 AND closed_at IS NULL",
            [signed(id.0)],
        )?;
        self.desktop_goes_on(id, "desktop.over_budget", (frames, bytes_out, keys_in))
    }

    fn desktop_goes_on(
        &mut self,
        id: DesktopSessionId,
        action: &str,
        (frames, bytes_out, keys_in): (u64, u64, u64),
    ) -> Result<(), StoreError> {
        let Some(session) = self.open_desktop(id)? else { return Ok(()) };
        self.tx.execute(
            "UPDATE desktop_sessions SET frames = ?2, bytes_out = ?3, keys_in = ?4 WHERE id = ?1",
            (signed(id.0), signed(frames), signed(bytes_out), signed(keys_in)),
        )?;
        let detail = json!({
            "session": id.0, "account": session.account, "frames": frames, "bytes_out": bytes_out,
            "keys_in": keys_in,
        });
        self.trace(action, &session.machine, detail)
    }

    /// Closes every session at a display that is open: the daemon that knew their figures is gone.
    pub fn close_forgotten_desktops(&mut self) -> Result<(), StoreError> {
        for session in self.desktop_sessions(None, false)? {
            self.close_desktop(session.id, None, "the daemon was started anew")?;
        }
        Ok(())
    }

    /// Closes a session whose end was not heard of.
    pub fn desktop_lost(&mut self, id: DesktopSessionId) -> Result<(), StoreError> {
        self.close_desktop(id, None, "its end was not heard of")
    }

    fn close_desktop(
        &mut self,
        id: DesktopSessionId,
        figures: Option<(u64, u64, u64)>,
        note: &str,
    ) -> Result<(), StoreError> {
        let Some(session) = self.open_desktop(id)? else { return Ok(()) };
        let (frames, bytes_out, keys_in) =
            figures.unwrap_or((session.frames, session.bytes_out, session.keys_in));
        // Else they are those that were told last, up to five minutes before.
        let exact = figures.is_some();
        self.tx.execute(
            "UPDATE desktop_sessions SET closed_at = ?2, frames = ?3, bytes_out = ?4, keys_in = ?5,
                 note = ?6 WHERE id = ?1",
            (
                signed(id.0),
                codec::micros(self.now()),
                signed(frames),
                signed(bytes_out),
                signed(keys_in),
                note,
            ),
        )?;
        let lasted = self.now().duration_since(session.opened_at).as_secs();
        let detail = json!({
            "session": id.0, "account": session.account, "as": session.kind.as_str(),
            "lasted_seconds": lasted, "frames": frames, "bytes_out": bytes_out,
            "keys_in": keys_in, "exact": exact, "note": note,
        });
        self.trace("desktop.close", &session.machine, detail)
    }

    /// Permits `account` to see the display of `machine` until `until`. A permission that it has
    /// is ended first.
    pub fn open_view(
        &mut self,
        machine: MachineId,
        account: &AccountName,
        reason: &str,
        until: Timestamp,
    ) -> Result<u64, StoreError> {
        let person = self.account(account)?;
        let before: Option<i64> = self
            .tx
            .query_row(
                "SELECT id FROM view_grants
                 WHERE machine = ?1 AND account = ?2 AND ended_at IS NULL",
                (machine.0, person.id.0),
                |row| row.get(0),
            )
            .optional()?;
        if let Some(id) = before {
            self.end_view(id.unsigned_abs(), "another was given")?;
        }
        let viewer = self.free_viewer(machine)?;
        let (actor, now) = (self.actor().to_string(), self.now());
        self.tx.execute(
            "INSERT INTO view_grants (machine, viewer, account, granted_by, reason, from_at,
                 until_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            (
                machine.0,
                viewer,
                person.id.0,
                actor,
                reason,
                codec::micros(now),
                codec::micros(until),
            ),
        )?;
        let id = self.tx.last_insert_rowid().unsigned_abs();
        let detail = json!({
            "view": id, "account": account, "reason": reason, "until": until, "viewer": viewer,
        });
        self.trace("desktop.view_open", &machine, detail)?;
        Ok(id)
    }

    /// Ends a permission to see; one that has ended stays as it is.
    pub fn end_view(&mut self, id: u64, reason: &str) -> Result<(), StoreError> {
        let grant = self.view_grant(id)?;
        let changed = self.tx.execute(
            "UPDATE view_grants SET ended_at = ?2 WHERE id = ?1 AND ended_at IS NULL",
            (signed(id), codec::micros(self.now())),
        )?;
        if changed == 0 {
            return Ok(());
        }
        let detail = json!({ "view": id, "account": grant.account, "reason": reason });
        self.trace("desktop.view_end", &grant.machine, detail)
    }
}
