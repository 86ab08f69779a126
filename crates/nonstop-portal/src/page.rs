//! What every page knows: language, lab, person, time, and how they are written.

use crate::{
    app::{App, STYLE_VERSION},
    form::Fields,
    guard::Visitor,
    lang::Lang,
    texts::{Texts, fill, samples, transfers},
};
use askama::Template;
use axum::{
    http::StatusCode,
    response::{Html, IntoResponse, Response},
};
use jiff::{Timestamp, tz::TimeZone};
use nonstop_api::{
    AccountView, CardView, DesktopSessionView, EnvironmentStateView, EnvironmentView,
    MachineStateView, ProofColour,
};
use nonstop_model::{AccountState, CardKind, CardState, MachineRole, Period, RequestState, Role};

/// A proof of reach is made every minute: one older than this is not the lab's any more.
const OLD_PROOF_SECONDS: i64 = 300;

/// A part of the portal, as the navigation shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Home,
    Requests,
    /// A researcher's.
    Transfers,
    /// Those of the staff.
    Exports,
    Accounts,
    Sessions,
    Displays,
    Data,
    Reach,
    Trace,
    About,
    /// None of those.
    Elsewhere,
}

/// The frame of a page.
pub(crate) struct Page {
    pub(crate) t: &'static Texts,
    /// The texts of samples.
    pub(crate) s: &'static samples::Texts,
    /// The texts of files on their way in and out.
    pub(crate) f: &'static transfers::Texts,
    pub(crate) lang: Lang,
    pub(crate) lab: String,
    pub(crate) demo: bool,
    pub(crate) style: &'static str,
    /// The person; None where the daemon could not be asked.
    pub(crate) me: Option<AccountView>,
    /// For staff, while the host's clock is not believed.
    pub(crate) clock: Option<nonstop_api::ClockView>,
    /// Second places that lack heads of the trace, for staff.
    pub(crate) heads_late: Vec<String>,
    /// For staff, how many exports wait for a decision.
    pub(crate) waiting: Option<u64>,
    pub(crate) section: Section,
    /// Path and query, to come back to.
    pub(crate) path: String,
    pub(crate) token: String,
    /// Seconds until it is loaded again.
    pub(crate) refresh: Option<u32>,
    /// What was done just before.
    pub(crate) notice: Option<&'static str>,
    zone: TimeZone,
    pub(crate) now: Timestamp,
}

/// An instant, however often it is borrowed: templates borrow as they please.
pub(crate) trait At {
    /// The instant.
    fn at(&self) -> Timestamp;
}

impl At for Timestamp {
    fn at(&self) -> Timestamp {
        *self
    }
}

impl<T: At> At for &T {
    fn at(&self) -> Timestamp {
        (*self).at()
    }
}

/// A state as a word with a colour.
pub(crate) struct Badge {
    pub(crate) class: &'static str,
    pub(crate) text: &'static str,
}

impl Page {
    /// The frame for `visitor`, nobody in particular yet.
    pub(crate) fn new(app: &App, visitor: &Visitor) -> Page {
        let t = visitor.lang.texts();
        Page {
            t,
            s: visitor.lang.sample_texts(),
            f: visitor.lang.transfer_texts(),
            lang: visitor.lang,
            lab: app.lab.name.clone(),
            demo: app.lab.software_keys,
            style: &STYLE_VERSION,
            me: None,
            clock: None,
            heads_late: Vec::new(),
            waiting: None,
            section: Section::Elsewhere,
            path: visitor.path.clone(),
            token: app.secret.token(&visitor.cookie, visitor.connection.address),
            refresh: None,
            notice: notice(visitor.lang, Fields::query(&visitor.path).get("done")),
            zone: app.zone.clone(),
            now: (app.now)(),
        }
    }

    /// Whether the person is of the staff.
    pub(crate) fn staff(&self) -> bool {
        self.me.as_ref().is_some_and(|me| me.role == Role::Staff)
    }

    /// The same page, loaded again after `seconds` unless the visitor said no.
    pub(crate) fn refreshing(mut self, seconds: u32) -> Page {
        if !self.path.contains("still=1") {
            self.refresh = Some(seconds);
        }
        self
    }

    /// The path without its query.
    pub(crate) fn bare_path(&self) -> &str {
        self.path.split('?').next().unwrap_or("/")
    }

    /// Whether `section` is shown.
    pub(crate) fn is_in(&self, section: Section) -> bool {
        self.section == section
    }

    /// A time to the minute.
    pub(crate) fn time(&self, at: impl At) -> String {
        let here = at.at().to_zoned_datetime(self.zone.clone());
        here.strftime("%Y-%m-%d %H:%M").to_string()
    }

    /// A time to the second.
    pub(crate) fn second(&self, at: impl At) -> String {
        at.at().to_zoned_datetime(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
    }

    /// A time as a field of a form takes it.
    pub(crate) fn field_time(&self, at: impl At) -> String {
        at.at().to_zoned_datetime(self.zone.clone()).strftime("%Y-%m-%dT%H:%M").to_string()
    }

    /// Which clock times are read from.
    pub(crate) fn zone_note(&self) -> String {
        let name = self.now.to_zoned_datetime(self.zone.clone()).strftime("%Z").to_string();
        fill(self.t.all_times, name)
    }

    /// How long until a period begins or ends; empty once it is over.
    pub(crate) fn left(&self, period: &Period) -> String {
        if self.now < period.from() {
            fill(self.t.begins_in, self.span(period.from()))
        } else if self.now < period.until() {
            fill(self.t.ends_in, self.span(period.until()))
        } else {
            String::new()
        }
    }

    /// From now until `at`, as the two largest units.
    fn span(&self, at: Timestamp) -> String {
        // Rounded up: "0 min" would be over.
        let minutes = (at.duration_since(self.now).as_secs() + 59) / 60;
        let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
        let t = self.t;
        let parts = [(t.days, days), (t.hours, hours), (t.minutes, minutes)];
        let first = parts.iter().position(|(_, n)| *n > 0).unwrap_or(2);
        let shown = parts[first..].iter().take(2).filter(|(_, n)| *n > 0);
        shown.map(|(unit, n)| fill(unit, n)).collect::<Vec<_>>().join(" ")
    }

    /// The reader's line of a template or environment.
    pub(crate) fn title<'a>(&self, en: &'a str, ja: &'a str) -> &'a str {
        if self.lang == Lang::Ja && !ja.is_empty() { ja } else { en }
    }

    /// How far an environment is.
    pub(crate) fn environment_badge(&self, e: &EnvironmentView) -> Badge {
        let t = self.t;
        let (class, text) = match e.state {
            EnvironmentStateView::Gone => ("quiet", t.state_gone),
            EnvironmentStateView::Ended => ("quiet", t.state_ended),
            _ if e.problem.is_some() => ("bad", t.state_problem),
            EnvironmentStateView::Waiting => ("quiet", t.state_waiting),
            EnvironmentStateView::Preparing => ("busy", t.state_preparing),
            EnvironmentStateView::Ready => ("good", t.state_ready),
        };
        Badge { class, text }
    }

    /// How far a machine is.
    pub(crate) fn machine_badge(&self, state: &MachineStateView) -> Badge {
        let t = self.t;
        let (class, text) = match state {
            MachineStateView::Off => ("quiet", t.machine_off),
            MachineStateView::Starting => ("busy", t.machine_starting),
            MachineStateView::Running => ("busy", t.machine_running),
            MachineStateView::Ready => ("good", t.machine_ready),
            MachineStateView::Stopping => ("busy", t.machine_stopping),
        };
        Badge { class, text }
    }

    /// What became of a request.
    pub(crate) fn request_badge(&self, state: &RequestState) -> Badge {
        let (class, text) = match state {
            RequestState::Open => ("busy", self.t.request_open),
            RequestState::Approved { .. } => ("good", self.t.request_approved),
            RequestState::Refused { .. } => ("bad", self.t.request_refused),
        };
        Badge { class, text }
    }

    /// Whether an account may log in.
    pub(crate) fn account_badge(&self, state: &AccountState) -> Badge {
        let (class, text) = match state {
            AccountState::Active => ("good", self.t.account_active),
            AccountState::Suspended => ("bad", self.t.account_suspended),
            AccountState::Removed => ("quiet", self.t.account_removed),
        };
        Badge { class, text }
    }

    /// How far a card is.
    pub(crate) fn card_badge(&self, card: &CardView) -> Badge {
        let (class, text) = match card.state {
            CardState::Issuing => ("busy", self.t.card_issuing),
            CardState::Active if card.expired => ("bad", self.t.card_expired),
            CardState::Active => ("good", self.t.card_active),
            CardState::Revoked => ("quiet", self.t.card_revoked),
        };
        Badge { class, text }
    }

    /// That nothing lets a person in.
    pub(crate) fn no_card(&self) -> Badge {
        Badge { class: "bad", text: self.t.card_none }
    }

    /// Whether a card has shown its key; a dash where that is no question.
    pub(crate) fn card_checked(&self, card: &CardView) -> &'static str {
        match (card.kind, card.state) {
            (CardKind::KeyFile, _) | (_, CardState::Issuing) => "–",
            (CardKind::Piv, _) if card.proven => self.t.card_proven,
            (CardKind::Piv, _) => self.t.card_unproven,
        }
    }

    /// What holds a key.
    pub(crate) fn card_kind(&self, kind: &CardKind) -> &'static str {
        match kind {
            CardKind::Piv => self.t.card_piv,
            CardKind::KeyFile => self.t.card_key_file,
        }
    }

    /// What came of a proof of reach that was made at `at`; one that is old says nothing.
    pub(crate) fn proof_badge(&self, colour: &ProofColour, at: impl At) -> Badge {
        let age = self.now.duration_since(at.at()).as_secs();
        let (class, text) = match colour {
            _ if age > OLD_PROOF_SECONDS => ("busy", self.t.proof_old),
            ProofColour::Green => ("good", self.t.proof_green),
            ProofColour::Red => ("bad", self.t.proof_red),
            ProofColour::Unproven => ("busy", self.t.proof_unproven),
        };
        Badge { class, text }
    }

    /// How long ago `at` was, to the second below a minute.
    pub(crate) fn ago(&self, at: impl At) -> String {
        let seconds = self.now.duration_since(at.at()).as_secs().max(0);
        let t = self.t;
        match seconds {
            0..60 => fill(t.seconds, seconds),
            60..3600 => fill(t.minutes, seconds / 60),
            3600..86400 => fill(t.hours, seconds / 3600),
            _ => fill(t.days, seconds / 86400),
        }
    }

    /// What an account may do.
    pub(crate) fn role(&self, role: &Role) -> &'static str {
        match role {
            Role::Researcher => self.t.role_researcher,
            Role::Staff => self.t.role_staff,
        }
    }

    /// What a machine is for.
    pub(crate) fn machine_role(&self, role: &MachineRole) -> &'static str {
        match role {
            MachineRole::Analyst => self.t.role_analyst,
            MachineRole::Debugger => self.t.role_debugger,
            MachineRole::Debuggee => self.t.role_debuggee,
        }
    }

    /// Whether the figures of a session at a display are known.
    pub(crate) fn counted(&self, session: &DesktopSessionView) -> bool {
        session.closed_at.is_some() || session.over_budget
    }

    /// A number of bytes, in a unit that reads well.
    pub(crate) fn bytes(&self, bytes: &u64) -> String {
        match *bytes {
            0..10_240 => format!("{bytes} B"),
            10_240..10_485_760 => format!("{} KiB", bytes >> 10),
            _ => format!("{} MiB", bytes >> 20),
        }
    }

    /// A text of the catalogue, filled.
    pub(crate) fn fill(&self, text: &str, value: impl std::fmt::Display) -> String {
        fill(text, value)
    }
}

/// `template` as an answer.
pub(crate) fn html(template: &impl Template) -> Result<Response, crate::error::PageError> {
    Ok(Html(template.render()?).into_response())
}

/// `template` as the answer to a form that has errors.
pub(crate) fn again(template: &impl Template) -> Result<Response, crate::error::PageError> {
    Ok((StatusCode::UNPROCESSABLE_ENTITY, Html(template.render()?)).into_response())
}

/// Sends the browser to `path` of ours, where it GETs.
pub(crate) fn see_other(path: &str) -> Result<Response, crate::error::PageError> {
    let location =
        axum::http::HeaderValue::try_from(path).map_err(|_| crate::error::PageError::Unexpected)?;
    Ok((StatusCode::SEE_OTHER, [(axum::http::header::LOCATION, location)]).into_response())
}

/// What `?done=WORD` says; only known words say anything.
fn notice(lang: Lang, word: &str) -> Option<&'static str> {
    let (t, s, f) = (lang.texts(), lang.sample_texts(), lang.transfer_texts());
    Some(match word {
        "applied" => t.notice_applied,
        "approved" => t.notice_approved,
        "refused" => t.notice_refused,
        "power" => t.notice_power,
        "reverted" => t.notice_reverted,
        "taking" => t.notice_taking,
        "returned" => t.notice_returned,
        "snapshot_deleted" => t.notice_snapshot_deleted,
        "ended" => t.notice_ended,
        "extended" => t.notice_extended,
        "added" => t.notice_added,
        "suspended" => t.notice_suspended,
        "resumed" => t.notice_resumed,
        "edition" => t.notice_edition,
        "sources" => t.notice_sources,
        "card_added" => t.notice_card_added,
        "card_revoked" => t.notice_card_revoked,
        "session" => t.notice_session,
        "view" => t.notice_view,
        "view_ended" => t.notice_view_ended,
        "recording" => t.notice_recording,
        "recording_ended" => t.notice_recording_ended,
        "export_released" => f.notice_export_released,
        "export_refused" => f.notice_export_refused,
        "export_revoked" => f.notice_export_revoked,
        "noted" => f.notice_noted,
        "proven" => t.notice_proven,
        "publishing" => t.notice_publishing,
        "probing" => t.notice_probing,
        "injecting" => s.notice_injecting,
        "ejecting" => s.notice_ejecting,
        _ => return None,
    })
}
