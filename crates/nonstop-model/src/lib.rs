//! The words of SPEC.md 2 as types, and the rules that hold between them.
//!
//! Everything here is a value: no file, clock, socket or randomness is touched.
//! What enters from outside is parsed once, at the edge, into these types.

pub mod account;
pub mod bandwidth;
pub mod capacity;
pub mod card;
pub mod data_domain;
pub mod environment;
pub mod ids;
pub mod image;
pub mod injection;
pub mod lab;
pub mod limits;
pub mod network;
pub mod profile;
pub mod publication;
pub mod reach;
pub mod screening;
pub mod snapshot;
pub mod template;
pub mod text;
pub mod time;
pub mod trace;
pub mod transfer;
pub mod yaml;

pub use account::{Account, AccountName, AccountState, PublicKey, Role};
pub use bandwidth::Bandwidth;
pub use card::{Card, CardAct, CardGuid, CardKey, CardKind, CardState, KeyAlgorithm};
pub use data_domain::{DataDomain, RdbLimits, Resource, Server};
pub use environment::{
    Environment, EnvironmentState, Machine, Password, Power, Request, RequestState,
};
pub use ids::{
    AccountId, CardId, EnvironmentId, ExportId, ImportId, InjectionId, MachineId, PublicationId,
    RequestId, SnapshotId,
};
pub use image::{ImageManifest, ImageName};
pub use injection::{Disc, InjectBy, InjectedItem, Injection, InjectionState};
pub use lab::Lab;
pub use limits::Limits;
pub use network::{Mac, Segment, SegmentKind, SegmentName, Slot};
pub use profile::MachineProfile;
pub use publication::{CaptureFormat, Content, Holds, Packets, Publication, PublicationState};
pub use reach::{ConnectionLimit, NetworkLimits, Protocol, ReachTarget};
pub use snapshot::{Frozen, Memory, Snapshot, SnapshotName, SnapshotState, SnapshottedMachine};
pub use template::{EnvironmentTemplate, MachineRole, RdpPolicy, RevertPolicy, TemplateName};
pub use time::Period;
pub use transfer::{BlobId, EntryName, EntryPath, ExportState, PathError, Root};
