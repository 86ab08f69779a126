//! Publications: files that arrived for data domains, and what became of them.

use crate::{Read, StoreError, Write, codec, desktops::signed};
use jiff::civil::Date;
use nonstop_model::{
    Content, Holds, Packets, Publication, PublicationId, PublicationState, Resource,
    publication::Rows,
};
use rusqlite::Row;
use serde_json::json;

const SELECT: &str = "SELECT id, domain, kind, day, file, asked_by, state, taken_at, changed_at,
    format, bytes, packets, first_at, last_at, sha256, rows, modified_ns, load, reason, samples,
    reports
    FROM publications";

impl Read<'_> {
    /// The publication `id`.
    pub fn publication(&self, id: PublicationId) -> Result<Option<Publication>, StoreError> {
        let mut statement = self.tx.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
        Ok(codec::all(statement.query([id.0])?, publication_from)?.pop())
    }

    /// Publications of `domain` that are under way, in order of arrival.
    pub fn publications_under_way(&self, domain: &str) -> Result<Vec<Publication>, StoreError> {
        self.publications(domain, "state IN ('taken', 'checked', 'loaded') ORDER BY id")
    }

    /// What `domain` has published, by kind and day.
    pub fn published(&self, domain: &str) -> Result<Vec<Publication>, StoreError> {
        self.publications(domain, "state = 'published' ORDER BY kind, day")
    }

    /// The last hundred of `domain` that were rejected, newest first.
    pub fn rejected(&self, domain: &str) -> Result<Vec<Publication>, StoreError> {
        self.publications(domain, "state = 'rejected' ORDER BY id DESC LIMIT 100")
    }

    /// The newest publication of the file `file` of `domain`.
    pub fn publication_of(
        &self,
        domain: &str,
        file: &str,
    ) -> Result<Option<Publication>, StoreError> {
        let sql = format!("{SELECT} WHERE domain = ?1 AND file = ?2 ORDER BY id DESC LIMIT 1");
        let mut statement = self.tx.prepare_cached(&sql)?;
        Ok(codec::all(statement.query((domain, file))?, publication_from)?.pop())
    }

    /// Whether bytes of this SHA-256 (hex) were ever published, or are about to be: any version of any
    /// day of any data domain, or a sample or report of one.
    pub fn is_published(&self, sha256: &str) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM publications WHERE sha256 = ?1)";
        let mut statement = self.tx.prepare_cached(sql)?;
        let as_a_day: bool = statement.query_row([sha256], |row| row.get(0))?;
        Ok(as_a_day || self.is_held(sha256)?)
    }

    /// Whether a sample or report of this SHA-256 (hex) is in any version of any day.
    fn is_held(&self, sha256: &str) -> Result<bool, StoreError> {
        let mut hash = [0; 32];
        if hex::decode_to_slice(sha256, &mut hash).is_err() {
            return Ok(false);
        }
        let sql = "SELECT hashes FROM publication_hashes WHERE first = ?1";
        let mut statement = self.tx.prepare_cached(sql)?;
        let mut rows = statement.query([hash[0]])?;
        while let Some(row) = rows.next()? {
            let bytes: Vec<u8> = row.get(0)?;
            let (hashes, _) = bytes.as_chunks::<32>();
            if hashes.binary_search(&hash).is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn publications(&self, domain: &str, which: &str) -> Result<Vec<Publication>, StoreError> {
        let sql = format!("{SELECT} WHERE domain = ?1 AND {which}");
        let mut statement = self.tx.prepare_cached(&sql)?;
        codec::all(statement.query([domain])?, publication_from)
    }
}

fn publication_from(row: &Row<'_>) -> Result<Publication, StoreError> {
    let text = |column| row.get::<_, String>(column);
    let number = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
    let kind: Resource = codec::parsed("a kind of data", &text(2)?)?;
    let content = || {
        let holds = match kind {
            Resource::Samples => Holds::Samples { samples: number(19)?, reports: number(20)? },
            _ => Holds::Packets(Packets {
                format: codec::parsed("a format", &text(9)?)?,
                packets: number(11)?,
                first: codec::time(row.get(12)?)?,
                last: codec::time(row.get(13)?)?,
            }),
        };
        Ok::<_, StoreError>(Content { bytes: number(10)?, sha256: text(14)?, holds })
    };
    let rows: Rows = row.get::<_, Option<i64>>(15)?.map(i64::unsigned_abs);
    let state = match text(6)?.as_str() {
        "taken" => PublicationState::Taken,
        "checked" => PublicationState::Checked(content()?),
        "loaded" => PublicationState::Loaded(content()?, rows),
        "published" => PublicationState::Published {
            content: content()?,
            rows,
            modified_ns: row.get(16)?,
            load: row.get(17)?,
        },
        "rejected" => PublicationState::Rejected { reason: text(18)? },
        "replaced" => PublicationState::Replaced(content()?),
        "expired" => PublicationState::Expired(content()?),
        other => return Err(codec::corrupt("a publication's state", other)),
    };
    let day: Option<String> = row.get(3)?;
    Ok(Publication {
        id: PublicationId(row.get(0)?),
        domain: text(1)?,
        kind,
        day: day.map(|day| codec::parsed::<Date>("a day", &day)).transpose()?,
        file: text(4)?,
        by: text(5)?,
        taken_at: codec::time(row.get(7)?)?,
        changed_at: codec::time(row.get(8)?)?,
        state,
    })
}

impl Write<'_> {
    /// Wants the file `file`, which lies in the inbox for `kind` of `domain`, taken and published.
    ///
    /// Errors: `DayUnderWay` while another file for that day is on its way.
    pub fn take_publication(
        &mut self,
        domain: &str,
        kind: Resource,
        day: Option<Date>,
        file: &str,
    ) -> Result<PublicationId, StoreError> {
        let under_way = self.publications_under_way(domain)?;
        let same = |p: &&Publication| p.kind == kind && p.day.is_some() && p.day == day;
        if let Some(other) = under_way.iter().find(same) {
            return Err(StoreError::DayUnderWay { id: other.id, file: other.file.clone() });
        }
        let (actor, now) = (self.actor().to_string(), codec::micros(self.now()));
        let day = day.map(|day| day.to_string());
        self.tx.execute(
            "INSERT INTO publications
                (domain, kind, day, file, asked_by, state, taken_at, changed_at)
             VALUES (?1, ?2, ?3, ?4, ?5, 'taken', ?6, ?6)",
            (domain, kind.word(), &day, file, actor, now),
        )?;
        let id: u32 = self.tx.query_row("SELECT last_insert_rowid()", [], |row| row.get(0))?;
        let id = PublicationId(id);
        let detail = json!({ "publication": id, "kind": kind, "file": file, "day": day });
        self.trace("data.taken", &domain, detail)?;
        Ok(id)
    }

    /// The file of the publication `id` was read to its end.
    pub fn publication_checked(
        &mut self,
        id: PublicationId,
        content: &Content,
    ) -> Result<(), StoreError> {
        let before = self.step(id, &["taken"], "checked")?;
        match &content.holds {
            Holds::Packets(packets) => self.tx.execute(
                "UPDATE publications SET format = ?2, packets = ?3, first_at = ?4, last_at = ?5
                 WHERE id = ?1",
                (
                    id.0,
                    packets.format.word(),
                    signed(packets.packets),
                    codec::micros(packets.first),
                    codec::micros(packets.last),
                ),
            )?,
            Holds::Samples { samples, reports } => self.tx.execute(
                "UPDATE publications SET samples = ?2, reports = ?3 WHERE id = ?1",
                (id.0, signed(*samples), signed(*reports)),
            )?,
        };
        self.tx.execute(
            "UPDATE publications SET bytes = ?2, sha256 = ?3, state = 'checked' WHERE id = ?1",
            (id.0, signed(content.bytes), &content.sha256),
        )?;
        let detail = json!({ "publication": id, "content": content });
        self.trace("data.checked", &place(&before), detail)
    }

    /// What was checked as `id` has samples and reports of these `hashes`, which are ascending.
    ///
    /// It belongs into the transaction that [checks](Write::publication_checked): a day that is
    /// published without it would leave unseen.
    pub fn publication_holds(
        &mut self,
        id: PublicationId,
        hashes: &[[u8; 32]],
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO publication_hashes (first, publication, hashes) VALUES (?1, ?2, ?3)";
        let mut insert = self.tx.prepare_cached(sql)?;
        for alike in hashes.chunk_by(|one, next| one[0] == next[0]) {
            insert.execute((alike[0][0], id.0, alike.as_flattened()))?;
        }
        Ok(())
    }

    /// The publication `id` lies beside the day that is shown, with `rows` in PostgreSQL.
    pub fn publication_loaded(&mut self, id: PublicationId, rows: Rows) -> Result<(), StoreError> {
        let before = self.step(id, &["checked"], "loaded")?;
        self.tx.execute(
            "UPDATE publications SET rows = ?2, state = 'loaded' WHERE id = ?1",
            (id.0, rows.map(signed)),
        )?;
        self.trace("data.loaded", &place(&before), json!({ "publication": id, "rows": rows }))
    }

    /// Machines see the publication `id`; what they saw of that day before is replaced.
    pub fn publication_published(
        &mut self,
        id: PublicationId,
        modified_ns: i64,
    ) -> Result<(), StoreError> {
        let before = self.step(id, &["loaded"], "published")?;
        let day = before.day.map(|day| day.to_string());
        self.tx.execute(
            "UPDATE publications SET state = 'replaced', changed_at = max(taken_at, ?4), load = 0
             WHERE domain = ?1 AND kind = ?2 AND day = ?3 AND state = 'published'",
            (&before.domain, before.kind.word(), day, codec::micros(self.now())),
        )?;
        self.tx.execute(
            "UPDATE publications SET state = 'published', modified_ns = ?2 WHERE id = ?1",
            (id.0, modified_ns),
        )?;
        let sha256 = before.state.content().map(|content| content.sha256.clone());
        let detail = json!({ "publication": id, "sha256": sha256 });
        self.trace("data.published", &place(&before), detail)
    }

    /// The publication `id` is not fit to be published, for `reason`.
    pub fn reject_publication(
        &mut self,
        id: PublicationId,
        reason: &str,
    ) -> Result<(), StoreError> {
        let before = self.step(id, &["taken", "checked", "loaded"], "rejected")?;
        self.tx.execute(
            "UPDATE publications SET state = 'rejected', reason = ?2 WHERE id = ?1",
            (id.0, reason),
        )?;
        let detail = json!({ "publication": id, "file": before.file, "reason": reason });
        self.trace("data.rejected", &place(&before), detail)
    }

    /// The published day of `id` is not kept any longer.
    pub fn expire_publication(&mut self, id: PublicationId) -> Result<(), StoreError> {
        let before = self.step(id, &["published"], "expired")?;
        self.tx
            .execute("UPDATE publications SET state = 'expired', load = 0 WHERE id = ?1", [id.0])?;
        self.trace("data.expired", &place(&before), json!({ "publication": id }))
    }

    /// Wants the published day of `id` loaded into PostgreSQL again.
    pub fn want_load(&mut self, id: PublicationId) -> Result<(), StoreError> {
        let before = self.publication_in(id, &["published"], "loaded again")?;
        self.tx.execute("UPDATE publications SET load = 1 WHERE id = ?1", [id.0])?;
        self.trace("data.load", &place(&before), json!({ "publication": id }))
    }

    /// The published day of `id` was loaded again.
    pub fn publication_reloaded(&mut self, id: PublicationId, rows: u64) -> Result<(), StoreError> {
        let before = self.publication_in(id, &["published"], "loaded again")?;
        self.tx.execute(
            "UPDATE publications SET load = 0, rows = ?2 WHERE id = ?1",
            (id.0, signed(rows)),
        )?;
        self.trace("data.loaded", &place(&before), json!({ "publication": id, "rows": rows }))
    }

    /// The publication `id`, which must be in one of the states `from`; its time is set to now.
    fn step(
        &mut self,
        id: PublicationId,
        from: &[&str],
        to: &'static str,
    ) -> Result<Publication, StoreError> {
        let before = self.publication_in(id, from, to)?;
        // A clock that was set back makes nothing happen before it was taken.
        self.tx.execute(
            "UPDATE publications SET changed_at = max(taken_at, ?2) WHERE id = ?1",
            (id.0, codec::micros(self.now())),
        )?;
        Ok(before)
    }

    fn publication_in(
        &self,
        id: PublicationId,
        from: &[&str],
        to: &'static str,
    ) -> Result<Publication, StoreError> {
        let found = self.publication(id)?.ok_or(StoreError::NoPublication(id))?;
        match from.contains(&found.state.word()) {
            true => Ok(found),
            false => Err(StoreError::NotThatFar { id, is: found.state.word(), to }),
        }
    }
}

/// What a row of trace is about: the day of a data domain.
fn place(publication: &Publication) -> String {
    match publication.day {
        Some(day) => format!("{}/{}/{day}", publication.domain, publication.kind),
        None => format!("{}/{}", publication.domain, publication.kind),
    }
}
