//! What can go wrong with the database.

use nonstop_model::{
    AccountName, CardGuid, CardId, EnvironmentId, ExportId, ExportState, MachineId, MachineRole,
    PublicationId, RequestId, SnapshotName, TemplateName, capacity::Full,
};
use std::path::PathBuf;

/// A transaction that was not done; nothing of it remains.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened.
    #[error("open the database {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The schema cannot be brought to this version.
    #[error("migrate the database")]
    Migrate(#[from] rusqlite_migration::Error),
    /// SQLite refused: a full disk, a broken file, or a broken invariant.
    #[error("the database refused")]
    Sql(#[from] rusqlite::Error),
    /// A row holds what this version cannot read.
    #[error("the database holds {what} that cannot be read: {why}")]
    Corrupt {
        /// What was read.
        what: &'static str,
        /// Why it cannot be.
        why: String,
    },
    /// A head of the trace was not signed.
    #[error("sign a head of the trace")]
    Head(#[from] nonstop_trace::HeadError),
    /// A release cannot be said in a receipt.
    #[error("write the receipt of {export}")]
    Receipt {
        /// Of which.
        export: nonstop_model::ExportId,
        /// Why not.
        source: nonstop_trace::ReceiptError,
    },
    /// There is no such injection.
    #[error("there is no injection {0}")]
    NoInjection(nonstop_model::InjectionId),
    /// Samples go to one guest one after the other.
    #[error("{0} is just being put before this guest")]
    BeingInjected(nonstop_model::InjectionId),
    /// Samples go before the guest that they were asked for, and before no other.
    #[error("the guest of {0} is another by now")]
    OtherGuest(MachineId),
    /// There is no such account.
    #[error("there is no account `{0}`")]
    NoAccount(AccountName),
    /// The name is taken, perhaps by a removed account.
    #[error("the name `{0}` is taken; a name is never given twice")]
    NameTaken(AccountName),
    /// What an account had is gone with it.
    #[error("the account `{0}` was removed")]
    AccountRemoved(AccountName),
    /// There is no such card.
    #[error("there is no card {0}")]
    NoCard(CardId),
    /// A card in a reader is one card of the lab's at a time.
    #[error("the card in the reader is {id} of `{account}`, which is {is}")]
    CardInHand {
        /// Which.
        id: CardId,
        /// Whose.
        account: AccountName,
        /// How far it is.
        is: &'static str,
    },
    /// A card goes one way.
    #[error("card {id} is {is}: it cannot be {to}")]
    CardNotThatFar {
        /// Which.
        id: CardId,
        /// How far it is.
        is: &'static str,
        /// What was wanted.
        to: &'static str,
    },
    /// A challenge is good for one signature.
    #[error("card {0} was asked to sign something else meanwhile, or has signed")]
    ChallengeUsed(CardId),
    /// A card becomes active with the key that it has shown to have.
    #[error("card {0} has not shown its key yet")]
    NotCertified(CardId),
    /// Secrets derive for cards that were issued here.
    #[error("no card that this lab has issued is called {0}")]
    NotOurCard(CardGuid),
    /// A key is one card's, for ever.
    #[error("the key {fingerprint} is or was another card's")]
    KeyTaken {
        /// Which key.
        fingerprint: String,
    },
    /// Data of one edition are for its own accounts.
    #[error("`{account}` is of {}, and the template `{template}` of `{domain}`", edition_of(.edition))]
    OtherEdition {
        /// Whose environment it would be.
        account: AccountName,
        /// The account's.
        edition: Option<String>,
        /// The template.
        template: TemplateName,
        /// The template's.
        domain: String,
    },
    /// An account changes to another edition with nothing of the earlier one.
    #[error("environment {0} is of another edition and not gone yet")]
    OfOtherEdition(EnvironmentId),
    /// There is no such request.
    #[error("there is no request {0}")]
    NoRequest(RequestId),
    /// A request is decided once.
    #[error("request {0} is already decided")]
    Decided(RequestId),
    /// There is no such environment.
    #[error("there is no environment {0}")]
    NoEnvironment(EnvironmentId),
    /// What has ended cannot be changed.
    #[error("environment {0} has ended")]
    Ended(EnvironmentId),
    /// It has no such machine.
    #[error("environment {0} has no such machine")]
    NoMachine(EnvironmentId),
    /// There is no such session.
    #[error("there is no session {0}")]
    NoSession(u64),
    /// There is no such permission to see a display.
    #[error("there is no view {0}")]
    NoView(u64),
    /// There is no such recording.
    #[error("there is no recording {0}")]
    NoRecording(u64),
    /// A display has one recording at a time.
    #[error("the display of {0} is being recorded already")]
    Recorded(MachineId),
    /// All places at a display are taken.
    #[error("no more can look at the display of {0} at once")]
    NoPlace(MachineId),
    /// There is no such snapshot.
    #[error("environment {0} has no snapshot `{1}`")]
    NoSnapshot(EnvironmentId, SnapshotName),
    /// A name is given once at a time.
    #[error("there is a snapshot `{0}` already")]
    SnapshotNameTaken(SnapshotName),
    /// Machines wait while a snapshot is taken.
    #[error("the snapshot `{0}` is being taken")]
    BeingTaken(SnapshotName),
    /// The template allows no more.
    #[error("the {role} has {at_most} snapshots, and no more are kept of one machine here")]
    TooManySnapshots {
        /// Which machine.
        role: MachineRole,
        /// How many.
        at_most: u8,
    },
    /// What it was made from was made from too much.
    #[error("the {0} stands on too many earlier states, of deleted snapshots too")]
    TooManyFrozen(MachineRole),
    /// It is on its way back to an earlier one.
    #[error("the {0} is just going back to a snapshot")]
    Returning(MachineRole),
    /// There is no such publication.
    #[error("there is no publication {0}")]
    NoPublication(PublicationId),
    /// The files of a day are published one after the other.
    #[error("another file for that day, `{file}`, is being published ({id})")]
    DayUnderWay {
        /// Which publication.
        id: PublicationId,
        /// Its file.
        file: String,
    },
    /// A publication goes one way.
    #[error("publication {id} is {is}: it cannot be {to}")]
    NotThatFar {
        /// Which.
        id: PublicationId,
        /// How far it is.
        is: &'static str,
        /// What was wanted.
        to: &'static str,
    },
    /// There is no such export.
    #[error("there is no export {0}")]
    NoExport(ExportId),
    /// What leaves must lie in the trace store.
    #[error("export {0} cannot be released: another file lies in the trace store under its hash")]
    NotKept(ExportId),
    /// What the policy lets go does not come back.
    #[error(
        "export {id} cannot be kept: since {at} its bytes are deleted by the lab's policy; the row \
         `trace.delete` says by which rule"
    )]
    BytesGo {
        /// Which.
        id: ExportId,
        /// When that was decided.
        at: jiff::Timestamp,
    },
    /// An export is decided once.
    #[error("export {id} cannot be {wanted}: it is {state}{} since {at}", by_whom(.by))]
    ExportDecided {
        /// Which.
        id: ExportId,
        /// How far it is.
        state: ExportState,
        /// What was wanted.
        wanted: ExportState,
        /// Who decided last, if anybody did.
        by: Option<String>,
        /// When its state came to be.
        at: jiff::Timestamp,
    },
    /// The lab has no room.
    #[error(transparent)]
    Full(#[from] Full),
    /// The pool has no free segment.
    #[error("all {0} segments of the lab's pool are in use")]
    NoSlot(u32),
    /// All uids and addresses were given out.
    #[error("the lab has given out all its accounts")]
    NoAccountId,
    /// The pool of lab.yaml is another than the one that living segments are cut from.
    #[error(
        "`network.pool` of lab.yaml is {wanted}, but environments that are not gone have segments of {held}: put {held} back, or end them first"
    )]
    PoolMoved {
        /// What the database holds.
        held: String,
        /// What lab.yaml says.
        wanted: String,
    },
    /// All uids of machines were given out.
    #[error("the lab has given out the uids of all its machines")]
    NoMachineId,
}

fn by_whom(by: &Option<String>) -> String {
    by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default()
}

fn edition_of(edition: &Option<String>) -> String {
    match edition {
        Some(edition) => format!("the edition `{edition}`"),
        None => "no edition".into(),
    }
}
