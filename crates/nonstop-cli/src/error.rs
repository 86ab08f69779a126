//! What is said when something does not work: what, where, and how to mend it.

use miette::Diagnostic;
use nonstop_api::{ApiError, CallError};
use std::path::PathBuf;

/// A command that failed.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum CliError {
    /// The daemon said no.
    #[error("{message}")]
    Refused {
        message: String,
        #[help]
        help: Option<String>,
    },
    /// The daemon is not there.
    #[error("nonstopd does not answer at {path}")]
    #[diagnostic(help(
        "start it (`systemctl start nonstopd`) and look at its log; name another lab with `--lab FILE`; the socket admits root alone"
    ))]
    NoDaemon { path: PathBuf, source: std::io::Error },
    /// The conversation broke.
    #[error("the conversation with nonstopd broke")]
    Broke(#[source] nonstop_api::WireError),
    /// The conversation broke when the daemon was to let a card in.
    #[error("nonstopd did not say whether it has let {card} in; the letter with its PIN is kept")]
    #[diagnostic(help(
        "look with `nonstop card list`: once it is active the letter holds; if it is still issuing, \
         run the same command again"
    ))]
    Unsure { card: nonstop_model::CardId },
    /// The daemon answered something that was not asked for.
    #[error("nonstopd answered something else (are both sides of one version?)")]
    Otherwise,
    /// A file cannot be written.
    #[error("write {path}")]
    Write { path: PathBuf, source: std::io::Error },
    /// One of our programs cannot be run.
    #[error("run {program}")]
    #[diagnostic(help("`programs` of lab.yaml names the folder of our programs"))]
    Run { program: PathBuf, source: std::io::Error },
    /// A recording cannot be read on.
    #[error("read recording {id}")]
    Recording { id: u64, source: nonstop_display::recording::RecordingError },
    /// A recording is not whole.
    #[error("recording {id} is not whole: {parts} parts and {bytes} bytes at its end are missing")]
    Damaged { id: u64, parts: u64, bytes: u64 },
    /// What is wanted is not known here.
    #[error("read what the lab wants from {path}")]
    #[diagnostic(help(
        "the daemon writes it after its first pass, and it is gone after the host's restart: start \
         the daemon once (`systemctl start nonstopd`); only root may read it"
    ))]
    NotWanted { path: PathBuf, source: std::io::Error },
    /// The kernel cannot be read.
    #[error("read rules, bridges and routes from the kernel")]
    #[diagnostic(help("it takes root, and the programs `nft`, `ip`, `tc` and `grep`"))]
    Kernel(#[source] nonstop_reach::observe::ObserveError),
    /// A file cannot be brought into an inbox.
    #[error("bring {path} into {inbox}")]
    #[diagnostic(help("{help}"))]
    Bring { path: PathBuf, inbox: PathBuf, source: std::io::Error, help: String },
    /// A copied database cannot be read.
    #[error("read the trace from {path}")]
    #[diagnostic(help(
        "copy `nonstop.db` of the lab's state folder, with `nonstop.db-wal` beside it, or a backup of it"
    ))]
    Copy { path: PathBuf, source: nonstop_trace::CopyError },
    /// A file cannot be read.
    #[error("read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    /// An image cannot be built or is not whole.
    #[error("image {name}")]
    Image { name: String, source: nonstop_image::ImageError },
    /// The images cannot be listed.
    #[error("look at the images")]
    Images(#[source] nonstop_image::ImageError),
    /// The lab file.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Lab(#[from] nonstop_model::lab::LabError),
    /// A template file.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Config(#[from] nonstop_model::yaml::ConfigError),
    /// Something was looked at and is not good; it was said on stdout.
    #[error("{0}")]
    NotGood(String),
    /// The words are off.
    #[error("{0}")]
    Misused(String),
}

impl From<CallError> for CliError {
    fn from(error: CallError) -> CliError {
        match error {
            CallError::Connect { path, source } => CliError::NoDaemon { path, source },
            CallError::Wire(e) => CliError::Broke(e),
            CallError::NoFile => CliError::Otherwise,
            CallError::Refused(ApiError { message, help, .. }) => {
                CliError::Refused { message, help: (!help.is_empty()).then_some(help) }
            }
        }
    }
}

impl From<nonstop_card::CardError> for CliError {
    fn from(error: nonstop_card::CardError) -> CliError {
        CliError::Refused { message: error.to_string(), help: Some(error.help().into()) }
    }
}
