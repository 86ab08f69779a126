//! What can go wrong with a card: what, where, and how to mend it.

use crate::apdu::LinkError;
use thiserror::Error;

/// Something is wrong with a card, a reader, or what stands between.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CardError {
    /// pcscd does not answer.
    #[error("pcscd does not answer{}", at(.doing))]
    NoService {
        /// What was being done; empty before anything was.
        doing: &'static str,
    },
    /// There is no reader.
    #[error("there is no card reader")]
    NoReader,
    /// There is no reader of that name.
    #[error("there is no card reader `{reader}`; there is {known}")]
    NotThisReader {
        /// The name that was given.
        reader: String,
        /// The names that there are.
        known: String,
    },
    /// No reader has a card in it.
    #[error("there is no card in {reader}")]
    NoCard {
        /// Where was looked.
        reader: String,
    },
    /// Several readers have a card in them.
    #[error("there are cards in several readers: {readers}")]
    TwoCards {
        /// Their names.
        readers: String,
    },
    /// Another program has the card for itself.
    #[error("another program uses the card in {reader}")]
    InUse {
        /// Where.
        reader: String,
    },
    /// The card gives no answer to reset.
    #[error("the card in {reader} gives no sign of life")]
    Mute {
        /// Where.
        reader: String,
    },
    /// The card knows no PIV application.
    #[error("the card in {reader} is not a PIV card")]
    NotPiv {
        /// Where.
        reader: String,
    },
    /// The card was pulled out.
    #[error("the card was pulled out of {reader}{}", at(.doing))]
    PulledOut {
        /// Where.
        reader: String,
        /// What was being done.
        doing: &'static str,
    },
    /// The reader was unplugged.
    #[error("the reader {reader} vanished{}", at(.doing))]
    ReaderVanished {
        /// Which.
        reader: String,
        /// What was being done.
        doing: &'static str,
    },
    /// The card gave no answer, though it is there.
    #[error("the card in {reader} gave no answer{}: {said}", at(.doing))]
    NoAnswer {
        /// Where.
        reader: String,
        /// What was being done.
        doing: &'static str,
        /// What PC/SC says.
        said: String,
    },
    /// Not the card's PIN.
    #[error("that is not the card's PIN; it has {} left", tries(*.left))]
    WrongPin {
        /// How many more it takes, where it says so.
        left: Option<u8>,
    },
    /// The PIN is blocked.
    #[error("the card's PIN is blocked")]
    PinBlocked,
    /// Not the card's PUK.
    #[error("the card has a PUK that this lab did not give it; it has {} left", tries(*.left))]
    WrongPuk {
        /// How many more it takes, where it says so.
        left: Option<u8>,
    },
    /// The PUK is blocked.
    #[error("the card's PUK is blocked")]
    PukBlocked,
    /// Neither the lab's management key nor the factory's is the card's.
    #[error(
        "the card in {reader} has a management key that is neither the factory's nor this lab's"
    )]
    ManagementUnknown {
        /// Where.
        reader: String,
    },
    /// The card makes no such key.
    #[error("the card cannot make a key of the kind `{algorithm}` in slot 9A")]
    NoSuchKey {
        /// Of what kind.
        algorithm: String,
    },
    /// Slot 9A has no certificate, or one of a kind of key that is not taken.
    #[error("the card has no certificate of a P-256 or RSA-2048 key in slot 9A")]
    NoCertificate,
    /// The card says no.
    #[error("the card refused{}: status {status}", at(.doing))]
    Refused {
        /// What was being done.
        doing: &'static str,
        /// What the card said.
        status: String,
    },
    /// The card says what makes no sense.
    #[error("the card answered what makes no sense{}: {what}", at(.doing))]
    Nonsense {
        /// What was being done.
        doing: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// PC/SC says something that nobody expects.
    #[error("PC/SC failed{}: {said}", at(.doing))]
    Pcsc {
        /// What was being done.
        doing: &'static str,
        /// What it says.
        said: String,
    },
    /// The kernel gives no random bytes.
    #[error("the kernel gives no random bytes")]
    NoRandom,
}

impl CardError {
    /// How to mend it.
    pub fn help(&self) -> &'static str {
        match self {
            CardError::NoService { .. } => {
                "start it (`systemctl start pcscd`; package pcscd), then run the same command again"
            }
            CardError::NoReader => {
                "plug one in; `nonstop card readers` shows those that pcscd knows (package libccid \
                 for most of them)"
            }
            CardError::NotThisReader { .. } => {
                "give one of these names, or a part of one, with `--reader`"
            }
            CardError::NoCard { .. } => "put the card in, then run the same command again",
            CardError::TwoCards { .. } => {
                "name the reader with `--reader NAME`, or take the other cards out"
            }
            CardError::InUse { .. } => {
                "end it (a browser, gpg's scdaemon, ssh-agent with a card), then run the same \
                 command again"
            }
            CardError::Mute { .. } => "turn it round, clean its contacts, or take another card",
            CardError::NotPiv { .. } => {
                "take a card with the PIV application (NIST SP 800-73), switched on"
            }
            CardError::PulledOut { .. } => {
                "the account is as it was: put the card in and run the same command again"
            }
            CardError::ReaderVanished { .. } => {
                "the account is as it was: plug the reader in and run the same command again"
            }
            CardError::NoAnswer { .. } => {
                "end other programs that use the card, then run the same command again; the account \
                 is as it was"
            }
            CardError::WrongPin { .. } => {
                "run it again with the right one; `nonstop card unblock` sets a new PIN of a card \
                 that this lab issued"
            }
            CardError::PinBlocked => {
                "`nonstop card unblock` sets a new PIN of a card that this lab issued; others by \
                 their own PUK"
            }
            CardError::WrongPuk { .. }
            | CardError::PukBlocked
            | CardError::ManagementUnknown { .. } => {
                "reset its PIV application with its maker's tool (all that is on it is lost), or \
                 take another card; a card with a key of its own is taken by `nonstop card enrol`"
            }
            CardError::NoSuchKey { .. } => "take the other kind: `--algorithm ec` or `rsa`",
            CardError::NoCertificate => {
                "put one into slot 9A with its maker's tool, or let the lab make the key: `nonstop \
                 card issue`"
            }
            CardError::Refused { .. } | CardError::Nonsense { .. } | CardError::Pcsc { .. } => {
                "run the same command again; if it stays, try another card and another reader"
            }
            CardError::NoRandom => "wait until the host has started up",
        }
    }

    pub(crate) fn broken_link(error: LinkError, reader: &str, doing: &'static str) -> CardError {
        let reader = reader.to_owned();
        match error {
            LinkError::PulledOut => CardError::PulledOut { reader, doing },
            LinkError::ReaderVanished => CardError::ReaderVanished { reader, doing },
            LinkError::NoService => CardError::NoService { doing },
            LinkError::NoAnswer(said) => CardError::NoAnswer { reader, doing, said },
        }
    }
}

fn at(doing: &str) -> String {
    if doing.is_empty() { String::new() } else { format!(" while {doing}") }
}

fn tries(left: Option<u8>) -> String {
    match left {
        None => "it does not say how many tries".into(),
        Some(1) => "one try".into(),
        Some(left) => format!("{left} tries"),
    }
}
