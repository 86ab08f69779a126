//! What callers see of the lab. Times are UTC instants in RFC 3339.

mod card;
mod data;
mod reach;
mod sessions;
mod transfers;

pub use card::{CardBegunView, CardCertifiedView, CardPukView, CardView};
pub use data::{
    BegunView, DataDomainView, DayView, InboxView, OfferView, OfferedDay, OfferedSamples,
    OfferedServer, ProgressView, PublicationView,
};
pub use reach::{
    BetweenView, ClosedCellsView, DriftView, OpenCellView, PassingView, ProbeView, ProbedView,
    ProofColour, ProofSummary, ProofView, ReachView,
};

pub use sessions::{
    DayOfLoginsView, FlowView, RefusedLoginsView, RefusedView, RepeatedView, SessionView,
};
pub use transfers::{
    DecisionView, EarlierView, ExportAbout, ExportView, HeadView, ImportState, ImportView,
    PreviewView,
};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use nonstop_model::{
    AccountName, AccountState, Bandwidth, EnvironmentId, MachineId, MachineRole, Period, Power,
    RdpPolicy, RequestId, RequestState, RevertPolicy, Role, SegmentKind, SnapshotId, SnapshotName,
    SnapshotState, TemplateName,
};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// The lab, as everybody may know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabView {
    /// Its name.
    pub name: String,
    /// Whether key files are allowed: then it is a demo, and every page says so.
    pub software_keys: bool,
    /// Its editions: the names of its data domains. For staff and admins; empty for others.
    #[serde(default)]
    pub editions: Vec<String>,
    /// How to reach the gateway.
    pub connect: ConnectView,
    /// The certificate of the lab's authority, which signs those of displays, in PEM.
    #[serde(default)]
    pub authority: String,
    /// `SHA256:…` over the authority's public key (SubjectPublicKeyInfo), as letters of PINs and
    /// nonstop-connect show it.
    #[serde(default)]
    pub authority_fingerprint: String,
}

/// How to reach the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectView {
    /// Name or address of the gateway.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The gateway's host key in OpenSSH's form, for `known_hosts`.
    pub host_key: String,
    /// Its fingerprint, `SHA256:…`.
    pub fingerprint: String,
    /// The host key that takes its place, while that is being changed: clients are to know both.
    #[serde(default)]
    pub next_host_key: Option<NextHostKeyView>,
    /// The portal's port on the account's address.
    pub portal_port: u16,
    /// Whether one logs in by a card alone; else key files are allowed, too.
    #[serde(default)]
    pub cards_alone: bool,
}

/// The gateway's host keys.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HostKeysView {
    /// The one that every client is shown.
    pub current: HostKeyView,
    /// The one that takes its place, while that is being changed.
    pub next: Option<NextHostKeyView>,
}

/// A host key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HostKeyView {
    /// In OpenSSH's form, for `known_hosts`.
    pub key: String,
    /// Its fingerprint, `SHA256:…`.
    pub fingerprint: String,
}

/// A host key that takes the place of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextHostKeyView {
    /// In OpenSSH's form, for `known_hosts`.
    pub key: String,
    /// Its fingerprint, `SHA256:…`.
    pub fingerprint: String,
    /// Since when clients are told of it.
    pub since: Timestamp,
}

/// A source address that was refused at the gateway before SSH in the last hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedSourceView {
    /// Where the packets came from, or pretended to.
    pub source: Ipv4Addr,
    /// Why: nobody is registered there, or it opened or held too many connections.
    pub why: SourceRefusal,
    /// How many packets were dropped since the first of them.
    pub packets: u64,
    /// The last of them.
    pub last_at: Timestamp,
    /// Accounts that are registered to come from there, also suspended ones; at most ten.
    pub accounts: Vec<AccountName>,
}

/// Why a source was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceRefusal {
    /// Nobody who may log in is registered to come from there.
    NotRegistered,
    /// It opened connections too fast, or held too many.
    TooMany,
}

/// Answer to `WhoAmI`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeView {
    /// The caller's account; None for an admin of the host.
    pub account: Option<AccountView>,
    /// The name that the trace gives the caller.
    pub actor: String,
    /// The lab.
    pub lab: LabView,
    /// For staff and admins, while the host's wall clock is not believed.
    #[serde(default)]
    pub clock: Option<ClockView>,
    /// For staff and admins, how many exports wait for a decision.
    #[serde(default)]
    pub exports_waiting: Option<u64>,
    /// For staff and admins, the second places that lack heads of the trace for two hours, and why.
    #[serde(default)]
    pub heads_late: Vec<String>,
}

/// The lab's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockView {
    /// The time that everything goes by.
    pub trusted: Timestamp,
    /// What the host's wall clock says.
    pub wall: Timestamp,
    /// By how many seconds the wall clock is ahead.
    pub ahead_seconds: i64,
    /// Why the wall clock is not believed, in a word: `stepped`, `before`, `long_after`.
    pub held: Option<String>,
    /// Since when.
    pub held_since: Option<Timestamp>,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountView {
    /// Login name.
    pub name: AccountName,
    /// Name of the person.
    pub full_name: String,
    /// Where the person works.
    pub affiliation: String,
    /// What it may do.
    pub role: Role,
    /// The data domain that it works on; None for staff.
    #[serde(default)]
    pub edition: Option<String>,
    /// Whether it may log in.
    pub state: AccountState,
    /// Networks the person comes from; empty, as in accounts of earlier versions, means any.
    pub sources: Vec<Ipv4Net>,
    /// Fingerprints of the keys that log in now; none for an account without a card.
    pub keys: Vec<String>,
    /// The uid of its tunnels.
    pub uid: u32,
    /// The address on which the portal knows it.
    pub address: Ipv4Addr,
    /// The limit of what it moves through the gateway that was set for it.
    #[serde(default)]
    pub bandwidth: Bandwidth,
    /// The limit that holds for it, in kbit/s each way; None for none.
    #[serde(default)]
    pub bandwidth_kbit: Option<u32>,
    /// When it was entered.
    pub added_at: Timestamp,
}

impl AccountView {
    /// Whether the person may come from anywhere.
    pub fn from_anywhere(&self) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|net| net.prefix_len() == 0)
    }
}

/// A template that can be applied for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateView {
    /// Its name.
    pub name: TemplateName,
    /// One line in English.
    pub title: String,
    /// One line in Japanese; empty where the admin wrote none.
    pub title_ja: String,
    /// The data domain that its machines reach; None for all editions.
    #[serde(default)]
    pub edition: Option<String>,
    /// Where the desktop comes from.
    pub rdp: RdpPolicy,
    /// Roles of its machines.
    pub machines: Vec<MachineRole>,
    /// Memory of its machines together in MiB.
    pub memory_mib: u64,
    /// What keeps it from being granted, such as an image that is not built.
    #[serde(default)]
    pub problem: Option<Problem>,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestView {
    /// Which.
    pub id: RequestId,
    /// Who applies.
    pub account: AccountName,
    /// For which template.
    pub template: TemplateName,
    /// From when until when.
    pub period: Period,
    /// What for.
    pub purpose: String,
    /// When it was made.
    pub made_at: Timestamp,
    /// What became of it.
    #[serde(flatten)]
    pub state: RequestState,
}

/// Something that keeps a thing from being as it should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong, with the cause.
    pub message: String,
    /// How an admin mends it; may be empty.
    pub help: String,
}

/// How far an environment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnvironmentStateView {
    /// Its period has not begun.
    Waiting,
    /// Being built, or something of it is missing.
    Preparing,
    /// Everything that is wanted runs and can be reached.
    Ready,
    /// It has ended; its disks are kept for the grace time.
    Ended,
    /// Nothing of it is left.
    Gone,
}

/// An environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentView {
    /// Which.
    pub id: EnvironmentId,
    /// Whose.
    pub account: AccountName,
    /// Its template.
    pub template: TemplateName,
    /// The template's line in English.
    pub title: String,
    /// The template's line in Japanese.
    pub title_ja: String,
    /// Its period.
    pub period: Period,
    /// How far it is.
    pub state: EnvironmentStateView,
    /// When its disks go; None before its end.
    pub destroy_at: Option<Timestamp>,
    /// Where its desktop comes from.
    pub rdp: RdpPolicy,
    /// Why the guest's own server is allowed, for staff; empty for others.
    #[serde(default)]
    pub rdp_reason: String,
    /// Whether its machines may be put back to clean.
    #[serde(default)]
    pub revert: RevertPolicy,
    /// How many snapshots of a machine may be kept.
    #[serde(default)]
    pub snapshots: u8,
    /// What keeps it from being ready.
    pub problem: Option<Problem>,
    /// Its machines.
    pub machines: Vec<MachineView>,
}

/// How far a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MachineStateView {
    /// Does not run.
    Off,
    /// Is being started.
    Starting,
    /// Runs; its desktop cannot be reached yet.
    Running,
    /// Runs, and what it offers can be reached.
    Ready,
    /// Is being stopped.
    Stopping,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineView {
    /// Which.
    pub id: MachineId,
    /// What it is for.
    pub role: MachineRole,
    /// Whether it should run.
    pub power: Power,
    /// How far it is.
    pub state: MachineStateView,
    /// Its address on the access segment; None for a machine that is not on it.
    pub address: Option<Ipv4Addr>,
    /// The segments that it has a card on, in order.
    #[serde(default)]
    pub networks: Vec<SegmentKind>,
    /// Servers and services that it may reach beside those of its segment.
    #[serde(default)]
    pub reach: Vec<String>,
    /// The folder in the guest into which samples are put.
    #[serde(default)]
    pub import: Option<String>,
    /// Whether its agent may put them there.
    #[serde(default)]
    pub agent: bool,
    /// Its generation; grows with each revert.
    pub generation: u32,
    /// Where its desktop comes from.
    #[serde(default)]
    pub rdp: RdpPolicy,
    /// Its desktop; None for a machine without.
    pub desktop: Option<DesktopView>,
}

/// Where a desktop is, and how to log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesktopView {
    /// Target of the tunnel.
    pub address: Ipv4Addr,
    /// TCP port.
    pub port: u16,
    /// SHA-256 of the certificate that its server shows, in hex; None for the guest's own server
    /// and while there is none.
    pub fingerprint: Option<String>,
    /// User of the guest.
    pub user: Option<String>,
    /// Password of this machine: shown to its owner and to admins.
    pub password: Option<String>,
}

/// What machines were at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotView {
    /// Which.
    pub id: SnapshotId,
    /// Of which environment.
    pub environment: EnvironmentId,
    /// Its name.
    pub name: SnapshotName,
    /// When it was asked for; it is what machines were within seconds of that.
    pub asked_at: Timestamp,
    /// How far it is.
    #[serde(flatten)]
    pub state: SnapshotState,
    /// Its machines.
    pub machines: Vec<SnapshotMachineView>,
    /// Bytes that it takes on the disk, memory included.
    pub bytes: u64,
}

/// What a snapshot has of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMachineView {
    /// Which.
    pub machine: MachineId,
    /// What it is for.
    pub role: MachineRole,
    /// Whether its memory is kept: it ran.
    pub memory: bool,
    /// Bytes that it takes on the disk: what was written since the snapshot or image before, and
    /// memory.
    pub bytes: u64,
}

/// A row of the trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceView {
    /// Its number; without gaps.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Who: `alice`, `admin:root`, `nonstopd`.
    pub actor: String,
    /// What: `request.approve`.
    pub action: String,
    /// To what: `r3`, `e2`, an account.
    pub subject: String,
    /// More, by action.
    pub detail: serde_json::Value,
    /// SHA-256 over this row and the hash before, in hex.
    pub hash: String,
}

/// What checking the hash chain found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceVerification {
    /// Rows checked.
    pub rows: u64,
    /// Hash of the last row.
    pub head: String,
    /// The first row that does not fit; None where all do.
    pub broken_at: Option<u64>,
}

/// What would change on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanView {
    /// One line a step, in order.
    pub steps: Vec<String>,
    /// What keeps steps from succeeding, by environment.
    pub problems: Vec<Problem>,
}

/// One thing that was checked on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckItem {
    /// What.
    pub what: String,
    /// Whether it is as it should be.
    pub good: bool,
    /// What was found.
    pub found: String,
    /// How to mend it.
    pub help: String,
}

/// Figures of the lab.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatsView {
    /// Active accounts.
    pub accounts: u64,
    /// Environments that are in their period.
    pub environments: u64,
    /// Machines that run.
    pub machines: u64,
    /// Open sessions.
    pub sessions: u64,
    /// Logins a day, the last thirty days.
    #[serde(default)]
    pub logins: Vec<DayOfLoginsView>,
    /// Logins that were refused in the last day.
    #[serde(default)]
    pub refused_logins: u64,
    /// Login names and addresses that were refused again and again in the last day.
    #[serde(default)]
    pub repeated_refusals: u64,
    /// Memory granted now, in MiB.
    pub memory_mib: u64,
    /// Memory that may be granted, in MiB.
    pub capacity_memory_mib: u64,
    /// Durable things found on the host that nobody wants.
    pub quarantined: u64,
    /// Rows of the trace.
    pub trace_rows: u64,
    /// The last proof of reach; None before the first.
    #[serde(default)]
    pub proof: Option<ProofSummary>,
}

/// A session at the display of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesktopSessionView {
    /// Which.
    pub id: u64,
    /// The environment of the machine.
    pub environment: EnvironmentId,
    /// Whose environment it is.
    pub owner: AccountName,
    /// Whose display.
    pub machine: MachineId,
    /// The machine's role.
    pub role: MachineRole,
    /// Who looks.
    pub account: AccountName,
    /// Whether it is the owner, who types too; else it only sees.
    pub types: bool,
    /// When it began.
    pub opened_at: Timestamp,
    /// When it ended; None while it is open.
    pub closed_at: Option<Timestamp>,
    /// Pictures and parts of one that were sent; counted at the end, or when the budget is used up.
    pub frames: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// Keys pressed.
    pub keys_in: u64,
    /// Whether it used up its bytes of an hour at least once, and was slowed down.
    pub over_budget: bool,
    /// What else is known of its end.
    pub note: String,
}

/// A permission to see the display of another person's machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewGrantView {
    /// Which.
    pub id: u64,
    /// The environment of the machine.
    pub environment: EnvironmentId,
    /// Whose environment it is.
    pub owner: AccountName,
    /// Whose display.
    pub machine: MachineId,
    /// The machine's role.
    pub role: MachineRole,
    /// Who may look.
    pub account: AccountName,
    /// Who permitted it.
    pub granted_by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub from: Timestamp,
    /// Until when at most.
    pub until: Timestamp,
    /// Whether it can be reached now.
    pub ready: bool,
    /// Where to look.
    pub desktop: DesktopView,
}

/// A recording of a display.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingView {
    /// Its number.
    pub id: u64,
    /// The environment of the machine.
    pub environment: EnvironmentId,
    /// Whose environment it is.
    pub owner: AccountName,
    /// Whose display.
    pub machine: MachineId,
    /// The machine's role.
    pub role: MachineRole,
    /// Who wanted it.
    pub wanted_by: String,
    /// Why.
    pub reason: String,
    /// Bytes that it takes so far.
    pub bytes: u64,
    /// Bytes that its file had when it ended and has no more.
    #[serde(default)]
    pub missing_bytes: u64,
    /// The most bytes that it takes.
    pub max_bytes: u64,
    /// When it began.
    pub begun_at: Timestamp,
    /// When it ended; None while it goes on.
    pub ended_at: Option<Timestamp>,
    /// Why it ended.
    pub note: String,
}
