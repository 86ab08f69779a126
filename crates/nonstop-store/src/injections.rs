//! Samples that are put before guests: asked for, there or not, ended.

use crate::{Read, StoreError, Write, codec, trace};
use nonstop_model::{
    Disc, EnvironmentId, InjectBy, InjectedItem, Injection, InjectionId, InjectionState, MachineId,
    MachineRole, Snapshot, SnapshotId, SnapshottedMachine,
};
use nonstop_trace::{Hash, RECORD, Record, Sign};
use rusqlite::{OptionalExtension, Row};
use serde_json::{Value, json};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInjection {
    /// Into which environment.
    pub environment: EnvironmentId,
    /// The machine of it.
    pub machine: MachineId,
    /// What that machine can write is of this generation.
    pub generation: u32,
    /// The data domain that has the samples.
    pub domain: String,
    /// How.
    pub by: InjectBy,
    /// Whether each is wrapped in a zip archive.
    pub zip: bool,
    /// What.
    pub items: Vec<InjectedItem>,
}

/// What was found to hold at the two ends of an injection, as JSON; none before it was looked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InjectionFacts {
    /// Before anything of it was before the guest.
    pub begin: Option<Value>,
    /// When nothing of it was any more.
    pub end: Option<Value>,
}

/// Which end of an injection facts are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactsAt {
    /// Before anything of it was before the guest.
    Begin,
    /// When nothing of it was any more.
    End,
}

const COLUMNS: &str = "id, environment, machine, generation, domain, by_person, way, zip, items,
    state, at, there_at, ended_at, ended_by, failure, guest_says";

impl Read<'_> {
    /// The injection `id`.
    pub fn injection(&self, id: InjectionId) -> Result<Injection, StoreError> {
        let found = self.injections_where("id = ?1", [id.0])?.pop();
        found.ok_or(StoreError::NoInjection(id))
    }

    /// Injections, newest first, of `environment` or of all; at most `limit`.
    pub fn injections(
        &self,
        environment: Option<EnvironmentId>,
        limit: u32,
    ) -> Result<Vec<Injection>, StoreError> {
        self.injections_where(
            "(?1 IS NULL OR environment = ?1) ORDER BY id DESC LIMIT ?2",
            (environment.map(|id| id.0), limit),
        )
    }

    /// Injections that live, and of which it is not written down yet what held before them. None of
    /// them goes before a guest until then; what came back with a snapshot, or a part of it, is there
    /// already.
    pub fn unbegun_injections(&self) -> Result<Vec<Injection>, StoreError> {
        let part = "facts_end IS NULL AND facts_begin IS NULL
             AND (state IN ('preparing', 'there') OR state = 'failed' AND reached = 1)";
        self.injections_where(part, [])
    }

    /// Injections that are to be given to an agent now, the oldest first.
    pub fn injections_to_give(&self) -> Result<Vec<Injection>, StoreError> {
        let part = "facts_end IS NULL AND facts_begin IS NOT NULL AND way = 'agent'
             AND state = 'preparing' ORDER BY id";
        self.injections_where(part, [])
    }

    /// Injections that have ended or failed, of which something may still be before a guest: what held
    /// until then is not written down yet. A disc that failed was never there.
    pub fn unended_injections(&self) -> Result<Vec<Injection>, StoreError> {
        self.injections_where(
            "facts_end IS NULL AND facts_begin IS NOT NULL
                 AND (state = 'ended' OR state = 'failed' AND way = 'agent')",
            [],
        )
    }

    /// The disc that is wanted in the drive of each machine, and of the machines of it.
    pub fn discs(&self) -> Result<Vec<(MachineId, Disc)>, StoreError> {
        let live = self.injections_where(
            "facts_end IS NULL AND facts_begin IS NOT NULL AND way = 'disc'
                 AND state IN ('preparing', 'there')",
            [],
        )?;
        let disc = |injection: Injection| {
            let there = injection.state == InjectionState::There;
            let Injection { id, machine, domain, items, zip, .. } = injection;
            (machine, Disc { injection: id, domain, items, zip, there })
        };
        Ok(live.into_iter().map(disc).collect())
    }

    /// Errors: samples are just on their way to `machine`.
    pub(crate) fn nothing_is_on_its_way(&self, machine: MachineId) -> Result<(), StoreError> {
        let others = self.injections_where("machine = ?1 AND state = 'preparing'", [machine.0])?;
        others.first().map_or(Ok(()), |other| Err(StoreError::BeingInjected(other.id)))
    }

    fn injections_where(
        &self,
        part: &str,
        given: impl rusqlite::Params,
    ) -> Result<Vec<Injection>, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM injections WHERE {part}");
        let mut statement = self.tx.prepare_cached(&query)?;
        codec::all(statement.query(given)?, injection_from)
    }

    /// What was found to hold at the two ends of `id`.
    pub fn injection_facts(&self, id: InjectionId) -> Result<InjectionFacts, StoreError> {
        let found = self
            .tx
            .query_row(
                "SELECT facts_begin, facts_end FROM injections WHERE id = ?1",
                [id.0],
                |row| Ok((row.get::<_, Option<String>>(0)?, row.get::<_, Option<String>>(1)?)),
            )
            .optional()?;
        let (begin, end) = found.ok_or(StoreError::NoInjection(id))?;
        let read = |text: Option<String>| {
            text.map(|text| codec::json("facts of an injection", &text)).transpose()
        };
        Ok(InjectionFacts { begin: read(begin)?, end: read(end)? })
    }

    /// The newest signed record of `id`; none before one was made.
    pub fn injection_record(&self, id: InjectionId) -> Result<Option<Record>, StoreError> {
        let Some(row) = self.signed_row("a record", &id, RECORD)? else { return Ok(None) };
        let said = codec::json("a record", &row.detail)?;
        let record = Record::new(row.before, row.at, id, said, row.head);
        record.map(Some).map_err(|e| codec::corrupt("a record", e))
    }
}

fn injection_from(row: &Row<'_>) -> Result<Injection, StoreError> {
    let text = |column| row.get::<_, String>(column);
    let time = |column| row.get::<_, Option<i64>>(column)?.map(codec::time).transpose();
    Ok(Injection {
        id: InjectionId(row.get(0)?),
        environment: EnvironmentId(row.get(1)?),
        machine: MachineId(row.get(2)?),
        generation: row.get(3)?,
        domain: text(4)?,
        by_person: text(5)?,
        by: codec::parsed("a way into a guest", &text(6)?)?,
        zip: row.get(7)?,
        items: codec::json("samples of an injection", &text(8)?)?,
        state: codec::parsed("a state", &text(9)?)?,
        at: codec::time(row.get(10)?)?,
        there_at: time(11)?,
        ended_at: time(12)?,
        ended_by: row.get(13)?,
        failure: row.get(14)?,
        guest_says: row.get(15)?,
    })
}

impl Write<'_> {
    /// Wants samples before a guest; a disc that is there is taken out for the new one.
    ///
    /// Errors: others are just on their way to it, a snapshot of it is being taken, its environment has
    /// ended, or it is not the guest of that generation any more.
    pub fn inject(&mut self, new: &NewInjection) -> Result<InjectionId, StoreError> {
        self.nothing_is_taken(new.environment)?;
        self.is_still_that_guest(new)?;
        self.nothing_is_on_its_way(new.machine)?;
        if new.by == InjectBy::Disc {
            self.end_injections("machine = ?2 AND way = 'disc'", new.machine.0, "replaced")?;
        }
        let actor = self.actor().to_string();
        self.tx.execute(
            "INSERT INTO injections (environment, machine, generation, domain, by_person, way, zip,
                 items, state, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'preparing', ?9)",
            (
                new.environment.0,
                new.machine.0,
                new.generation,
                &new.domain,
                &actor,
                new.by.as_str(),
                new.zip,
                codec::to_json(&new.items),
                codec::micros(self.now()),
            ),
        )?;
        let id = u32::try_from(self.tx.last_insert_rowid())
            .map(InjectionId)
            .map_err(|e| codec::corrupt("an injection's number", e))?;
        let detail = json!({
            "environment": new.environment, "machine": new.machine, "generation": new.generation,
            "domain": new.domain, "by": new.by, "zip": new.zip, "samples": new.items,
        });
        self.trace("sample.inject", &id, detail)?;
        Ok(id)
    }

    /// Errors: what was looked at before this transaction does not hold any more.
    fn is_still_that_guest(&self, new: &NewInjection) -> Result<(), StoreError> {
        let found: Option<(u32, String)> = self
            .tx
            .query_row(
                "SELECT m.generation, e.state FROM machines m JOIN environments e
                     ON e.id = m.environment WHERE m.id = ?1 AND e.id = ?2",
                (new.machine.0, new.environment.0),
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        match found {
            None => Err(StoreError::NoMachine(new.environment)),
            Some((_, state)) if state != "granted" => Err(StoreError::Ended(new.environment)),
            Some((generation, _)) if generation != new.generation => {
                Err(StoreError::OtherGuest(new.machine))
            }
            Some(_) => Ok(()),
        }
    }

    /// Records that the guest's agent is about to be given something of `id`, before it is. Gives
    /// whether something may have been in the guest before; None where it is not wanted any more, or its
    /// guest is another.
    pub fn injection_reaches(&mut self, id: InjectionId) -> Result<Option<bool>, StoreError> {
        let wanted: Option<bool> = self
            .tx
            .query_row(
                "SELECT i.reached FROM injections i JOIN machines m ON m.id = i.machine
                     JOIN environments e ON e.id = i.environment
                 WHERE i.id = ?1 AND i.state = 'preparing' AND i.generation = m.generation
                     AND e.state = 'granted'",
                [id.0],
                |row| row.get(0),
            )
            .optional()?;
        if wanted == Some(false) {
            self.tx.execute("UPDATE injections SET reached = 1 WHERE id = ?1", [id.0])?;
            self.trace("sample.give", &id, json!({}))?;
        }
        Ok(wanted)
    }

    /// Records that nothing of `id` got into the guest after all.
    pub fn injection_reached_nothing(&mut self, id: InjectionId) -> Result<(), StoreError> {
        self.tx.execute("UPDATE injections SET reached = 0 WHERE id = ?1", [id.0])?;
        self.trace("sample.not_taken", &id, json!({}))
    }

    /// Records that the guest has it before it; `guest_says` is what the guest said of that. One that
    /// was ended meanwhile stays so, with what the guest said.
    pub fn injection_there(
        &mut self,
        id: InjectionId,
        guest_says: Option<&str>,
    ) -> Result<(), StoreError> {
        let changed = self.tx.execute(
            "UPDATE injections SET state = 'there', there_at = ?2, guest_says = ?3
             WHERE id = ?1 AND state = 'preparing'",
            (id.0, codec::micros(self.now()), guest_says),
        )?;
        if changed == 0 {
            return self.said_of_ended(id, guest_says);
        }
        self.trace("sample.there", &id, json!({ "guest_says": guest_says }))
    }

    /// Records that it does not get there, and why. One that was ended meanwhile stays so, with what the
    /// guest said.
    pub fn injection_failed(
        &mut self,
        id: InjectionId,
        why: &str,
        guest_says: Option<&str>,
    ) -> Result<(), StoreError> {
        let changed = self.tx.execute(
            "UPDATE injections SET state = 'failed', ended_at = ?2, failure = ?3, guest_says = ?4
             WHERE id = ?1 AND state = 'preparing'",
            (id.0, codec::micros(self.now()), why, guest_says),
        )?;
        if changed == 0 {
            return self.said_of_ended(id, guest_says);
        }
        self.trace("sample.failed", &id, json!({ "why": why, "guest_says": guest_says }))
    }

    /// What a guest took before an injection was ended is in it all the same.
    fn said_of_ended(
        &mut self,
        id: InjectionId,
        guest_says: Option<&str>,
    ) -> Result<(), StoreError> {
        let changed = self.tx.execute(
            "UPDATE injections SET guest_says = ?2
             WHERE id = ?1 AND ?2 IS NOT NULL AND state = 'ended' AND there_at IS NULL",
            (id.0, guest_says),
        )?;
        match changed {
            0 => Ok(()),
            _ => self.trace("sample.said", &id, json!({ "guest_says": guest_says })),
        }
    }

    /// Wants no disc in the drives of `environment`, and what is just on its way to an agent not given
    /// to it. Repeatable.
    pub fn eject(&mut self, environment: EnvironmentId) -> Result<(), StoreError> {
        self.nothing_is_taken(environment)?;
        let which = "environment = ?2 AND (way = 'disc' OR state = 'preparing')";
        self.end_injections(which, environment.0, "eject")
    }

    /// The machine of `role` has nothing any more of what was put before it.
    pub(crate) fn machine_lost_samples(
        &mut self,
        environment: EnvironmentId,
        role: MachineRole,
        by: &str,
    ) -> Result<(), StoreError> {
        let machine: Option<u32> = self
            .tx
            .query_row(
                "SELECT id FROM machines WHERE environment = ?1 AND role = ?2",
                (environment.0, role.as_str()),
                |row| row.get(0),
            )
            .optional()?;
        machine.map_or(Ok(()), |id| self.end_injections("machine = ?2", id, by))
    }

    /// Nothing of `environment` is before any guest any more.
    pub(crate) fn environment_lost_samples(
        &mut self,
        environment: EnvironmentId,
    ) -> Result<(), StoreError> {
        self.end_injections("environment = ?2", environment.0, "environment end")
    }

    /// What agents have given to the guests of `snapshot` is in it, and with them in the generations
    /// that begin now: a guest that was kept goes on as the same.
    pub(crate) fn samples_go_on(&mut self, snapshot: SnapshotId) -> Result<(), StoreError> {
        self.tx.execute(
            "INSERT INTO snapshot_injections (snapshot, injection)
             SELECT s.snapshot, i.id FROM snapshot_machines s JOIN injections i
                 ON i.machine = s.machine AND i.generation = s.generation
             WHERE s.snapshot = ?1 AND i.way = 'agent' AND i.reached = 1",
            [snapshot.0],
        )?;
        self.tx.execute(
            "UPDATE injections SET generation = injections.generation + 1 FROM snapshot_machines s
             WHERE s.snapshot = ?1 AND s.machine = injections.machine
                 AND s.generation = injections.generation AND injections.facts_end IS NULL",
            [snapshot.0],
        )?;
        Ok(())
    }

    /// What an agent had given to `machine` before `snapshot` was taken is in it again, once it is as it
    /// was then: another run of the same samples begins. Of what had not got in whole, that stays said.
    pub(crate) fn samples_come_back(
        &mut self,
        snapshot: &Snapshot,
        machine: &SnapshottedMachine,
    ) -> Result<(), StoreError> {
        let mut insert = self.tx.prepare_cached(
            "INSERT INTO injections (environment, machine, generation, domain, by_person, way, zip,
                 items, reached, guest_says, at, state, there_at, ended_at, failure)
             SELECT i.environment, i.machine, m.generation, i.domain, ?1, i.way, i.zip, i.items, 1,
                 i.guest_says, ?2,
                 CASE WHEN i.there_at IS NULL THEN 'failed' ELSE 'there' END,
                 CASE WHEN i.there_at IS NOT NULL THEN ?2 END,
                 CASE WHEN i.there_at IS NULL THEN ?2 END,
                 CASE WHEN i.there_at IS NULL THEN coalesce(i.failure,
                     'it was ended before all of it was in the guest') END
             FROM snapshot_injections s JOIN injections i ON i.id = s.injection
                 JOIN machines m ON m.id = i.machine JOIN environments e ON e.id = i.environment
             WHERE s.snapshot = ?3 AND i.machine = ?4 AND e.state = 'granted' ORDER BY i.id
             RETURNING id",
        )?;
        let actor = self.actor().to_string();
        let given = (actor, codec::micros(self.now()), snapshot.id.0, machine.machine.0);
        let back = codec::all(insert.query(given)?, |row| Ok(InjectionId(row.get::<_, u32>(0)?)))?;
        drop(insert);
        for id in back {
            let detail = json!({ "machine": machine.machine, "snapshot": snapshot.id });
            self.trace("sample.back", &id, detail)?;
        }
        Ok(())
    }

    fn end_injections(&mut self, which: &str, of: u32, by: &str) -> Result<(), StoreError> {
        let query = format!(
            "UPDATE injections SET state = 'ended', ended_at = ?1, ended_by = ?3
             WHERE {which} AND state IN ('preparing', 'there') RETURNING id"
        );
        let mut update = self.tx.prepare_cached(&query)?;
        let now = codec::micros(self.now());
        let ended =
            codec::all(update.query((now, of, by))?, |row| Ok(InjectionId(row.get::<_, u32>(0)?)))?;
        drop(update);
        for id in ended {
            self.trace("sample.end", &id, json!({ "by": by }))?;
        }
        Ok(())
    }

    /// Keeps what was found to hold at one end of `id`; what is known already stays.
    pub fn injection_witnessed(
        &mut self,
        id: InjectionId,
        at: FactsAt,
        facts: &Value,
    ) -> Result<(), StoreError> {
        let column = match at {
            FactsAt::Begin => "facts_begin",
            FactsAt::End => "facts_end",
        };
        let query =
            format!("UPDATE injections SET {column} = ?2 WHERE id = ?1 AND {column} IS NULL");
        let changed = self.tx.execute(&query, (id.0, facts.to_string()))?;
        if changed == 0 {
            return Ok(());
        }
        let end = at == FactsAt::End;
        self.trace("sample.witnessed", &id, json!({ "end": end, "facts": facts }))
    }

    /// Adds the row of the record of `id`, which says `said`, and signs it: whoever holds the record
    /// holds the lab to all that its trace said before, too.
    pub fn sign_record(
        &mut self,
        id: InjectionId,
        said: Value,
        key: &dyn Sign,
    ) -> Result<Record, StoreError> {
        let before = trace::last(self.tx)?.map_or(Hash::ZERO, |(_, hash)| hash);
        self.trace_by("nonstopd", RECORD, &id, &said)?;
        let head = self.sign_head(key)?;
        let head = head.ok_or_else(|| codec::corrupt("a record", "its row is signed already"))?;
        let at = codec::time(codec::micros(self.now()))?;
        Record::new(before, at, id, said, head).map_err(|e| codec::corrupt("a record", e))
    }
}
