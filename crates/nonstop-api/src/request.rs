//! Requests, replies and refusals.

use crate::{
    samples::{InjectItem, InjectionView, SamplePage, SampleQuery},
    views::*,
};
use ipnet::Ipv4Net;
use jiff::{Timestamp, civil::Date};
use nonstop_model::{
    AccountName, Bandwidth, CardAct, CardGuid, CardId, EnvironmentId, ExportId, InjectBy,
    InjectionId, MachineRole, Period, PublicationId, RequestId, Role, SnapshotName, TemplateName,
};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// Everything that can be asked. Each says who may ask; nobody else is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Who am I, and what is this lab? Anybody.
    WhoAmI,
    /// On which addresses to listen. The portal, for itself.
    PortalAddresses,
    /// Enter an account. Staff, admins.
    AccountAdd {
        /// Login name.
        name: AccountName,
        /// Name of the person.
        full_name: String,
        /// Where the person works.
        affiliation: String,
        /// What it may do. Only admins make staff.
        role: Role,
        /// The data domain that a researcher works on; None where the lab has one alone.
        #[serde(default)]
        edition: Option<String>,
        /// Networks the person comes from; 0.0.0.0/0 is any.
        sources: Vec<Ipv4Net>,
        /// Public keys in OpenSSH's form, one line each. Only where `software_keys` is on.
        keys: Vec<String>,
    },
    /// All accounts. Staff, admins.
    AccountList,
    /// One account. The person, staff, admins.
    AccountShow {
        /// Whose.
        name: AccountName,
    },
    /// Stop an account from logging in, or let it again. Staff, admins.
    AccountSuspend {
        /// Whose.
        name: AccountName,
        /// True to suspend, false to make it active again.
        suspend: bool,
        /// Why.
        reason: String,
    },
    /// Let a researcher work on another data domain. Staff, admins.
    AccountEdition {
        /// Who.
        name: AccountName,
        /// Its name.
        edition: String,
        /// Why.
        reason: String,
    },
    /// Limit what an account moves through the gateway, or lift that. Staff.
    AccountBandwidth {
        /// Whose.
        name: AccountName,
        /// The limit, each way.
        bandwidth: Bandwidth,
        /// Why.
        reason: String,
    },
    /// Say anew which networks a person comes from. Staff, admins; of staff, admins.
    AccountSources {
        /// Who.
        name: AccountName,
        /// The networks; 0.0.0.0/0 is any.
        sources: Vec<Ipv4Net>,
        /// Why.
        reason: String,
    },
    /// End an account and everything of it. Admins.
    AccountRemove {
        /// Whose.
        name: AccountName,
    },
    /// Cards, newest first: one's own; staff and admins see all, or those of one account.
    CardList {
        /// Of this account alone.
        account: Option<AccountName>,
    },
    /// Begin a card at the reader, or go on with one that was left in the middle. Admins.
    CardBegin {
        /// For whom.
        account: AccountName,
        /// Whether the key is made on it, or there already.
        act: CardAct,
        /// What the CHUID of the card in the reader says; None if it has none.
        guid: Option<CardGuid>,
    },
    /// Show that the card has a key, and have its certificate made. It opens nothing yet. Admins.
    CardCertify {
        /// Which.
        card: CardId,
        /// SubjectPublicKeyInfo in DER, in base64: EC on P-256, or RSA of 2048 bits and more.
        public_key: String,
        /// What the key says to the 32 bytes of the challenge: ECDSA with SHA-256 in DER, or RSA
        /// PKCS #1 v1.5 with SHA-256; in base64.
        signature: String,
    },
    /// Let a card log in: everything is on it. Repeatable. Admins.
    CardActivate {
        /// Which.
        card: CardId,
    },
    /// Enter the public key of a card that nobody here has seen. Staff, admins; for staff, admins.
    CardAdd {
        /// Whose.
        account: AccountName,
        /// One line of OpenSSH.
        line: String,
    },
    /// End a card, or give up one that is being issued. Repeatable. Staff, admins.
    CardRevoke {
        /// Which.
        card: CardId,
        /// Why.
        reason: String,
    },
    /// The code that unblocks a card of this lab. Admins.
    CardUnblock {
        /// What its CHUID says.
        guid: CardGuid,
    },
    /// How to connect, as a file for nonstop-connect, signed by the lab's authority. The person,
    /// staff, admins.
    ProfileShow {
        /// Whose; None for one's own.
        account: Option<AccountName>,
    },
    /// Templates that can be applied for. Anybody.
    TemplateList,
    /// Apply for an environment. A researcher for themself; admins for anybody.
    RequestApply {
        /// For whom; None for oneself.
        account: Option<AccountName>,
        /// For which template.
        template: TemplateName,
        /// From when until when.
        period: Period,
        /// What for.
        purpose: String,
    },
    /// Requests: one's own; staff and admins see all.
    RequestList,
    /// Grant a request. Staff, admins; never one's own.
    RequestApprove {
        /// Which.
        id: RequestId,
    },
    /// Refuse a request. Staff, admins.
    RequestRefuse {
        /// Which.
        id: RequestId,
        /// Why, for the researcher to read.
        reason: String,
    },
    /// Environments: one's own; staff and admins see all.
    EnvironmentList {
        /// Also those that are gone.
        all: bool,
    },
    /// One environment. The owner, staff, admins.
    EnvironmentShow {
        /// Which.
        id: EnvironmentId,
    },
    /// Switch machines. The owner, staff, admins.
    EnvironmentPower {
        /// Which.
        id: EnvironmentId,
        /// The machine's role; None for all.
        role: Option<MachineRole>,
        /// What to do.
        action: PowerAction,
    },
    /// Put machines back to clean. The owner, staff, admins.
    EnvironmentRevert {
        /// Which.
        id: EnvironmentId,
        /// The machine's role; None for all.
        role: Option<MachineRole>,
    },
    /// Snapshots of an environment, the oldest first. The owner, staff, admins.
    SnapshotList {
        /// Of which.
        id: EnvironmentId,
    },
    /// Keep what machines are now, memory included, all at one time. The owner, staff, admins.
    SnapshotTake {
        /// Of which environment.
        id: EnvironmentId,
        /// What to call it.
        name: SnapshotName,
        /// The machine's role; None for all.
        role: Option<MachineRole>,
    },
    /// Make machines what they were; what they are now is lost. The owner, staff, admins.
    SnapshotReturn {
        /// In which environment.
        id: EnvironmentId,
        /// To which snapshot.
        name: SnapshotName,
        /// The machine's role; None for all that it has.
        role: Option<MachineRole>,
    },
    /// Keep a snapshot no longer. The owner, staff, admins.
    SnapshotDelete {
        /// In which environment.
        id: EnvironmentId,
        /// Which.
        name: SnapshotName,
    },
    /// End an environment now; its disks stay for the grace time. The owner, staff, admins.
    EnvironmentEnd {
        /// Which.
        id: EnvironmentId,
    },
    /// Move the end of its period. Staff, admins.
    EnvironmentExtend {
        /// Which.
        id: EnvironmentId,
        /// The new end.
        until: Timestamp,
    },
    /// Open sessions and recent ones: one's own; staff and admins see all.
    SessionList {
        /// Also closed ones.
        all: bool,
    },
    /// End a session. The person, staff, admins.
    SessionEnd {
        /// Which.
        id: u64,
    },
    /// Logins at the gateway that were refused in the last hours, and why. Staff, admins.
    RefusedLogins {
        /// How many hours.
        hours: u32,
    },
    /// Sessions at displays: of one's own environments; staff and admins see all.
    DesktopSessions {
        /// Of this environment alone.
        environment: Option<EnvironmentId>,
        /// Also closed ones.
        all: bool,
        /// Only those that used up their bytes of an hour, in the last day.
        over_budget: bool,
    },
    /// Permissions to see displays that hold: to or of oneself; staff and admins see all.
    ViewList,
    /// Let a person see a display, without typing. The owner for another; staff for themself;
    /// admins for anybody.
    ViewOpen {
        /// Which environment.
        id: EnvironmentId,
        /// The machine's role.
        role: MachineRole,
        /// Who may look.
        account: AccountName,
        /// Why; kept in the trace.
        reason: String,
        /// Until when, at most the end of the period.
        until: Timestamp,
    },
    /// End that. The owner, the one who looks, staff, admins.
    ViewEnd {
        /// Which.
        id: u64,
    },
    /// Record a display from now on: pictures and what is typed. Staff, admins.
    RecordingBegin {
        /// Which environment.
        id: EnvironmentId,
        /// The machine's role.
        role: MachineRole,
        /// Why; kept in the trace.
        reason: String,
    },
    /// End a recording; what it holds stays. Staff, admins.
    RecordingEnd {
        /// Which.
        id: u64,
    },
    /// Recordings, newest first. Staff, admins.
    RecordingList,
    /// Say why one wants to see a recording; one may, for an hour. Staff, admins.
    RecordingPlay {
        /// Which.
        id: u64,
        /// Why; kept in the trace.
        reason: String,
    },
    /// A recording, decrypted, from its beginning, as a pipe beside the answer. Whoever said why
    /// within the last hour.
    RecordingStream {
        /// Which.
        id: u64,
    },
    /// Data domains: what is published, on its way, and not fit. Staff, admins.
    DataList {
        /// Of this one alone.
        domain: Option<String>,
    },
    /// Publish what lies in inboxes now. Staff, admins.
    DataPublish {
        /// Of this data domain alone.
        domain: Option<String>,
        /// This file alone, by its name in the inbox.
        file: Option<String>,
    },
    /// Publications, by their numbers. Staff, admins.
    DataPublications {
        /// Which.
        ids: Vec<PublicationId>,
    },
    /// Load published days into PostgreSQL again. Staff, admins.
    DataLoad {
        /// Of this data domain alone.
        domain: Option<String>,
        /// These days; all that it lacks if there are none.
        days: Vec<Date>,
    },
    /// What the data domains offer that one's own environments reach. Anybody.
    DataOffers,
    /// Exports, newest first; one's own without names before they are released. Staff and admins see
    /// all.
    ExportList {
        /// Of this environment alone.
        environment: Option<EnvironmentId>,
        /// Only those that wait for a person, the oldest first.
        waiting: bool,
        /// Also those that have ended: blocked, refused, withdrawn, revoked, released long ago.
        all: bool,
    },
    /// One export. The owner, staff, admins.
    ExportShow {
        /// Which.
        id: ExportId,
    },
    /// The bytes of an export, as a file beside the answer; traced. The owner, once it is released;
    /// staff and admins.
    ExportFetch {
        /// Which.
        id: ExportId,
    },
    /// What it looks like, made anew from it. Staff, admins.
    ExportPreview {
        /// Which.
        id: ExportId,
    },
    /// Let a held export out. Staff, admins; never one's own.
    ExportRelease {
        /// Which.
        id: ExportId,
        /// Why, for the trace.
        reason: String,
    },
    /// Keep a held export in. Staff, admins; never one's own.
    ExportRefuse {
        /// Which.
        id: ExportId,
        /// Why, for the researcher to read.
        reason: String,
    },
    /// Take a released export back from where it is fetched. Staff, admins.
    ExportRevoke {
        /// Which.
        id: ExportId,
        /// Why, for the researcher to read.
        reason: String,
    },
    /// Say what an export is, for those who decide on it. The owner.
    ExportNote {
        /// Which.
        id: ExportId,
        /// At most 1,000 characters; empty for none.
        note: String,
    },
    /// The receipt of a release, which can be published and checked. The owner, staff, admins.
    ExportReceipt {
        /// Which.
        id: ExportId,
    },
    /// Keep the bytes of an export whatever `trace.keep_days` of lab.yaml says, or leave them to it
    /// again. Staff, admins.
    ExportKeep {
        /// Which.
        id: ExportId,
        /// True to keep them.
        keep: bool,
        /// Why.
        reason: String,
    },
    /// Imports, newest first: one's own; staff and admins see all.
    ImportList {
        /// Of this environment alone.
        environment: Option<EnvironmentId>,
        /// Also those that were removed.
        all: bool,
    },
    /// Samples of a data domain, the newest first. Researchers of those that environments of theirs
    /// are put before or reach; staff, admins.
    SampleList {
        /// Of which; None where the caller has one alone.
        #[serde(default)]
        domain: Option<String>,
        /// Which.
        #[serde(default)]
        query: SampleQuery,
    },
    /// Put samples before the guest of an environment that takes them. The owner, admins.
    SampleInject {
        /// Which environment.
        environment: EnvironmentId,
        /// Which samples.
        samples: Vec<InjectItem>,
        /// How.
        by: InjectBy,
        /// Whether each is wrapped in a zip archive with the password `infected`.
        #[serde(default)]
        zip: bool,
    },
    /// Take the disc out of its drive. Repeatable. The owner, admins.
    SampleEject {
        /// Of which environment.
        environment: EnvironmentId,
    },
    /// Injections, newest first: one's own; staff and admins see all.
    InjectionList {
        /// Of this environment alone.
        #[serde(default)]
        environment: Option<EnvironmentId>,
    },
    /// What is known of an injection and of what held while it was there, signed by the lab. The
    /// owner, staff, admins.
    InjectionRecord {
        /// Which.
        id: InjectionId,
    },
    /// Heads of the trace that were signed, newest first. Staff, admins.
    TraceHeads {
        /// At most so many.
        limit: u32,
    },
    /// The whole trace as a stream beside the answer, byte for byte, for who verifies it by themself:
    /// lines of JSON. Admins.
    TraceStream,
    /// The trace, newest first. Staff, admins.
    TraceList {
        /// At most so many.
        limit: u32,
        /// Which rows; all by default.
        #[serde(default)]
        wanted: TraceWanted,
    },
    /// Check the trace's hash chain. Staff, admins.
    TraceVerify,
    /// What would change on the host. Admins.
    Plan,
    /// Who may reach what, from what is wanted. Staff, admins.
    ReachShow,
    /// Prove now, from the running kernel, what may talk to what. The whole proof comes as a file of
    /// JSON beside the answer. Staff, admins.
    ReachProve,
    /// The last proof of that. Staff, admins.
    ReachProof,
    /// Begin to probe the isolation from canary machines. Staff, admins.
    ReachProbe,
    /// How far that is, and how the last one went, whose whole report comes as a file of JSON beside
    /// the answer. Staff, admins.
    ReachProbed,
    /// The gateway's host keys. Anybody.
    LabHostKeys,
    /// Make the next host key, and tell clients of it. Repeatable. Admins.
    LabHostKeyRotate,
    /// Put the next host key in the place of the current one. Admins.
    LabHostKeyFinish,
    /// Sources that the kernel refused at the gateway in the last hour. Staff, admins.
    SourcesRefused,
    /// What the lab's clock says beside the host's. Staff, admins.
    ClockShow,
    /// Believe the host's wall clock again after a step. Admins.
    ClockConfirm,
    /// What is missing on this host. Admins.
    Check,
    /// Figures. Staff, admins.
    Stats,
}

/// What to do with a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PowerAction {
    /// Start it.
    On,
    /// Ask the guest to power off; after 30 s it is stopped.
    Off,
    /// Stop it at once.
    Kill,
    /// Press its reset button.
    Reset,
}

impl std::str::FromStr for PowerAction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "on" => Ok(PowerAction::On),
            "off" => Ok(PowerAction::Off),
            "kill" => Ok(PowerAction::Kill),
            "reset" => Ok(PowerAction::Reset),
            _ => Err(format!("`{text}` is not a power action: use on, off, kill or reset")),
        }
    }
}

/// Which rows of the trace are wanted; a field that is None leaves all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceWanted {
    /// Of this actor, or about this account, environment, export or other thing.
    #[serde(default)]
    pub about: Option<String>,
    /// Of this action; `export.` of all that begin so.
    #[serde(default)]
    pub action: Option<String>,
    /// Not before.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// Before.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

/// What is answered to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", content = "value", rename_all = "snake_case")]
pub enum Reply {
    /// It is committed; the reconciler was woken.
    Done,
    /// To `WhoAmI`.
    Me(MeView),
    /// To `PortalAddresses`.
    Addresses(Vec<Ipv4Addr>),
    /// One account.
    Account(AccountView),
    /// Accounts by name.
    Accounts(Vec<AccountView>),
    /// Cards, newest first.
    Cards(Vec<CardView>),
    /// One card.
    Card(CardView),
    /// To `CardBegin`.
    CardBegun(CardBegunView),
    /// To `CardCertify`.
    CardCertified(CardCertifiedView),
    /// To `CardUnblock`.
    CardPuk(CardPukView),
    /// To `ProfileShow`: the file.
    Profile(String),
    /// Templates by name.
    Templates(Vec<TemplateView>),
    /// One request.
    Request(RequestView),
    /// Requests, newest first.
    Requests(Vec<RequestView>),
    /// One environment.
    Environment(EnvironmentView),
    /// Environments, newest first.
    Environments(Vec<EnvironmentView>),
    /// Snapshots, the oldest first.
    Snapshots(Vec<SnapshotView>),
    /// Sessions, newest first.
    Sessions(Vec<SessionView>),
    /// To `RefusedLogins`.
    RefusedLogins(RefusedLoginsView),
    /// Sessions at displays, newest first.
    DesktopSessions(Vec<DesktopSessionView>),
    /// Permissions to see displays.
    Views(Vec<ViewGrantView>),
    /// Recordings, newest first.
    Recordings(Vec<RecordingView>),
    /// One recording.
    Recording(RecordingView),
    /// Data domains by name.
    DataDomains(Vec<DataDomainView>),
    /// To `DataPublish`.
    Begun(BegunView),
    /// Publications.
    Publications(Vec<PublicationView>),
    /// To `DataOffers`.
    Offers(Vec<OfferView>),
    /// Exports.
    Exports(Vec<ExportView>),
    /// One export.
    Export(ExportView),
    /// To `ExportPreview`.
    Preview(PreviewView),
    /// To `ExportReceipt`: the file.
    Receipt(String),
    /// Imports, newest first.
    Imports(Vec<ImportView>),
    /// To `SampleList`.
    Samples(SamplePage),
    /// To `SampleInject`.
    Injection(InjectionView),
    /// To `InjectionList`.
    Injections(Vec<InjectionView>),
    /// To `InjectionRecord`: the file.
    Record(String),
    /// To `TraceHeads`.
    Heads(Vec<HeadView>),
    /// Rows of the trace, newest first.
    Trace(Vec<TraceView>),
    /// To `TraceVerify`.
    TraceVerified(TraceVerification),
    /// To `Plan`.
    Plan(PlanView),
    /// To `ReachShow`.
    Reach(Vec<ReachView>),
    /// To `ReachProve` and `ReachProof`; None before the first proof.
    Proof(Option<ProofView>),
    /// To `ReachProbe` and `ReachProbed`.
    Probe(ProbeView),
    /// To `LabHostKeys` and whatever changes them.
    HostKeys(HostKeysView),
    /// To `SourcesRefused`.
    SourcesRefused(Vec<RefusedSourceView>),
    /// To `ClockShow` and `ClockConfirm`.
    Clock(ClockView),
    /// To `Check`.
    Check(Vec<CheckItem>),
    /// To `Stats`.
    Stats(StatsView),
}

/// Why a request was not done. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What kind of refusal.
    pub code: ErrorCode,
    /// What is wrong, with what, in one sentence.
    pub message: String,
    /// How to mend it; may be empty.
    pub help: String,
}

impl ApiError {
    /// A refusal without help.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> ApiError {
        ApiError { code, message: message.into(), help: String::new() }
    }

    /// The same with a way to mend it.
    pub fn help(mut self, help: impl Into<String>) -> ApiError {
        self.help = help.into();
        self
    }
}

/// Kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request makes no sense as it is.
    Invalid,
    /// There is no such thing, or the caller may not know of it.
    NotFound,
    /// The caller may not do that.
    Forbidden,
    /// It was already done, or another thing stands in the way.
    Conflict,
    /// The lab has no room.
    Capacity,
    /// The database or the host failed; the log says more.
    Internal,
}
