//! What portal, CLI and login hook ask of `nonstopd`, and what it answers.
//!
//! One request a connection on a unix socket. Who asks is never said in a request: the daemon
//! takes it from the peer's credentials, and for the portal from the accepted connection of the
//! person, which the portal hands over with the request.

pub mod airlock;
mod client;
pub mod day;
pub mod fetch;
pub mod heads;
pub mod heard;
mod login;
mod request;
pub mod samples;
pub mod serving;
pub mod told;
mod views;
mod wire;

pub use client::{CallError, Client};
pub use login::{LoginEvent, LoginReply, LoginRequest};
pub use request::{ApiError, ErrorCode, PowerAction, Reply, Request, TraceWanted};
pub use views::{
    AccountView, BegunView, BetweenView, CardBegunView, CardCertifiedView, CardPukView, CardView,
    CheckItem, ClockView, ClosedCellsView, ConnectView, DataDomainView, DayOfLoginsView, DayView,
    DecisionView, DesktopSessionView, DesktopView, DriftView, EarlierView, EnvironmentStateView,
    EnvironmentView, ExportAbout, ExportView, FlowView, HeadView, HostKeyView, HostKeysView,
    ImportState, ImportView, InboxView, LabView, MachineStateView, MachineView, MeView,
    NextHostKeyView, OfferView, OfferedDay, OfferedSamples, OfferedServer, OpenCellView,
    PassingView, PlanView, PreviewView, ProbeView, ProbedView, Problem, ProgressView, ProofColour,
    ProofSummary, ProofView, PublicationView, ReachView, RecordingView, RefusedLoginsView,
    RefusedSourceView, RefusedView, RepeatedView, RequestView, SessionView, SnapshotMachineView,
    SnapshotView, SourceRefusal, StatsView, TemplateView, TraceVerification, TraceView,
    ViewGrantView,
};
pub use wire::{MAX_MESSAGE_BYTES, WireError, receive, receive_with_fd, send, send_with_fd};
