//! Exports and imports are looked into, one environment after the other, and what is said of them
//! becomes their state.

use super::{Transfers, changes::start_of_day, contents::KeepError, kept};
use crate::{heads::store_lock, screening::Screened, status::chain};
use nonstop_api::airlock::FindingTold;
use nonstop_model::{
    BlobId, EnvironmentId, EnvironmentTemplate, ExportId, ExportState, Lab, Resource, Root,
    reach::AIRLOCK,
    screening::{About, Finding, RuleId, Verdict, Way, Words},
};
use nonstop_store::{Export, Import, Screening, StoreError};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    time::{Duration, Instant},
};
use tracing::{error, info};

/// How long one that could not be screened, for a failure of the disk or the database, waits.
const AGAIN: Duration = Duration::from_secs(5);

/// Why an export was not screened to its end.
#[derive(Debug, thiserror::Error)]
enum ScreeningError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("read or keep its content")]
    Io(#[from] io::Error),
    #[error("keep its content")]
    Keep(#[from] KeepError),
}

impl Transfers {
    /// Screens one export that waits, of the environment whose turn it is. Returns whether there was
    /// one.
    pub(super) fn screen_one(&self) -> bool {
        let waiting = match self.db.read(|read| read.exports_to_screen()) {
            Ok(waiting) => waiting,
            Err(e) => {
                error!("look for exports to screen: {}", chain(&e));
                return false;
            }
        };
        let Some(export) = self.take_turn(waiting) else { return false };
        let screened = self.screen(&export);
        if let Err(e) = &screened {
            error!("screen export {}: {}", export.id, chain(e));
            self.clock.pause(AGAIN);
        }
        self.state().exports.remove(&export.id);
        if screened.is_err() {
            self.screen_again();
        }
        screened.is_ok()
    }

    /// The export of `waiting` whose environment has the fewest being screened, and waited longest.
    fn take_turn(&self, waiting: Vec<Export>) -> Option<Export> {
        let mut state = self.state();
        let running = |of: EnvironmentId| state.exports.values().filter(|(e, _)| *e == of).count();
        let turn = |of: EnvironmentId| state.turns.get(&of).copied().unwrap_or(0);
        let free = waiting.into_iter().filter(|export| !state.exports.contains_key(&export.id));
        let next = free.min_by_key(|export| {
            (running(export.environment), turn(export.environment), export.id)
        })?;
        state.turn += 1;
        let turn = state.turn;
        state.turns.insert(next.environment, turn);
        state.exports.insert(next.id, (next.environment, next.blob.clone()));
        Some(next)
    }

    fn screen(&self, export: &Export) -> Result<(), ScreeningError> {
        self.hand.about_to("commit the beginning of a screening")?;
        let begun =
            self.db.write("nonstopd", self.clock.now(), |w| w.begin_screening(export.id))?;
        let Some(export) = begun else { return Ok(()) };
        let file = match self.contents.open(Root::Export, &export.blob) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                error!("the content {} of export {} is not there", export.blob, export.id);
                let why = "its content is not there";
                self.db.write("nonstopd", self.clock.now(), |w| w.export_lost(export.id, why))?;
                return Ok(());
            }
            other => other?,
        };
        let about = self.about_export(&export)?;
        let at = Instant::now();
        let said = self.screener.screen(file.into(), &about);
        self.keep_verdict(&export, said, at.elapsed())
    }

    fn keep_verdict(
        &self,
        export: &Export,
        mut said: Screened,
        took: Duration,
    ) -> Result<(), ScreeningError> {
        if !said.failures.is_empty() {
            // A check that failed may have failed to read: what is held is let out by its hash.
            said.sha256 = sha256_of(self.contents.open(Root::Export, &export.blob)?)?;
        }
        // Retention must not remove what is going to be named by the row.
        let _held = store_lock();
        let keep = |said: &Screened| {
            self.contents.keep_by_hash(kept(said.verdict), &said.sha256, &export.blob)
        };
        let mut linked = keep(&said);
        if let Err(KeepError::Another) = linked {
            // Either the child or the store is wrong about the hash: the bytes are asked themselves.
            error!("what lies under {} is not what export {} holds", said.sha256, export.id);
            said.verdict = said.verdict.max(Verdict::Hold);
            said.findings.push(wrong_hash());
            said.sha256 = sha256_of(self.contents.open(Root::Export, &export.blob)?)?;
            linked = keep(&said);
        }
        let lies_in = match linked {
            Err(KeepError::Another) => None,
            other => other.map(|()| Some(kept(said.verdict)))?,
        };
        let now = self.clock.now();
        let screening = Screening {
            at: now,
            ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            sha256: said.sha256,
            content_type: said.kind.content_type().into(),
            verdict: said.verdict,
            findings: told(&said.findings),
            rules_digest: Some(said.rules_digest),
        };
        self.hand.about_to("commit a verdict")?;
        let state = self.db.write("nonstopd", now, |w| {
            let state = w.export_screened(export.id, &screening, lies_in)?;
            if state == ExportState::Released {
                let export = w.export(export.id)?;
                (self.seal)(w, &export)?;
            }
            Ok::<_, StoreError>(state)
        })?;
        info!("export {} of {} is {state}", export.id, export.environment);
        Ok(())
    }

    fn about_export(&self, export: &Export) -> Result<About, StoreError> {
        let (template, day_bytes, period_bytes) = self.db.read(|read| {
            let environment = read.environment(self.lab.network.pool, export.environment)?;
            let day = start_of_day(export.submitted_at);
            let day = read.exported_bytes(export.environment, day, export.id)?;
            let from = environment.period.from();
            let period = read.exported_bytes(export.environment, from, export.id)?;
            Ok::<_, StoreError>((environment.template, day, period))
        })?;
        Ok(About {
            way: Way::Export,
            name: export.path.to_string(),
            resources: resources(&self.lab, &template),
            edition: template.domain,
            day_bytes,
            period_bytes,
        })
    }

    /// What is said to be under screening, but is not, is going to be screened again.
    pub(super) fn screen_again(&self) {
        let again = self.db.write("nonstopd", self.clock.now(), |w| {
            // Within the transaction: whatever is said to be under screening by now is among them.
            let running: BTreeSet<ExportId> = self.state().exports.keys().copied().collect();
            w.screen_again(&running)
        });
        if let Err(e) = again {
            error!("put exports back that were not screened: {}", chain(&e));
        }
    }

    /// Looks at one import. Returns whether there was one.
    pub(super) fn look_at_one(&self) -> bool {
        let waiting = match self.db.read(|read| read.imports_to_look_at()) {
            Ok(waiting) => waiting,
            Err(e) => {
                error!("look for imports: {}", chain(&e));
                return false;
            }
        };
        let next = {
            let mut state = self.state();
            let turn = |of: EnvironmentId| state.turns.get(&of).copied().unwrap_or(0);
            let next = waiting.into_iter().min_by_key(|i| (turn(i.environment), i.id));
            let Some(next) = next else { return false };
            state.turn += 1;
            let turn = state.turn;
            state.turns.insert(next.environment, turn);
            state.imports.insert(next.id);
            next
        };
        let looked = self.look_at(&next);
        self.state().imports.remove(&next.id);
        if let Err(e) = &looked {
            error!("look at import {}: {}", next.id, chain(e));
            self.clock.pause(AGAIN);
        }
        looked.is_ok()
    }

    fn look_at(&self, import: &Import) -> Result<(), ScreeningError> {
        let template = self
            .db
            .read(|read| read.environment(self.lab.network.pool, import.environment))?
            .template;
        let about = About {
            way: Way::Import,
            name: import.path.to_string(),
            resources: resources(&self.lab, &template),
            edition: template.domain,
            day_bytes: 0,
            period_bytes: 0,
        };
        let file = match self.contents.open(Root::Import, &import.blob) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                error!("the content {} of import {} is not there", import.blob, import.id);
                self.db.write("nonstopd", self.clock.now(), |w| w.import_lost(import.id))?;
                return Ok(());
            }
            other => other?,
        };
        let mut said = self.screener.screen(file.into(), &about);
        if said.sha256.is_empty() {
            said.sha256 = sha256_of(self.contents.open(Root::Import, &import.blob)?)?;
        }
        let refused = said.verdict == Verdict::Block;
        self.hand.about_to("commit what an import is")?;
        self.db.write("nonstopd", self.clock.now(), |w| {
            w.import_checked(
                import.id,
                &said.sha256,
                said.kind.content_type(),
                &told(&said.findings),
                refused,
            )
        })?;
        Ok(())
    }

    /// Whether the content is being looked at, so that its file must stay.
    pub(super) fn is_looked_at(&self, blob: &BlobId) -> bool {
        self.state().exports.values().any(|(_, looked_at)| looked_at == blob)
    }
}

/// Findings as they are kept: in the words of those who are told.
fn told(findings: &[Finding]) -> serde_json::Value {
    let told = findings.iter().map(|finding| FindingTold {
        rule: finding.rule.to_string(),
        verdict: finding.verdict.to_string(),
        says: finding.says.en.clone(),
        mend: finding.mend.en.clone(),
        says_ja: finding.says.ja.clone(),
        mend_ja: finding.mend.ja.clone(),
    });
    serde_json::json!(told.collect::<Vec<_>>())
}

fn wrong_hash() -> Finding {
    let words = |en: &str, ja: &str| Words { en: en.into(), ja: ja.into() };
    Finding {
        rule: RuleId::FAILED.parse().expect("a rule of ours"),
        verdict: Verdict::Hold,
        says: words(
            "the lab holds another file under the hash that was found for this one",
            "このファイルのハッシュ値で、別のファイルがすでに保管されています。",
        ),
        mend: words("wait for the staff to look at it", "担当者の確認をお待ちください。"),
    }
}

/// What machines of `template` reach. A server that the lab does not know any more may have been any:
/// what came from it is still there.
fn resources(lab: &Lab, template: &EnvironmentTemplate) -> BTreeSet<Resource> {
    let domain = template.domain.as_ref().and_then(|name| lab.data_domains.get(name));
    let targets = template.machines.iter().flat_map(|machine| &machine.reach);
    let mut reached = BTreeSet::new();
    for target in targets.filter(|target| *target != AIRLOCK) {
        match domain.and_then(|domain| domain.servers.get_key_value(target)) {
            Some((name, server)) => reached.extend(server.resource(name)),
            None => reached.extend(Resource::ALL),
        }
    }
    reached
}

/// The SHA-256 of `file` in hex. Hashing parses nothing.
fn sha256_of(mut file: File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_lab_yaml_does_not_know_any_more_counts_as_material() {
        let lab = |server: &str| {
            let text = format!(
                "version: 1\nname: lab\ndata_domains:\n  mws:\n    interface: eth1\n    network: \
                 10.81.0.0/24\n    here: false\n    servers:\n      {server}: {{address: 10.81.0.2, \
                 tcp: [80]}}\n"
            );
            Lab::parse("lab.yaml", &text).expect("valid")
        };
        let template = |domain: &str, reach: &str| {
            let text = format!(
                "version: 1\ntitle: t\ndomain: {domain}\nmachines:\n- {{role: analyst, image: micro, \
                 memory_mib: 96, reach: {reach}}}\n- {{role: debugger, image: micro, memory_mib: 96}}"
            );
            EnvironmentTemplate::parse("t", &text, None).expect("valid")
        };
        let pcap = template("mws", "[airlock, pcap]");
        assert_eq!(resources(&lab("pcap"), &pcap), BTreeSet::from([Resource::Pcap]));
        let any = BTreeSet::from(Resource::ALL);
        assert_eq!(resources(&lab("days"), &pcap), any, "the server was called something else");
        let renamed = template("mws24", "[airlock, pcap]");
        assert_eq!(resources(&lab("pcap"), &renamed), any, "its data domain was");
        let airlock = template("mws", "[airlock]");
        assert_eq!(resources(&lab("pcap"), &airlock), BTreeSet::new());
    }
}
