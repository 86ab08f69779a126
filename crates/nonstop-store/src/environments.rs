//! Environments: granted once, ended once, gone when nothing of them is left.

use crate::{Read, StoreError, Write, codec};
use ipnet::Ipv4Net;
use jiff::Timestamp;
use nonstop_model::{
    Account, AccountName, Environment, EnvironmentId, EnvironmentState, EnvironmentTemplate,
    ImageName, Password, Period, Segment, Slot, TemplateName,
    capacity::{self, Load, Room},
    network,
};
use rusqlite::Row;
use serde_json::json;

/// What staff grant.
#[derive(Debug, Clone)]
pub struct Grant {
    /// To whom.
    pub account: AccountName,
    /// The template's name.
    pub template_name: TemplateName,
    /// The template as it is now.
    pub template: EnvironmentTemplate,
    /// For how long.
    pub period: Period,
    /// What each machine of the template starts from, in its order.
    pub machines: Vec<GrantedMachine>,
    /// The lab's pool.
    pub pool: Ipv4Net,
    /// What the lab has.
    pub room: Room,
}

/// What a machine starts from.
#[derive(Debug, Clone)]
pub struct GrantedMachine {
    /// The image.
    pub image: ImageName,
    /// Digest of the image's manifest.
    pub image_digest: String,
    /// The guest's user whose password is ours to set.
    pub guest_user: Option<String>,
    /// Its first password.
    pub password: Password,
    /// Port of the guest's own RDP server, where the template's policy uses it.
    pub desktop_port: Option<u16>,
}

const SELECT: &str = "SELECT e.id, a.name, e.template, e.template_json, e.from_at, e.until_at,
    e.slot, e.state, e.destroy_at FROM environments e JOIN accounts a ON a.id = e.account";

impl Read<'_> {
    /// Environments, newest first: those that are not gone, or all.
    pub fn environments(&self, pool: Ipv4Net, all: bool) -> Result<Vec<Environment>, StoreError> {
        let sql = format!("{SELECT} WHERE ?1 OR e.state <> 'gone' ORDER BY e.id DESC");
        let mut statement = self.tx.prepare_cached(&sql)?;
        let mut rows = statement.query([all])?;
        let mut environments = Vec::new();
        while let Some(row) = rows.next()? {
            environments.push(self.environment_from(row, pool)?);
        }
        Ok(environments)
    }

    /// The environment `id`.
    pub fn environment(&self, pool: Ipv4Net, id: EnvironmentId) -> Result<Environment, StoreError> {
        let mut statement = self.tx.prepare_cached(&format!("{SELECT} WHERE e.id = ?1"))?;
        let mut rows = statement.query([id.0])?;
        match rows.next()? {
            Some(row) => self.environment_from(row, pool),
            None => Err(StoreError::NoEnvironment(id)),
        }
    }

    fn environment_from(&self, row: &Row<'_>, pool: Ipv4Net) -> Result<Environment, StoreError> {
        let text = |column| row.get::<_, String>(column);
        let id = EnvironmentId(row.get(0)?);
        let slot = Slot(row.get(6)?);
        let segment = Segment::new(id, pool, slot)
            .ok_or_else(|| codec::corrupt("a slot", format!("{} is outside {pool}", slot.0)))?;
        let period = Period::new(codec::time(row.get(4)?)?, codec::time(row.get(5)?)?);
        let destroy_at = row.get::<_, Option<i64>>(8)?.map(codec::time).transpose()?;
        let state = match (text(7)?.as_str(), destroy_at) {
            ("granted", _) => EnvironmentState::Granted,
            ("ended", Some(destroy_at)) => EnvironmentState::Ended { destroy_at },
            _ => EnvironmentState::Gone,
        };
        let template: EnvironmentTemplate = codec::json("a template", &text(3)?)?;
        Ok(Environment {
            id,
            account: codec::parsed("an account's name", &text(1)?)?,
            template_name: codec::parsed("a template's name", &text(2)?)?,
            machines: self.machines(id, &segment, &template)?,
            template,
            period: period.map_err(|e| codec::corrupt("a period", e))?,
            slot,
            segment,
            state,
        })
    }

    fn loads(&self) -> Result<Vec<(EnvironmentId, Load)>, StoreError> {
        let mut statement = self.tx.prepare_cached(
            "SELECT e.id, e.from_at, e.until_at, sum(m.memory_mib), count(*)
             FROM environments e JOIN machines m ON m.environment = e.id
             WHERE e.state = 'granted' GROUP BY e.id",
        )?;
        let mut rows = statement.query([])?;
        let mut loads = Vec::new();
        while let Some(row) = rows.next()? {
            let period = Period::new(codec::time(row.get(1)?)?, codec::time(row.get(2)?)?);
            let load = Load {
                period: period.map_err(|e| codec::corrupt("a period", e))?,
                memory_mib: row.get::<_, i64>(3)?.unsigned_abs(),
                machines: row.get::<_, i64>(4)?.unsigned_abs(),
            };
            loads.push((EnvironmentId(row.get(0)?), load));
        }
        Ok(loads)
    }

    fn free_slot(&self, pool: Ipv4Net) -> Result<Slot, StoreError> {
        let mut statement = self
            .tx
            .prepare_cached("SELECT slot FROM environments WHERE state <> 'gone' ORDER BY slot")?;
        let taken = statement.query_map([], |row| row.get::<_, u32>(0))?;
        let mut free = 0;
        for slot in taken {
            if slot? > free {
                break;
            }
            free += 1;
        }
        let slots = network::slots(pool);
        if free < slots { Ok(Slot(free)) } else { Err(StoreError::NoSlot(slots)) }
    }
}

/// Refuses an environment of `template` to an account of another edition.
pub fn of_one_edition(
    account: &Account,
    name: &TemplateName,
    template: &EnvironmentTemplate,
) -> Result<(), StoreError> {
    match &template.domain {
        Some(domain) if !account.may_use(template) => Err(StoreError::OtherEdition {
            account: account.name.clone(),
            edition: account.edition.clone(),
            template: name.clone(),
            domain: domain.clone(),
        }),
        _ => Ok(()),
    }
}

impl Write<'_> {
    /// Grants an environment if the lab has room for it during all of its period, and the template
    /// is of the account's edition.
    pub fn grant_environment(&mut self, grant: &Grant) -> Result<EnvironmentId, StoreError> {
        let account = self.account(&grant.account)?;
        of_one_edition(&account, &grant.template_name, &grant.template)?;
        self.grant_unasked(&account, grant)
    }

    /// Makes an environment of a canary, whose account has no edition and stands for all.
    pub fn grant_canary(&mut self, grant: &Grant) -> Result<EnvironmentId, StoreError> {
        let account = self.account(&grant.account)?;
        self.grant_unasked(&account, grant)
    }

    fn grant_unasked(
        &mut self,
        account: &Account,
        grant: &Grant,
    ) -> Result<EnvironmentId, StoreError> {
        let new = Load {
            period: grant.period,
            memory_mib: grant.template.memory_mib(),
            machines: grant.machines.len() as u64,
        };
        let others: Vec<Load> = self.loads()?.into_iter().map(|(_, load)| load).collect();
        capacity::fits(grant.room, &others, new)?;
        let slot = self.free_slot(grant.pool)?;
        self.tx.execute(
            "INSERT INTO environments
                 (account, template, template_json, from_at, until_at, slot, state)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'granted')",
            (
                account.id.0,
                grant.template_name.as_str(),
                codec::to_json(&grant.template),
                codec::micros(grant.period.from()),
                codec::micros(grant.period.until()),
                slot.0,
            ),
        )?;
        let id = u32::try_from(self.tx.last_insert_rowid())
            .map(EnvironmentId)
            .map_err(|e| codec::corrupt("an environment's number", e))?;
        self.add_machines(id, grant)?;
        let images: Vec<_> = grant.machines.iter().map(|m| &m.image_digest).collect();
        let detail = json!({
            "account": grant.account, "template": grant.template_name, "period": grant.period,
            "images": images,
        });
        self.trace("environment.grant", &id, detail)?;
        Ok(id)
    }

    /// Ends a granted environment: its disks go at `destroy_at`.
    pub fn end_environment(
        &mut self,
        id: EnvironmentId,
        destroy_at: Timestamp,
    ) -> Result<(), StoreError> {
        let changed = self.tx.execute(
            "UPDATE environments SET state = 'ended', destroy_at = ?2
             WHERE id = ?1 AND state = 'granted'",
            (id.0, codec::micros(destroy_at)),
        )?;
        if changed == 0 {
            return Err(StoreError::Ended(id));
        }
        for snapshot in self.snapshots(Some(id))? {
            self.snapshot_failed(snapshot.id, "the environment ended")?;
        }
        self.environment_lost_samples(id)?;
        self.trace("environment.end", &id, json!({ "destroy_at": destroy_at }))
    }

    /// Moves the end of a granted environment's period, if the lab has room for it until then.
    pub fn extend_environment(
        &mut self,
        id: EnvironmentId,
        until: Timestamp,
        room: Room,
    ) -> Result<(), StoreError> {
        let mut others = self.loads()?;
        if let Some(at) = others.iter().position(|(other, _)| *other == id) {
            let (_, mut load) = others.swap_remove(at);
            load.period = Period::new(load.period.from(), until)
                .map_err(|e| codec::corrupt("a period", e))?;
            let others: Vec<Load> = others.into_iter().map(|(_, load)| load).collect();
            capacity::fits(room, &others, load)?;
        }
        let changed = self.tx.execute(
            "UPDATE environments SET until_at = ?2 WHERE id = ?1 AND state = 'granted'",
            (id.0, codec::micros(until)),
        )?;
        if changed == 0 {
            return Err(StoreError::Ended(id));
        }
        self.trace("environment.extend", &id, json!({ "until": until }))
    }

    /// Records that an observation showed nothing left of an ended environment.
    pub fn environment_gone(&mut self, id: EnvironmentId) -> Result<(), StoreError> {
        let changed = self.tx.execute(
            "UPDATE environments SET state = 'gone' WHERE id = ?1 AND state = 'ended'",
            [id.0],
        )?;
        if changed == 0 {
            return Ok(());
        }
        self.environment_lost_samples(id)?;
        self.trace("environment.gone", &id, json!({}))
    }
}
