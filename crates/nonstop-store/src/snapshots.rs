//! Snapshots: asked for, taken or not, returned to, deleted.

use crate::{Read, StoreError, Write, codec};
use nonstop_model::{
    EnvironmentId, Machine, MachineId, MachineRole, Memory, Power, Snapshot, SnapshotId,
    SnapshotName, SnapshotState, SnapshottedMachine, snapshot::frozen,
};
use serde_json::json;
use std::collections::BTreeSet;

/// How many frozen generations a machine may stand on and keep. QEMU looks through those below
/// it for whatever it has not written itself.
pub const MOST_FROZEN: usize = 40;

impl Read<'_> {
    /// Snapshots of environments that are not gone, or of one, the oldest first; deleted ones
    /// too, because others may stand on what they named.
    pub fn snapshots(&self, of: Option<EnvironmentId>) -> Result<Vec<Snapshot>, StoreError> {
        let mut statement = self.tx.prepare_cached(
            "SELECT s.id, s.environment, s.name, s.asked_at, s.state, s.note
             FROM snapshots s JOIN environments e ON e.id = s.environment
             WHERE e.state <> 'gone' AND (?1 IS NULL OR s.environment = ?1) ORDER BY s.id",
        )?;
        let mut rows = statement.query([of.map(|id| id.0)])?;
        let mut snapshots = Vec::new();
        while let Some(row) = rows.next()? {
            let id = SnapshotId(row.get(0)?);
            snapshots.push(Snapshot {
                id,
                environment: EnvironmentId(row.get(1)?),
                name: codec::parsed("a snapshot's name", &row.get::<_, String>(2)?)?,
                asked_at: codec::time(row.get(3)?)?,
                state: match row.get::<_, String>(4)?.as_str() {
                    "taking" => SnapshotState::Taking,
                    "whole" => SnapshotState::Whole,
                    "failed" => SnapshotState::Failed { why: row.get(5)? },
                    _ => SnapshotState::Deleted,
                },
                machines: self.snapshot_machines(id)?,
            });
        }
        Ok(snapshots)
    }

    fn snapshot_machines(&self, id: SnapshotId) -> Result<Vec<SnapshottedMachine>, StoreError> {
        let mut statement = self.tx.prepare_cached(
            "SELECT s.machine, m.role, s.generation, s.origin, s.memory
             FROM snapshot_machines s JOIN machines m ON m.id = s.machine
             WHERE s.snapshot = ?1 ORDER BY s.machine",
        )?;
        let mut rows = statement.query([id.0])?;
        let mut machines = Vec::new();
        while let Some(row) = rows.next()? {
            machines.push(SnapshottedMachine {
                machine: MachineId(row.get(0)?),
                role: codec::parsed("a role", &row.get::<_, String>(1)?)?,
                generation: row.get(2)?,
                origin: row.get(3)?,
                memory: row.get(4)?,
            });
        }
        Ok(machines)
    }

    /// The snapshot of `environment` that has `name`, in whatever state but deleted.
    pub fn snapshot(
        &self,
        environment: EnvironmentId,
        name: &SnapshotName,
    ) -> Result<Snapshot, StoreError> {
        let all = self.snapshots(Some(environment))?.into_iter();
        let mut named = all.filter(|s| s.state != SnapshotState::Deleted && s.name == *name);
        named.next().ok_or_else(|| StoreError::NoSnapshot(environment, name.clone()))
    }

    /// Errors: a snapshot of `environment` is just being taken, on which its machines wait.
    pub fn nothing_is_taken(&self, environment: EnvironmentId) -> Result<(), StoreError> {
        let taking = self.snapshots(Some(environment))?;
        match taking.into_iter().find(|s| s.state == SnapshotState::Taking) {
            Some(snapshot) => Err(StoreError::BeingTaken(snapshot.name)),
            None => Ok(()),
        }
    }
}

impl Write<'_> {
    /// Wants `machines` of `environment`, all at one time, known by `name`: of each its memory
    /// too where it is wanted on. Those that failed before are not told of any more.
    ///
    /// Errors: the name is taken, another snapshot is being taken, a machine has `at_most` named
    /// already, samples are just on their way to one, or one is about to go on with the memory of an
    /// earlier one.
    pub fn take_snapshot(
        &mut self,
        environment: EnvironmentId,
        name: &SnapshotName,
        machines: &[Machine],
        at_most: u8,
    ) -> Result<SnapshotId, StoreError> {
        self.nothing_is_taken(environment)?;
        self.forget_snapshots(environment)?;
        let others = self.snapshots(Some(environment))?;
        if others.iter().any(|s| s.state == SnapshotState::Whole && s.name == *name) {
            return Err(StoreError::SnapshotNameTaken(name.clone()));
        }
        for machine in machines {
            let named = others.iter().filter(|s| s.state == SnapshotState::Whole);
            let named = named.filter(|s| s.machine(machine.id).is_some()).count();
            if named >= usize::from(at_most) {
                return Err(StoreError::TooManySnapshots { role: machine.role, at_most });
            }
            if frozen(machine.id, machine.origin, &others).len() >= MOST_FROZEN {
                return Err(StoreError::TooManyFrozen(machine.role));
            }
            if machine.resume.is_some() {
                return Err(StoreError::Returning(machine.role));
            }
            self.nothing_is_on_its_way(machine.id)?;
        }
        self.tx.execute(
            "INSERT INTO snapshots (environment, name, asked_by, asked_at, state)
             VALUES (?1, ?2, ?3, ?4, 'taking')",
            (environment.0, name.as_str(), self.actor(), codec::micros(self.now())),
        )?;
        let id = u32::try_from(self.tx.last_insert_rowid())
            .map(SnapshotId)
            .map_err(|e| codec::corrupt("a snapshot's number", e))?;
        for machine in machines {
            self.tx.execute(
                "INSERT INTO snapshot_machines (snapshot, machine, generation, origin, memory)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                (
                    id.0,
                    machine.id.0,
                    machine.generation,
                    machine.origin,
                    machine.power == Power::On,
                ),
            )?;
        }
        let roles: Vec<MachineRole> = machines.iter().map(|m| m.role).collect();
        let detail = json!({ "environment": environment, "name": name, "machines": roles });
        self.trace("snapshot.take", &id, detail)?;
        Ok(id)
    }

    /// Removes what failed, and deleted ones on which nothing stands: the trace has them.
    fn forget_snapshots(&mut self, environment: EnvironmentId) -> Result<(), StoreError> {
        let all = self.snapshots(Some(environment))?;
        let mut statement =
            self.tx.prepare("SELECT id, origin FROM machines WHERE environment = ?1")?;
        let mut rows = statement.query([environment.0])?;
        let mut kept = BTreeSet::new();
        while let Some(row) = rows.next()? {
            let id = MachineId(row.get(0)?);
            kept.extend(frozen(id, row.get(1)?, &all).into_iter().map(|f| (id, f.generation)));
        }
        for snapshot in all {
            let bears = snapshot.machines.iter().any(|m| kept.contains(&(m.machine, m.generation)));
            let over = match snapshot.state {
                SnapshotState::Taking | SnapshotState::Whole => false,
                SnapshotState::Failed { .. } => true,
                SnapshotState::Deleted => !bears,
            };
            if over {
                let id = snapshot.id.0;
                self.tx.execute("DELETE FROM snapshot_injections WHERE snapshot = ?1", [id])?;
                self.tx.execute("DELETE FROM snapshot_machines WHERE snapshot = ?1", [id])?;
                self.tx.execute("DELETE FROM snapshots WHERE id = ?1", [id])?;
            }
        }
        Ok(())
    }

    /// Records that all that `id` names is at rest; its machines go on in generations of their
    /// own that are made from it, with the memory that was kept.
    pub fn snapshot_taken(&mut self, id: SnapshotId) -> Result<(), StoreError> {
        let changed = self.tx.execute(
            "UPDATE snapshots SET state = 'whole' WHERE id = ?1 AND state = 'taking'",
            [id.0],
        )?;
        if changed == 0 {
            return Ok(());
        }
        self.samples_go_on(id)?;
        self.tx.execute(
            "UPDATE machines SET
                 prepared_generation = CASE prepared_generation WHEN machines.generation
                     THEN machines.generation + 1 ELSE prepared_generation END,
                 generation = machines.generation + 1, origin = machines.generation,
                 seen_in = NULL,
                 resume_generation = CASE s.memory WHEN 1 THEN s.generation END,
                 resume_snapshot = CASE s.memory WHEN 1 THEN s.snapshot END
             FROM snapshot_machines s WHERE s.machine = machines.id AND s.snapshot = ?1",
            [id.0],
        )?;
        self.trace("snapshot.taken", &id, json!({}))
    }

    /// Records that `id` is not taken, and why; whatever memory was kept for it the guests go on
    /// with, where they are.
    pub fn snapshot_failed(&mut self, id: SnapshotId, why: &str) -> Result<(), StoreError> {
        if self.give_up_taking(id, "failed", why)? {
            self.trace("snapshot.failed", &id, json!({ "why": why }))?;
        }
        Ok(())
    }

    fn give_up_taking(
        &mut self,
        id: SnapshotId,
        state: &str,
        note: &str,
    ) -> Result<bool, StoreError> {
        let changed = self.tx.execute(
            "UPDATE snapshots SET state = ?2, note = ?3 WHERE id = ?1 AND state = 'taking'",
            (id.0, state, note),
        )?;
        if changed == 0 {
            return Ok(false);
        }
        self.tx.execute(
            "UPDATE machines SET resume_generation = s.generation, resume_snapshot = s.snapshot
             FROM snapshot_machines s
             WHERE s.machine = machines.id AND s.snapshot = ?1 AND s.memory = 1",
            [id.0],
        )?;
        self.tx.execute("DELETE FROM snapshot_machines WHERE snapshot = ?1", [id.0])?;
        Ok(true)
    }

    /// Wants the machines of `roles` as `snapshot` has them, in new generations; what they are
    /// now is lost, unless another snapshot names it.
    pub fn return_to_snapshot(
        &mut self,
        snapshot: &Snapshot,
        roles: &[MachineRole],
    ) -> Result<(), StoreError> {
        self.nothing_is_taken(snapshot.environment)?;
        for machine in snapshot.machines.iter().filter(|m| roles.contains(&m.role)) {
            let memory = machine.memory.then_some(machine.generation);
            self.tx.execute(
                "UPDATE machines SET generation = generation + 1, origin = ?2, power = ?3,
                     resume_generation = ?4, resume_snapshot = ?5, force_off_at = ?6,
                     reset_pending = 0,
                     seen_in = CASE ?3 WHEN 'off' THEN 'asked-off' END
                 WHERE id = ?1",
                (
                    machine.machine.0,
                    machine.generation,
                    if machine.memory { "on" } else { "off" },
                    memory,
                    memory.map(|_| snapshot.id.0),
                    codec::micros(self.now()),
                ),
            )?;
        }
        for role in roles {
            self.machine_lost_samples(snapshot.environment, *role, "return")?;
        }
        for machine in snapshot.machines.iter().filter(|m| roles.contains(&m.role)) {
            self.samples_come_back(snapshot, machine)?;
        }
        let detail = json!({
            "environment": snapshot.environment, "name": snapshot.name, "machines": roles,
        });
        self.trace("snapshot.return", &snapshot.id, detail)
    }

    /// Wants `snapshot` to have no name any more. One that is being taken is given up, and its
    /// machines go on.
    pub fn delete_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), StoreError> {
        if !self.give_up_taking(snapshot.id, "deleted", "")? {
            self.tx
                .execute("UPDATE snapshots SET state = 'deleted' WHERE id = ?1", [snapshot.id.0])?;
        }
        let detail = json!({ "environment": snapshot.environment, "name": snapshot.name });
        self.trace("snapshot.delete", &snapshot.id, detail)
    }

    /// Records that the guest goes on with the memory that was kept for it.
    pub fn machine_resumed(&mut self, id: MachineId, memory: Memory) -> Result<(), StoreError> {
        let changed = self.forget_resume(id, Some(memory))?;
        if changed == 0 { Ok(()) } else { self.trace("machine.resumed", &id, json!(memory)) }
    }

    /// Records that there is nothing that the guest could go on with: it will boot.
    pub fn nothing_to_resume(&mut self, id: MachineId) -> Result<(), StoreError> {
        self.forget_resume(id, None)?;
        self.trace("machine.nothing_to_resume", &id, json!({}))
    }

    fn forget_resume(
        &mut self,
        id: MachineId,
        memory: Option<Memory>,
    ) -> Result<usize, StoreError> {
        let changed = self.tx.execute(
            "UPDATE machines SET resume_generation = NULL, resume_snapshot = NULL
             WHERE id = ?1 AND resume_snapshot IS NOT NULL
                 AND (?2 IS NULL OR (resume_generation, resume_snapshot) = (?2, ?3))",
            (id.0, memory.map(|m| m.generation), memory.map(|m| m.snapshot.0)),
        )?;
        Ok(changed)
    }
}
