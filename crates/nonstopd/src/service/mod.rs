//! Answers requests: checks who asks and what, commits what is wanted with its trace, wakes the
//! reconciler. Nothing here touches the host.

mod accounts;
mod cards;
mod clock;
mod data;
mod desktops;
mod environments;
mod gateway;
mod injections;
mod lab;
mod probe;
mod profile;
mod reach;
mod receipts;
mod recordings;
pub(crate) mod requests;
mod serving;
mod sessions;
mod snapshots;
mod transfers;

use crate::{
    Clock, caller::Caller, canaries::Canaries, flows::Meter, gateway::Gateway, prover::Prover,
    publisher::Publisher, reconciler::Wake, samples::Samples, screening::Screener, status::Status,
    transfers::Transfers,
};
use jiff::Timestamp;
use nonstop_api::{ApiError, ErrorCode, MeView, Reply, Request};
use nonstop_host::{
    Host,
    authority::{Authority, CardSecret},
    firewall::Firewall,
    gate::HostKeys,
    images::Images,
};
use nonstop_model::{Account, AccountId, AccountState, Lab, capacity::Room};
use nonstop_store::{Db, StoreError, Write};
use std::{os::fd::OwnedFd, sync::Arc};

/// Answers requests of portal and CLI.
pub struct Service {
    /// The lab.
    pub lab: Lab,
    /// What is wanted.
    pub db: Arc<Db>,
    /// What was seen.
    pub status: Arc<Status>,
    /// Wakes the reconciler.
    pub wake: Arc<Wake>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// What hears sshd.
    pub gateway: Arc<Gateway>,
    /// Counts what sessions exchange.
    pub meter: Arc<Meter>,
    /// Base images.
    pub images: Arc<Images>,
    /// The host, for ending single sessions.
    pub host: Arc<dyn Host>,
    /// What the lab has.
    pub room: Room,
    /// Proves what may talk to what.
    pub prover: Arc<Prover>,
    /// Tries it out.
    pub canaries: Arc<Canaries>,
    /// Publishes what arrives for data domains.
    pub publisher: Arc<Publisher>,
    /// Holds what is brought in and exported.
    pub transfers: Arc<Transfers>,
    /// Makes exports anew to be looked at.
    pub screener: Arc<dyn Screener>,
    /// The gateway's host keys.
    pub host_keys: HostKeys,
    /// For asking the kernel whom it refused.
    pub firewall: Arc<Firewall>,
    /// The lab's authority, which signs certificates of cards.
    pub authority: Arc<Authority>,
    /// What manages the lab's cards derives from it.
    pub card_secret: CardSecret,
    /// Reads the samples of data domains.
    pub samples: Samples,
}

impl Service {
    /// Answers `request`, with an open file beside the answer where there is one.
    pub fn answer_with_file(
        &self,
        caller: &Caller,
        request: Request,
    ) -> (Result<Reply, ApiError>, Option<OwnedFd>) {
        let some = |(reply, file)| (reply, Some(file));
        let answered = match (caller, &request) {
            (Caller::Portal, _) => return (self.answer(caller, request), None),
            (_, Request::TraceStream) => self.trace_stream(caller).map(some),
            (_, Request::ReachProve) => self.reach_prove(caller).map(some),
            (_, Request::ReachProbed) => self.reach_probed(caller),
            (_, Request::ExportFetch { id }) => self.export_fetch(caller, *id).map(some),
            (_, Request::ExportPreview { id }) => self.export_preview(caller, *id),
            (_, Request::RecordingStream { id }) => self.recording_played(caller, *id).map(some),
            _ => return (self.answer(caller, request), None),
        };
        match answered {
            Ok((reply, file)) => (Ok(reply), file),
            Err(e) => (Err(e), None),
        }
    }

    /// Answers `request` of `caller`.
    pub fn answer(&self, caller: &Caller, request: Request) -> Result<Reply, ApiError> {
        if let Caller::Portal = caller {
            return match request {
                Request::PortalAddresses => self.portal_addresses(),
                _ => Err(ApiError::new(
                    ErrorCode::Forbidden,
                    "the portal asks nothing else for itself: show a person's connection",
                )),
            };
        }
        match request {
            Request::WhoAmI => self.who_am_i(caller),
            Request::PortalAddresses => {
                Err(ApiError::new(ErrorCode::Forbidden, "only the portal itself may ask that"))
            }
            Request::AccountAdd { name, full_name, affiliation, role, edition, sources, keys } => {
                let new =
                    accounts::Entry { name, full_name, affiliation, role, edition, sources, keys };
                self.account_add(caller, new)
            }
            Request::AccountEdition { name, edition, reason } => {
                self.account_edition(caller, &name, &edition, &reason)
            }
            Request::AccountBandwidth { name, bandwidth, reason } => {
                self.account_bandwidth(caller, &name, bandwidth, &reason)
            }
            Request::AccountList => self.account_list(caller),
            Request::AccountShow { name } => self.account_show(caller, &name),
            Request::AccountSuspend { name, suspend, reason } => {
                let state = if suspend { AccountState::Suspended } else { AccountState::Active };
                self.account_state(caller, &name, state, &reason)
            }
            Request::AccountSources { name, sources, reason } => {
                self.account_sources(caller, &name, &sources, &reason)
            }
            Request::CardList { account } => self.card_list(caller, account.as_ref()),
            Request::CardBegin { account, act, guid } => {
                self.card_begin(caller, &account, act, guid)
            }
            Request::CardCertify { card, public_key, signature } => {
                self.card_certify(caller, card, &public_key, &signature)
            }
            Request::CardActivate { card } => self.card_activate(caller, card),
            Request::CardAdd { account, line } => self.card_add(caller, &account, &line),
            Request::CardRevoke { card, reason } => self.card_revoke(caller, card, &reason),
            Request::CardUnblock { guid } => self.card_unblock(caller, guid),
            Request::ProfileShow { account } => self.profile_show(caller, account.as_ref()),
            Request::AccountRemove { name } => {
                caller.must_be_admin()?;
                self.account_state(caller, &name, AccountState::Removed, "removed")
            }
            Request::TemplateList => self.template_list(caller),
            Request::RequestApply { account, template, period, purpose } => {
                self.request_apply(caller, account, template, period, purpose)
            }
            Request::RequestList => self.request_list(caller),
            Request::RequestApprove { id } => self.request_approve(caller, id),
            Request::RequestRefuse { id, reason } => self.request_refuse(caller, id, &reason),
            Request::EnvironmentList { all } => self.environment_list(caller, all),
            Request::EnvironmentShow { id } => self.environment_show(caller, id),
            Request::EnvironmentPower { id, role, action } => {
                self.environment_power(caller, id, role, action)
            }
            Request::EnvironmentRevert { id, role } => self.environment_revert(caller, id, role),
            Request::SnapshotList { id } => self.snapshot_list(caller, id),
            Request::SnapshotTake { id, name, role } => self.snapshot_take(caller, id, &name, role),
            Request::SnapshotReturn { id, name, role } => {
                self.snapshot_return(caller, id, &name, role)
            }
            Request::SnapshotDelete { id, name } => self.snapshot_delete(caller, id, &name),
            Request::EnvironmentEnd { id } => self.environment_end(caller, id),
            Request::EnvironmentExtend { id, until } => self.environment_extend(caller, id, until),
            Request::SessionList { all } => self.session_list(caller, all),
            Request::SessionEnd { id } => self.session_end(caller, id),
            Request::RefusedLogins { hours } => self.refused_logins(caller, hours),
            Request::DesktopSessions { environment, all, over_budget } => {
                self.desktop_sessions(caller, environment, all, over_budget)
            }
            Request::ViewList => self.view_list(caller),
            Request::ViewOpen { id, role, account, reason, until } => {
                self.view_open(caller, id, role, &account, &reason, until)
            }
            Request::ViewEnd { id } => self.view_end(caller, id),
            Request::RecordingBegin { id, role, reason } => {
                self.recording_begin(caller, id, role, &reason)
            }
            Request::RecordingEnd { id } => self.recording_end(caller, id),
            Request::RecordingList => self.recording_list(caller),
            Request::RecordingPlay { id, reason } => self.recording_play(caller, id, &reason),
            Request::RecordingStream { id } => self.recording_stream(caller, id),
            Request::DataList { domain } => self.data_list(caller, domain.as_deref()),
            Request::DataPublish { domain, file } => {
                self.data_publish(caller, domain.as_deref(), file.as_deref())
            }
            Request::DataPublications { ids } => self.data_publications(caller, &ids),
            Request::DataLoad { domain, days } => self.data_load(caller, domain.as_deref(), &days),
            Request::DataOffers => self.data_offers(caller),
            Request::ExportList { environment, waiting, all } => {
                self.export_list(caller, environment, waiting, all)
            }
            Request::ExportShow { id } => self.export_show(caller, id),
            Request::ExportFetch { id } => self.export_fetch(caller, id).map(|(reply, _)| reply),
            Request::ExportPreview { id } => {
                self.export_preview(caller, id).map(|(reply, _picture)| reply)
            }
            Request::ExportRelease { id, reason } => self.export_decide(caller, id, true, &reason),
            Request::ExportRefuse { id, reason } => self.export_decide(caller, id, false, &reason),
            Request::ExportRevoke { id, reason } => self.export_revoke(caller, id, &reason),
            Request::ExportNote { id, note } => self.export_note(caller, id, &note),
            Request::ImportList { environment, all } => self.import_list(caller, environment, all),
            Request::ExportReceipt { id } => self.export_receipt(caller, id),
            Request::ExportKeep { id, keep, reason } => self.export_keep(caller, id, keep, &reason),
            Request::SampleList { domain, query } => {
                self.sample_list(caller, domain.as_deref(), query)
            }
            Request::SampleInject { environment, samples, by, zip } => {
                self.sample_inject(caller, environment, &samples, by, zip)
            }
            Request::SampleEject { environment } => self.sample_eject(caller, environment),
            Request::InjectionList { environment } => self.injection_list(caller, environment),
            Request::InjectionRecord { id } => self.injection_record(caller, id),
            Request::TraceHeads { limit } => self.trace_heads(caller, limit),
            Request::TraceStream => self.trace_stream(caller).map(|(reply, _stream)| reply),
            Request::TraceList { limit, wanted } => self.trace_list(caller, limit, wanted),
            Request::TraceVerify => self.trace_verify(caller),
            Request::Plan => self.plan(caller),
            Request::ReachShow => self.reach_show(caller),
            Request::ReachProve => self.reach_prove(caller).map(|(reply, _whole)| reply),
            Request::ReachProof => self.reach_proof(caller),
            Request::ReachProbe => self.reach_probe(caller),
            Request::ReachProbed => self.reach_probed(caller).map(|(reply, _whole)| reply),
            Request::LabHostKeys => self.host_keys_shown(),
            Request::LabHostKeyRotate => self.host_key_rotate(caller),
            Request::LabHostKeyFinish => self.host_key_finish(caller),
            Request::SourcesRefused => self.sources_refused(caller),
            Request::ClockShow => self.clock_show(caller),
            Request::ClockConfirm => self.clock_confirm(caller),
            Request::Check => self.check(caller),
            Request::Stats => self.stats(caller),
        }
    }

    /// The active account with `id`.
    pub fn account_of(&self, id: AccountId) -> Result<Account, ApiError> {
        let account = self.db.read(|read| read.account_by_id(id)).map_err(refusal)?;
        account.filter(|a| a.state == AccountState::Active).ok_or_else(|| {
            ApiError::new(ErrorCode::Forbidden, "this account may not log in any more")
        })
    }

    fn who_am_i(&self, caller: &Caller) -> Result<Reply, ApiError> {
        let account = caller.account().map(|account| self.account_view(account)).transpose()?;
        Ok(Reply::Me(MeView {
            account,
            actor: caller.actor(),
            lab: self.lab_view(caller),
            clock: self.clock_held(caller),
            exports_waiting: self.exports_waiting(caller)?,
            heads_late: self.heads_late(caller)?,
        }))
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Commits a change of `caller` and wakes the reconciler.
    fn commit<T>(
        &self,
        caller: &Caller,
        change: impl FnOnce(&mut Write<'_>) -> Result<T, StoreError>,
    ) -> Result<T, ApiError> {
        let result = self.db.write(&caller.actor(), self.now(), change).map_err(refusal)?;
        self.wake.wake();
        Ok(result)
    }
}

/// A refusal of the store, for the caller.
fn refusal(error: StoreError) -> ApiError {
    use StoreError::*;
    let code = match &error {
        NoAccount(_) | NoRequest(_) | NoEnvironment(_) | NoMachine(_) | NoSession(_)
        | NoView(_) | NoRecording(_) | NoSnapshot(..) | NoPublication(_) | NoCard(_)
        | NotOurCard(_) | NoExport(_) | NoInjection(_) => ErrorCode::NotFound,
        OtherEdition { .. } => ErrorCode::Forbidden,
        NameTaken(_)
        | OfOtherEdition(_)
        | KeyTaken { .. }
        | AccountRemoved(_)
        | CardInHand { .. }
        | CardNotThatFar { .. }
        | ChallengeUsed(_)
        | NotCertified(_)
        | Decided(_)
        | Ended(_)
        | Recorded(_)
        | NoPlace(_)
        | SnapshotNameTaken(_)
        | BeingTaken(_)
        | TooManySnapshots { .. }
        | TooManyFrozen(_)
        | Returning(_)
        | BeingInjected(_)
        | OtherGuest(_)
        | DayUnderWay { .. }
        | ExportDecided { .. }
        | NotKept(_)
        | BytesGo { .. }
        | NotThatFar { .. } => ErrorCode::Conflict,
        Full(_) | NoSlot(_) | NoAccountId | NoMachineId => ErrorCode::Capacity,
        Open { .. }
        | PoolMoved { .. }
        | Head(_)
        | Receipt { .. }
        | Migrate(_)
        | Sql(_)
        | Corrupt { .. } => ErrorCode::Internal,
    };
    let help = match &error {
        Full(_) | NoSlot(_) => {
            "choose another period, end an environment, or raise `capacity` in lab.yaml"
        }
        OtherEdition { edition: Some(_), .. } => {
            "choose a template of that edition: `nonstop template list` names each one's"
        }
        OtherEdition { edition: None, .. } => {
            "staff give the account its edition: `nonstop account edition NAME EDITION`"
        }
        OfOtherEdition(_) => "end it, and wait until its grace time is over",
        KeyTaken { .. } => "a key is one card's for ever: make another on the card",
        CardInHand { .. } => {
            "take another card, or end that one first: `nonstop card revoke CARD --reason WHY`"
        }
        CardNotThatFar { is: "active", .. } => "it needs nothing more",
        CardNotThatFar { .. } | ChallengeUsed(_) | NotCertified(_) => {
            "begin anew with the same command: nothing is lost"
        }
        NotOurCard(_) => "whoever made the card has its PUK",
        AccountRemoved(_) => "enter an account of another name",
        SnapshotNameTaken(_) => "choose another name, or delete that one",
        BeingTaken(_) => "wait until it is taken, or delete it",
        TooManySnapshots { .. } => "delete one that is not needed any more",
        TooManyFrozen(_) => "revert it, or return to an early snapshot, and begin from there",
        BeingInjected(_) => "wait until it is there, or take it back: `nonstop sample eject`",
        OtherGuest(_) => "it was reverted or went back meanwhile: ask again once it runs",
        Returning(_) => "wait until it runs",
        DayUnderWay { .. } => "it is taken by itself once that is over; see `nonstop data list`",
        Sql(_) => "look at the free space of the state folder and at the log of nonstopd",
        _ => "",
    };
    if code == ErrorCode::Internal {
        tracing::error!("{}", crate::status::chain(&error));
    }
    ApiError::new(code, crate::status::chain(&error)).help(help)
}

/// One line of text that a person typed, trimmed.
fn one_line(what: &str, text: &str, longest: usize) -> Result<String, ApiError> {
    let text = text.trim();
    let problem = if text.is_empty() {
        "must not be empty".to_string()
    } else if text.chars().count() > longest {
        format!("must have at most {longest} characters")
    } else if text.contains(unseen) {
        "must be one line of plain text".to_string()
    } else {
        return Ok(text.to_string());
    };
    Err(ApiError::new(ErrorCode::Invalid, format!("the {what} {problem}")))
}

/// Several lines that a person typed, trimmed.
fn some_lines(what: &str, text: &str, longest: usize) -> Result<String, ApiError> {
    let text = text.trim().replace("\r\n", "\n");
    let problem = if text.is_empty() {
        "must not be empty".to_string()
    } else if text.chars().count() > longest {
        format!("must have at most {longest} characters")
    } else if text.contains(|c: char| unseen(c) && c != '\n' && c != '\t') {
        "must be plain text, without characters that are not seen".to_string()
    } else {
        return Ok(text);
    };
    Err(ApiError::new(ErrorCode::Invalid, format!("the {what} {problem}")))
}

/// Characters that are not seen, or that turn the order of what is: a text that holds one does not
/// say what it seems to say.
fn unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}
