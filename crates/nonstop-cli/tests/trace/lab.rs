//! A lab's database with a history, its key, and what root can do to both.

use jiff::{SignedDuration, Timestamp};
use nonstop_model::{ExportId, InjectionId};
use nonstop_profile::Fingerprint;
use nonstop_store::{Db, StoreError};
use nonstop_trace::{Decided, Hash, Head, Receipt, Record, Released, Sign, row::chained};
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use rusqlite::Connection;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

pub(crate) struct Key(pub(crate) KeyPair);

impl Key {
    pub(crate) fn new() -> Key {
        Key(KeyPair::generate().expect("a key"))
    }

    pub(crate) fn fingerprint(&self) -> String {
        Fingerprint::of(&self.public_key()).to_string()
    }
}

impl Sign for Key {
    fn public_key(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        self.0.sign(message).map_err(Into::into)
    }
}

pub(crate) struct TestLab {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) key: Key,
    db: Option<Db>,
    now: Timestamp,
    exports: u32,
}

pub(crate) fn released(export: u32, content: &[u8], at: Timestamp) -> Released {
    Released {
        account: None,
        bytes: content.len() as u64,
        decided: Decided::Policy,
        decided_by: None,
        export: ExportId(export),
        lab: "解析室 東京".into(),
        name: None,
        released_at: at,
        rules: Hash([7; 32]),
        sha256: sha256(content),
        submitted_at: at - SignedDuration::from_secs(9),
        template: "macro".into(),
        content_type: "text/csv".into(),
        verdict: "pass".into(),
    }
}

pub(crate) fn sha256(content: &[u8]) -> Hash {
    Hash(Sha256::digest(content).into())
}

impl TestLab {
    /// A lab whose trace has its first row alone.
    pub(crate) fn new() -> TestLab {
        let dir = tempfile::tempdir().expect("a folder");
        let now = "2030-01-01T00:00:00Z".parse().expect("a time");
        let db = Db::open(&dir.path().join("nonstop.db"), now).expect("opens");
        for folder in ["kept", "trace", "quarantine/exports"] {
            fs::create_dir_all(dir.path().join(folder)).expect("made");
        }
        TestLab { dir, key: Key::new(), db: Some(db), now, exports: 0 }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("open")
    }

    pub(crate) fn now(&mut self) -> Timestamp {
        self.now += SignedDuration::from_secs(60);
        self.now
    }

    /// So many rows more.
    pub(crate) fn work(&mut self, rows: u32) {
        for n in 0..rows {
            let now = self.now();
            let written = self.db().write("alice", now, |w| {
                w.trace("environment.power", &format!("e{n}"), json!({ "action": "on", "n": n }))
            });
            written.unwrap_or_else(|e: StoreError| panic!("{e}"));
        }
    }

    /// Signs what there is; the head is kept in `kept/`.
    pub(crate) fn sign(&mut self) -> Head {
        let now = self.now();
        let head = self.db().write("nonstopd", now, |w| w.sign_head(&self.key));
        let head: Head = head.unwrap_or_else(|e: StoreError| panic!("{e}")).expect("something new");
        fs::write(self.path("kept").join(head.file_name()), head.line()).expect("written");
        head
    }

    /// Releases an export of `content`, whose bytes lie in the trace store.
    pub(crate) fn release(&mut self, content: &[u8]) -> Receipt {
        let now = self.now();
        self.exports += 1;
        let released = released(self.exports, content, now);
        fs::write(self.path("trace").join(released.sha256.to_string()), content).expect("kept");
        self.release_as(&released)
    }

    /// Releases what `released` says.
    pub(crate) fn release_as(&mut self, released: &Released) -> Receipt {
        let now = released.released_at;
        let export = released.export;
        let detail = json!({ "account": "alice", "path": "result.csv", "sha256": released.sha256 });
        let receipt = self.db().write("staff1", now, |w| {
            w.trace("export.release", &export, detail)?;
            w.release_receipt(released, &self.key)
        });
        let receipt = receipt.unwrap_or_else(|e: StoreError| panic!("{e}"));
        let again = self.db().read(|read| read.receipt(export));
        let again = again.unwrap_or_else(|e: StoreError| panic!("{e}"));
        assert_eq!(again.as_ref(), Some(&receipt), "as it is given later");
        receipt
    }

    /// Adds a row as `nonstopd` does.
    pub(crate) fn row(&mut self, action: &str, subject: &str, detail: Value) {
        let now = self.now();
        let written = self.db().write("nonstopd", now, |w| w.trace(action, &subject, detail));
        written.unwrap_or_else(|e: StoreError| panic!("{e}"));
    }

    /// Signs the record of an injection that says `said`, and gives it as it is given later.
    pub(crate) fn record(&mut self, injection: InjectionId, said: &Value) -> Record {
        let now = self.now();
        let signed = self
            .db()
            .write("admin:root", now, |w| w.sign_record(injection, said.clone(), &self.key));
        let signed: Record = signed.unwrap_or_else(|e: StoreError| panic!("{e}"));
        let again = self.db().read(|read| read.injection_record(injection));
        let again = again.unwrap_or_else(|e: StoreError| panic!("{e}"));
        assert_eq!(again.as_ref(), Some(&signed), "as it is given later");
        signed
    }

    pub(crate) fn keep(&self, receipt: &Receipt) -> PathBuf {
        let path = self.path(&format!("{}.receipt.json", receipt.released().export));
        fs::write(&path, receipt.text()).expect("written");
        path
    }

    /// A copy of the database, as an auditor takes it.
    pub(crate) fn copy(&self, name: &str) -> PathBuf {
        let at = self.path(name);
        fs::create_dir_all(&at).expect("made");
        for file in ["nonstop.db", "nonstop.db-wal"] {
            if self.path(file).exists() {
                fs::copy(self.path(file), at.join(file)).expect("copied");
            }
        }
        at.join("nonstop.db")
    }

    /// Verifies a copy against what is in `kept/`, and `more`.
    pub(crate) fn verify(&self, database: &Path, more: &[&str]) -> (Option<i32>, Value) {
        let (authority, database) = (self.key.fingerprint(), database.display().to_string());
        let words =
            ["trace", "verify", "--json", "--authority", &authority, "--database", &database];
        let output = nonstop(self.dir.path(), &[&words, more].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        let value = serde_json::from_slice(&output.stdout);
        (output.status.code(), value.unwrap_or_else(|e| panic!("{e}: {said}")))
    }
}

/// Runs the program in `at`, where no lab is.
pub(crate) fn nonstop(at: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nonstop"))
        .current_dir(at)
        .args(["--lab", "no-lab.yaml"])
        .args(words)
        .output()
        .expect("runs")
}

/// What root does to a database: no trigger is in the way.
pub(crate) fn as_root(database: &Path, sql: &str) {
    let db = Connection::open(database).expect("opens");
    let all = "DROP TRIGGER IF EXISTS trace_is_never_changed; DROP TRIGGER IF EXISTS trace_is_never_deleted;
               DROP TRIGGER IF EXISTS heads_are_never_changed; DROP TRIGGER IF EXISTS heads_are_never_deleted;";
    db.execute_batch(all).expect("dropped");
    db.execute_batch(sql).expect("done");
    db.pragma_update(None, "journal_mode", "delete").expect("one file");
}

/// Computes the whole chain anew, and signs every head again with the lab's own key.
pub(crate) fn sign_again(database: &Path, key: &Key) {
    let db = Connection::open(database).expect("opens");
    let lab: String = db.query_row("SELECT uuid FROM lab", [], |row| row.get(0)).expect("a lab");
    let mut rows = db
        .prepare("SELECT seq, at, actor, action, subject, detail FROM trace ORDER BY seq")
        .expect("sql");
    type Found = (i64, i64, String, String, String, String);
    let found: Vec<Found> = rows
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?)))
        .expect("rows")
        .collect::<Result<_, _>>()
        .expect("rows");
    let mut before = Hash::ZERO;
    for (seq, at, actor, action, subject, detail) in found {
        before = chained(&before, seq.unsigned_abs(), at, [&actor, &action, &subject, &detail]);
        db.execute("UPDATE trace SET hash = ?2 WHERE seq = ?1", (seq, before.0)).expect("done");
        let at: Option<i64> =
            db.query_row("SELECT at FROM heads WHERE seq = ?1", [seq], |row| row.get(0)).ok();
        if let Some(at) = at {
            let at = Timestamp::from_microsecond(at).expect("a time");
            let head = Head::sign(&lab, seq.unsigned_abs(), before, at, key).expect("signed");
            let update = "UPDATE heads SET hash = ?2, signature = ?3 WHERE seq = ?1";
            db.execute(update, (seq, before.0, head.signature())).expect("done");
        }
    }
}
