//! Imports and exports: who is told what of them, looks at them, and decides.
//!
//! Whoever is outside learns of an export of their own its number, how far it is and which rules had
//! something against it; all else once it is released. Staff see everything but the bytes: those
//! leave by the admins' socket alone, so that no program that speaks for persons carries them.

use super::{Service, one_line, refusal};
use crate::{
    caller::Caller,
    fitting::{LIST, fitting},
    status::chain,
    transfers::in_short,
};
use nonstop_api::{
    ApiError, CheckItem, DecisionView, EarlierView, ErrorCode, ExportAbout, ExportView,
    ImportState, ImportView, PreviewView, Reply, airlock::FindingTold,
};
use nonstop_model::{AccountName, EnvironmentId, ExportId, ExportState, screening::RuleId};
use nonstop_store::{Export, Import, ImportStage, Which};
use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::json;
use std::{
    collections::BTreeSet,
    fs::File,
    io::{Seek, Write},
    os::fd::OwnedFd,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Other exports of a person that are told of beside one.
const EARLIER: usize = 20;

/// The longest note of an owner, in characters.
const LONGEST_NOTE: usize = 1000;

/// Previews that are made at once: each is a process.
const PREVIEWS: usize = 4;

/// How many are being made.
static PREVIEWING: AtomicUsize = AtomicUsize::new(0);

/// The turn of one preview, until it is dropped.
struct Turn;

impl Turn {
    fn take() -> Result<Turn, ApiError> {
        let more = |n| (n < PREVIEWS).then_some(n + 1);
        match PREVIEWING.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more) {
            Ok(_) => Ok(Turn),
            Err(_) => {
                Err(ApiError::new(ErrorCode::Capacity, "too many previews are being made at once")
                    .help("try again in a moment"))
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        PREVIEWING.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Service {
    pub(super) fn export_list(
        &self,
        caller: &Caller,
        environment: Option<EnvironmentId>,
        waiting: bool,
        all: bool,
    ) -> Result<Reply, ApiError> {
        let which = match (waiting, all) {
            (true, _) => Which::Waiting,
            (false, true) => Which::All,
            (false, false) => Which::Recent,
        };
        let own = own_alone(caller);
        let found = self.db.read(|read| read.exports(environment, own, which)).map_err(refusal)?;
        let views = found.into_iter().map(|export| {
            let mut view = view(caller, export)?;
            // A list is of what there is; so many of them fit into one answer.
            view.note = None;
            if let Some(about) = &mut view.about {
                about.findings.clear();
            }
            Ok(view)
        });
        let views = views.collect::<Result<_, _>>()?;
        Ok(Reply::Exports(fitting(views, LIST, ExportView::clone).0))
    }

    pub(super) fn export_show(&self, caller: &Caller, id: ExportId) -> Result<Reply, ApiError> {
        let export = self.export(caller, id)?;
        let account = export.account.clone();
        let mut view = view(caller, export)?;
        if let Some(about) = &mut view.about {
            let (decisions, others) = self
                .db
                .read(|read| {
                    Ok((read.decisions(id)?, read.exports(None, Some(&account), Which::All)?))
                })
                .map_err(refusal)?;
            let staff = caller.is_staff();
            about.decisions = decisions
                .into_iter()
                // That a person is to decide is none.
                .filter(|d| d.state != ExportState::Held)
                .map(|d| DecisionView {
                    // Why something may leave is between staff and the trace.
                    reason: if staff || d.state != ExportState::Released {
                        d.reason
                    } else {
                        String::new()
                    },
                    state: d.state,
                    by: d.by,
                    at: d.at,
                })
                .collect();
            if staff {
                let others = others.into_iter().filter(|other| other.id != id).take(EARLIER);
                about.earlier = others
                    .map(|other| EarlierView {
                        id: other.id,
                        state: other.state,
                        path: other.path,
                        bytes: other.bytes,
                        submitted_at: other.submitted_at,
                    })
                    .collect();
            }
        }
        Ok(Reply::Export(view))
    }

    /// The bytes of `id`. Admins alone: what speaks for persons never carries a file.
    pub(super) fn export_fetch(
        &self,
        caller: &Caller,
        id: ExportId,
    ) -> Result<(Reply, OwnedFd), ApiError> {
        if caller.must_be_admin().is_err() {
            let message = "the bytes of an export are had by admins of the host alone";
            return Err(ApiError::new(ErrorCode::Forbidden, message).help(
                "run `nonstop export fetch` there; what is released, its owner fetches by WebDAV",
            ));
        }
        let export = self.export(caller, id)?;
        let file = self.opened(&export)?;
        let sha256 = export.screening.as_ref().map(|s| s.sha256.clone());
        let detail = json!({ "sha256": sha256, "bytes": export.bytes });
        self.commit(caller, |w| w.trace("export.fetch", &id, detail))?;
        Ok((Reply::Export(view(caller, export)?), file.into()))
    }

    /// What `id` looks like, and of a picture a PNG beside that.
    pub(super) fn export_preview(
        &self,
        caller: &Caller,
        id: ExportId,
    ) -> Result<(Reply, Option<OwnedFd>), ApiError> {
        caller.must_be_staff()?;
        let export = self.export(caller, id)?;
        if is_own(caller, &export) && export.released_at.is_none() {
            return Err(ApiError::new(ErrorCode::Forbidden, OWN).help("ask another of the staff"));
        }
        if export.screening.is_none() {
            let message = format!("{id} has not been screened yet");
            return Err(ApiError::new(ErrorCode::Conflict, message).help("wait until it is"));
        }
        let _turn = Turn::take()?;
        let file = self.opened(&export)?;
        self.commit(caller, |w| w.trace("export.look", &id, json!({})))?;
        let preview = self.screener.preview(file.into());
        let png = match (&preview.view, preview.png) {
            (PreviewView::Picture { .. }, Some(png)) => {
                Some(in_memory(&png).map_err(|e| failed("keep a picture in memory", &e))?)
            }
            _ => None,
        };
        Ok((Reply::Preview(preview.view), png))
    }

    pub(super) fn export_decide(
        &self,
        caller: &Caller,
        id: ExportId,
        release: bool,
        reason: &str,
    ) -> Result<Reply, ApiError> {
        let reason = self.may_decide(caller, id, reason)?;
        self.transfers.decide(&caller.actor(), id, release, &reason).map_err(refusal)?;
        Ok(Reply::Done)
    }

    pub(super) fn export_revoke(
        &self,
        caller: &Caller,
        id: ExportId,
        reason: &str,
    ) -> Result<Reply, ApiError> {
        let reason = self.may_decide(caller, id, reason)?;
        self.transfers.revoke(&caller.actor(), id, &reason).map_err(refusal)?;
        Ok(Reply::Done)
    }

    /// The owner's note; admins write one in the owner's name, as they apply in it.
    pub(super) fn export_note(
        &self,
        caller: &Caller,
        id: ExportId,
        note: &str,
    ) -> Result<Reply, ApiError> {
        let export = self.export(caller, id)?;
        let own = caller.account().is_some_and(|account| account.name == export.account);
        if !own {
            caller.must_be_admin()?;
        }
        let note = note.trim();
        let problem = if note.chars().count() > LONGEST_NOTE {
            format!("the note may have {LONGEST_NOTE} characters")
        } else if note.contains(|c: char| c.is_control() && c != '\n' && c != '\t') {
            "the note must be plain text".to_string()
        } else if !export.state.can_be_withdrawn() {
            let message = format!("{id} is {}: nobody decides on it any more", export.state);
            return Err(ApiError::new(ErrorCode::Conflict, message));
        } else {
            if note == export.note {
                return Ok(Reply::Done);
            }
            if own {
                let spent = self.transfers.may_trace(export.environment, note.len());
                spent.map_err(|denial| ApiError::new(ErrorCode::Capacity, denial.message))?;
            }
            self.commit(caller, |w| w.note_export(id, note))?;
            return Ok(Reply::Done);
        };
        Err(ApiError::new(ErrorCode::Invalid, problem))
    }

    pub(super) fn import_list(
        &self,
        caller: &Caller,
        environment: Option<EnvironmentId>,
        all: bool,
    ) -> Result<Reply, ApiError> {
        let own = own_alone(caller);
        let found = self.db.read(|read| read.imports(environment, own, all)).map_err(refusal)?;
        let views = found.into_iter().map(import_view).collect::<Result<_, _>>()?;
        let short =
            |view: &ImportView| ImportView { findings: in_short(&view.findings), ..view.clone() };
        Ok(Reply::Imports(fitting(views, LIST, short).0))
    }

    /// What `check` says of transfers.
    pub(super) fn check_transfers(&self) -> CheckItem {
        let aside = self.transfers.aside();
        CheckItem {
            what: "files of imports and exports".into(),
            good: aside.as_ref().is_ok_and(|(aside, _)| *aside == 0),
            found: match aside {
                Ok((0, _)) => "all are known".into(),
                Ok((n, folder)) => format!("{n} that no row names lie in {}", folder.display()),
                Err(e) => format!("look for those that were put aside: {e}"),
            },
            help: "they came after the backup that was restored: look at them, then remove them"
                .into(),
        }
    }

    /// How many exports wait for a decision, for those who decide.
    pub(super) fn exports_waiting(&self, caller: &Caller) -> Result<Option<u64>, ApiError> {
        match caller.is_staff() {
            true => self.db.read(|read| read.exports_waiting()).map(Some).map_err(refusal),
            false => Ok(None),
        }
    }

    /// The export `id`, if `caller` may know of it.
    fn export(&self, caller: &Caller, id: ExportId) -> Result<Export, ApiError> {
        let export = self.db.read(|read| read.export(id)).map_err(refusal)?;
        caller.must_own(&export.account, &format!("export {id}"))?;
        Ok(export)
    }

    /// The reason, if `caller` may decide on `id`.
    fn may_decide(&self, caller: &Caller, id: ExportId, reason: &str) -> Result<String, ApiError> {
        caller.must_be_staff()?;
        let export = self.export(caller, id)?;
        if is_own(caller, &export) {
            return Err(ApiError::new(ErrorCode::Forbidden, OWN).help("ask another of the staff"));
        }
        one_line("reason", reason, 500)
    }

    fn opened(&self, export: &Export) -> Result<File, ApiError> {
        self.transfers.open_export(export).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                let message = format!("the bytes of {} are not kept any more", export.id);
                ApiError::new(ErrorCode::Conflict, message)
                    .help("its row of the trace says what they were, and why they went")
            }
            _ => failed(&format!("open the bytes of {}", export.id), &e),
        })
    }
}

/// Why somebody does not decide on an export of their own.
const OWN: &str = "it is an export of your own";

fn is_own(caller: &Caller, export: &Export) -> bool {
    caller.account().is_some_and(|account| account.name == export.account)
}

/// The account that a list is of: all for those who answer for the lab.
fn own_alone(caller: &Caller) -> Option<&AccountName> {
    caller.account().filter(|_| !caller.is_staff()).map(|account| &account.name)
}

/// So many rules are told of a file that has not been let out.
const MOST_RULES: usize = 8;

/// Which rules had something to say, as whoever is outside may know: the looker at the file chose
/// neither their names nor their order.
fn rules_outside(findings: &[FindingTold]) -> Vec<String> {
    let counting = findings.iter().filter(|finding| finding.verdict != "pass");
    let told: BTreeSet<String> = counting
        .filter_map(|finding| finding.rule.parse::<RuleId>().ok())
        .map(|rule| rule.outside().to_string())
        .collect();
    told.into_iter().take(MOST_RULES).collect()
}

/// What `caller` is told of `export`; decisions and others of the person apart.
fn view(caller: &Caller, export: Export) -> Result<ExportView, ApiError> {
    let (own, staff) = (is_own(caller, &export), caller.is_staff());
    let screening = export.screening;
    let findings = screening.as_ref().map(|s| told(&s.findings)).transpose()?.unwrap_or_default();
    let held = export.state == ExportState::Held;
    let rules = rules_outside(&findings);
    Ok(ExportView {
        id: export.id,
        environment: export.environment,
        template: export.template.to_string(),
        account: export.account,
        machine: export.role,
        state: export.state,
        submitted_at: export.submitted_at,
        changed_at: export.changed_at,
        rules,
        note: Some(export.note).filter(|note| !note.is_empty()),
        decidable: staff && held && !own,
        undecidable: (staff && held && own).then(|| OWN.into()),
        // A released version was told when it was released; taking it back untells nothing.
        about: ((staff && !own) || export.released_at.is_some()).then(|| ExportAbout {
            path: export.path,
            version: export.version,
            bytes: export.bytes,
            sha256: screening.as_ref().map(|s| s.sha256.clone()),
            content_type: screening
                .as_ref()
                .map(|s| s.content_type.clone())
                .filter(|kind| !kind.is_empty()),
            screened_ms: screening.as_ref().map(|s| s.ms),
            rules_digest: screening.and_then(|s| s.rules_digest),
            findings,
            decisions: Vec::new(),
            earlier: Vec::new(),
        }),
    })
}

fn import_view(import: Import) -> Result<ImportView, ApiError> {
    Ok(ImportView {
        id: import.id,
        environment: import.environment,
        account: import.account,
        path: import.path,
        bytes: import.bytes,
        at: import.at,
        sha256: import.sha256,
        content_type: import.content_type.filter(|kind| !kind.is_empty()),
        state: match import.state {
            ImportStage::Looking => ImportState::Looking,
            ImportStage::Visible => ImportState::Visible,
            ImportStage::Refused => ImportState::Refused,
            ImportStage::Removed => ImportState::Removed,
        },
        findings: told(&import.findings)?,
    })
}

/// Findings as the database has them.
fn told(findings: &serde_json::Value) -> Result<Vec<FindingTold>, ApiError> {
    if findings.is_null() {
        return Ok(Vec::new());
    }
    serde_json::from_value(findings.clone()).map_err(|e| failed("read findings", &e))
}

/// `bytes` as a file of no name, at its beginning.
fn in_memory(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("preview", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

fn failed(what: &str, e: &(dyn std::error::Error + 'static)) -> ApiError {
    tracing::error!("{what}: {}", chain(e));
    ApiError::new(ErrorCode::Internal, format!("{what}: {}", chain(e)))
        .help("look at the log of nonstopd")
}
