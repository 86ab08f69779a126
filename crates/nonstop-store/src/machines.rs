//! Machines: what is wanted of them, and what was seen.

use crate::{Grant, Read, StoreError, Write, codec};
use jiff::Timestamp;
use nonstop_model::lab::{LAST_MACHINE_UID, MACHINE_UIDS};
use nonstop_model::{
    EnvironmentId, EnvironmentTemplate, Machine, MachineId, MachineRole, Memory, Password, Power,
    Segment, SegmentKind, SnapshotId,
};
use rusqlite::Row;
use serde_json::json;

impl Read<'_> {
    pub(crate) fn machines(
        &self,
        environment: EnvironmentId,
        segment: &Segment,
        template: &EnvironmentTemplate,
    ) -> Result<Vec<Machine>, StoreError> {
        let mut statement = self.tx.prepare_cached(
            "SELECT id, position, role, image, image_digest, memory_mib, vcpus, generation, power,
                    force_off_at, reset_pending, guest_user, password, prepared_generation,
                    desktop_port, seen_in, origin, resume_generation, resume_snapshot
             FROM machines WHERE environment = ?1 ORDER BY position",
        )?;
        let mut rows = statement.query([environment.0])?;
        let mut machines = Vec::new();
        while let Some(row) = rows.next()? {
            machines.push(machine_from(row, segment, template)?);
        }
        Ok(machines)
    }
}

fn machine_from(
    row: &Row<'_>,
    segment: &Segment,
    template: &EnvironmentTemplate,
) -> Result<Machine, StoreError> {
    let text = |column| row.get::<_, String>(column);
    let generation = row.get(7)?;
    let role = codec::parsed("a role", &text(2)?)?;
    let on_access = template.machine(role).is_some_and(|m| m.is_on(SegmentKind::Access));
    let position = row.get(1)?;
    Ok(Machine {
        id: MachineId(row.get(0)?),
        address: on_access.then(|| segment.machine(position)),
        role,
        image: codec::parsed("an image's name", &text(3)?)?,
        image_digest: text(4)?,
        memory_mib: row.get(5)?,
        vcpus: row.get(6)?,
        generation,
        power: if text(8)? == "on" { Power::On } else { Power::Off },
        force_off_at: codec::time(row.get(9)?)?,
        reset_pending: row.get(10)?,
        guest_user: row.get(11)?,
        password: Password(text(12)?),
        prepared: row.get::<_, u32>(13)? == generation,
        desktop_port: row.get(14)?,
        seen_in: row.get(15)?,
        origin: row.get(16)?,
        resume: memory_from(row)?,
    })
}

fn memory_from(row: &Row<'_>) -> Result<Option<Memory>, StoreError> {
    let generation: Option<u32> = row.get(17)?;
    let snapshot: Option<u32> = row.get(18)?;
    let memory = |(generation, id)| Memory { generation, snapshot: SnapshotId(id) };
    Ok(generation.zip(snapshot).map(memory))
}

impl Write<'_> {
    pub(crate) fn add_machines(
        &mut self,
        environment: EnvironmentId,
        grant: &Grant,
    ) -> Result<(), StoreError> {
        for (position, (wanted, granted)) in
            grant.template.machines.iter().zip(&grant.machines).enumerate()
        {
            self.tx.execute(
                "INSERT INTO machines (environment, position, role, image, image_digest,
                     memory_mib, vcpus, power, guest_user, password, desktop_port)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'on', ?8, ?9, ?10)",
                (
                    environment.0,
                    i64::try_from(position).unwrap_or(i64::MAX),
                    wanted.role.as_str(),
                    granted.image.as_str(),
                    &granted.image_digest,
                    wanted.memory_mib,
                    wanted.vcpus,
                    &granted.guest_user,
                    &granted.password.0,
                    granted.desktop_port,
                ),
            )?;
            if self.tx.last_insert_rowid() > i64::from(LAST_MACHINE_UID - MACHINE_UIDS) {
                return Err(StoreError::NoMachineId);
            }
        }
        Ok(())
    }

    /// Wants the machine on, or off with the guest given until `force_off_at` to shut down.
    /// Memory that it was to go on with is not gone back to after that.
    pub fn set_power(
        &mut self,
        environment: EnvironmentId,
        role: MachineRole,
        power: Power,
        force_off_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.nothing_is_taken(environment)?;
        let changed = self.tx.execute(
            "UPDATE machines SET power = ?3, force_off_at = ?4, reset_pending = 0,
                 resume_generation = CASE ?3 WHEN 'on' THEN resume_generation END,
                 resume_snapshot = CASE ?3 WHEN 'on' THEN resume_snapshot END,
                 seen_in = CASE ?3 WHEN 'off' THEN 'asked-off' ELSE seen_in END
             WHERE environment = ?1 AND role = ?2",
            (environment.0, role.as_str(), word(power), codec::micros(force_off_at)),
        )?;
        if changed == 0 {
            return Err(StoreError::NoMachine(environment));
        }
        self.trace("machine.power", &environment, json!({ "machine": role, "power": power }))
    }

    /// Wants the machine's reset button pressed once.
    pub fn ask_reset(
        &mut self,
        environment: EnvironmentId,
        role: MachineRole,
    ) -> Result<(), StoreError> {
        self.nothing_is_taken(environment)?;
        let changed = self.tx.execute(
            "UPDATE machines SET reset_pending = 1 WHERE environment = ?1 AND role = ?2",
            (environment.0, role.as_str()),
        )?;
        if changed == 0 {
            return Err(StoreError::NoMachine(environment));
        }
        self.trace("machine.reset", &environment, json!({ "machine": role }))
    }

    /// Wants the machine on a new generation, which has nothing of the one before.
    pub fn revert(
        &mut self,
        environment: EnvironmentId,
        role: MachineRole,
        password: &Password,
    ) -> Result<(), StoreError> {
        self.nothing_is_taken(environment)?;
        let changed = self.tx.execute(
            "UPDATE machines SET generation = generation + 1, password = ?3, reset_pending = 0,
                 seen_in = NULL, origin = NULL, resume_generation = NULL, resume_snapshot = NULL
             WHERE environment = ?1 AND role = ?2",
            (environment.0, role.as_str(), &password.0),
        )?;
        if changed == 0 {
            return Err(StoreError::NoMachine(environment));
        }
        self.machine_lost_samples(environment, role, "revert")?;
        self.trace("machine.revert", &environment, json!({ "machine": role }))
    }

    /// Records that the machine runs, in the host's run `run`.
    pub fn machine_seen(&mut self, id: MachineId, run: &str) -> Result<(), StoreError> {
        self.tx.execute(
            "UPDATE machines SET seen_in = ?2, reset_pending = 0 WHERE id = ?1",
            (id.0, run),
        )?;
        self.trace("machine.started", &id, json!({}))
    }

    /// Records that the guest powered itself off, and wants it off.
    pub fn machine_powered_off(&mut self, id: MachineId) -> Result<(), StoreError> {
        self.tx
            .execute("UPDATE machines SET power = 'off', seen_in = NULL WHERE id = ?1", [id.0])?;
        self.trace("machine.powered_off", &id, json!({}))
    }

    /// Records that the machine's QEMU died; it is still wanted.
    pub fn machine_crashed(&mut self, id: MachineId) -> Result<(), StoreError> {
        self.tx.execute("UPDATE machines SET seen_in = NULL WHERE id = ?1", [id.0])?;
        self.trace("machine.crashed", &id, json!({}))
    }

    /// Records that the machine is about to be started: what it did before no longer counts.
    pub fn machine_starting(&mut self, id: MachineId) -> Result<(), StoreError> {
        self.tx.execute("UPDATE machines SET seen_in = NULL WHERE id = ?1", [id.0])?;
        self.trace("machine.starting", &id, json!({}))
    }

    /// Records that the machine is about to be stopped by us, whatever is wanted of it then.
    pub fn machine_stopped(&mut self, id: MachineId) -> Result<(), StoreError> {
        self.tx.execute("UPDATE machines SET seen_in = NULL WHERE id = ?1", [id.0])?;
        self.trace("machine.stopped", &id, json!({}))
    }

    /// Records that the reset was done.
    pub fn machine_was_reset(&mut self, id: MachineId) -> Result<(), StoreError> {
        self.tx.execute("UPDATE machines SET reset_pending = 0 WHERE id = ?1", [id.0])?;
        self.trace("machine.was_reset", &id, json!({}))
    }

    /// Records that the guest of `generation` has its password.
    pub fn machine_prepared(&mut self, id: MachineId, generation: u32) -> Result<(), StoreError> {
        self.tx.execute(
            "UPDATE machines SET prepared_generation = ?2 WHERE id = ?1",
            (id.0, generation),
        )?;
        self.trace("machine.prepared", &id, json!({ "generation": generation }))
    }
}

fn word(power: Power) -> &'static str {
    match power {
        Power::On => "on",
        Power::Off => "off",
    }
}
