//! The readers of this machine, over pcscd, and the card in one of them.

use crate::{
    apdu::{Link, LinkError},
    chuid::Guid,
    error::CardError,
    piv::Piv,
};
use pcsc::{Context, Disposition, Error, Protocols, ReaderState, Scope, ShareMode, State};
use std::{
    ffi::{CStr, CString},
    fmt, thread,
    time::{Duration, Instant},
};

/// What is in a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// No card.
    Empty,
    /// A card that gives no answer to reset.
    Mute,
    /// A card that another program has for itself.
    InUse,
    /// A card without a PIV application.
    NotPiv,
    /// A PIV card.
    Piv {
        /// What its CHUID says.
        guid: Option<Guid>,
        /// Whether there is a certificate in slot 9A.
        certificate: bool,
    },
    /// A card with which something else is wrong.
    Broken(CardError),
}

/// A reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// Its name, as pcscd gives it.
    pub name: String,
    /// What is in it.
    pub content: Content,
}

/// The readers of this machine.
pub struct Desk {
    context: Context,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Desk")
    }
}

impl Desk {
    /// Speaks with pcscd.
    ///
    /// Errors: `NoService`.
    pub fn open() -> Result<Desk, CardError> {
        let context = Context::establish(Scope::User).map_err(failed)?;
        Ok(Desk { context })
    }

    /// All readers with what is in them.
    ///
    /// Errors: `NoReader`, or pcscd is gone.
    pub fn readers(&self) -> Result<Vec<Reader>, CardError> {
        let look = |name: CString| {
            let shown = shown(&name);
            let content = self.content(&name, &shown)?;
            Ok(Reader { name: shown, content })
        };
        self.names()?.into_iter().map(look).collect()
    }

    /// Lets `f` speak with the PIV card in `reader` (a name or a part of one), or in the only
    /// reader that has a card. No other program comes between; afterwards the card forgets the PIN.
    ///
    /// Errors: no reader, no card, two cards, not a PIV card; what `f` says.
    pub fn with_card<T, E: From<CardError>>(
        &self,
        reader: Option<&str>,
        f: impl FnOnce(&mut Piv<PcscLink<'_>>) -> Result<T, E>,
    ) -> Result<T, E> {
        let name = self.choose(reader)?;
        let reader = shown(&name);
        let mut card = self.connect(&name, &reader)?;
        let transaction = card.transaction().map_err(|e| refused(e, &reader))?;
        let link = PcscLink { card: Some(transaction), name: &name };
        f(&mut Piv::select(link, &reader)?)
    }

    fn names(&self) -> Result<Vec<CString>, CardError> {
        let names = match self.context.list_readers_owned() {
            Err(Error::NoReadersAvailable) => Vec::new(),
            other => other.map_err(failed)?,
        };
        if names.is_empty() { Err(CardError::NoReader) } else { Ok(names) }
    }

    fn state(&self, name: &CStr) -> Result<State, Error> {
        let mut states = [ReaderState::new(name, State::UNAWARE)];
        self.context.get_status_change(Duration::ZERO, &mut states)?;
        Ok(states[0].event_state())
    }

    fn choose(&self, reader: Option<&str>) -> Result<CString, CardError> {
        let names = self.names()?;
        let all = |names: &[CString]| {
            names.iter().map(|n| format!("`{}`", shown(n))).collect::<Vec<_>>().join(", ")
        };
        if let Some(wanted) = reader {
            let exact = names.iter().position(|name| shown(name) == wanted);
            let part: Vec<usize> =
                (0..names.len()).filter(|n| shown(&names[*n]).contains(wanted)).collect();
            let one = exact.or(match part.as_slice() {
                [one] => Some(*one),
                _ => None,
            });
            let Some(name) = one.map(|n| names[n].clone()) else {
                let reader = wanted.into();
                return Err(CardError::NotThisReader { reader, known: all(&names) });
            };
            return match self.state(&name) {
                Ok(state) if state.contains(State::PRESENT) => Ok(name),
                Ok(_) => Err(CardError::NoCard { reader: shown(&name) }),
                Err(e) => Err(refused(e, &shown(&name))),
            };
        }
        let mut with_card = Vec::new();
        for name in &names {
            if self.state(name).map_err(failed)?.contains(State::PRESENT) {
                with_card.push(name.clone());
            }
        }
        match with_card.len() {
            0 => Err(CardError::NoCard { reader: all(&names) }),
            1 => Ok(with_card.remove(0)),
            _ => Err(CardError::TwoCards { readers: all(&with_card) }),
        }
    }

    fn connect(&self, name: &CStr, reader: &str) -> Result<pcsc::Card, CardError> {
        self.context
            .connect(name, ShareMode::Shared, Protocols::ANY)
            .map_err(|e| refused(e, reader))
    }

    fn content(&self, name: &CStr, reader: &str) -> Result<Content, CardError> {
        let state = self.state(name).map_err(failed)?;
        if !state.contains(State::PRESENT) {
            return Ok(Content::Empty);
        }
        if state.contains(State::MUTE) {
            return Ok(Content::Mute);
        }
        if state.contains(State::EXCLUSIVE) {
            return Ok(Content::InUse);
        }
        let looked = self.with_card(Some(reader), |piv| {
            let guid = piv.guid()?;
            Ok(Content::Piv { guid, certificate: piv.certificate()?.is_some() })
        });
        Ok(match looked {
            Ok(content) => content,
            Err(CardError::NotPiv { .. }) => Content::NotPiv,
            Err(CardError::Mute { .. }) => Content::Mute,
            Err(CardError::InUse { .. }) => Content::InUse,
            Err(CardError::NoCard { .. } | CardError::PulledOut { .. }) => Content::Empty,
            Err(e) => Content::Broken(e),
        })
    }
}

/// A card held against other programs.
pub struct PcscLink<'a> {
    card: Option<pcsc::Transaction<'a>>,
    name: &'a CStr,
}

impl fmt::Debug for PcscLink<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PcscLink").field(&self.name).finish()
    }
}

impl Link for PcscLink<'_> {
    fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, LinkError> {
        let mut buffer = [0; pcsc::MAX_BUFFER_SIZE];
        let card = self.card.as_ref().expect("held until it is dropped");
        match card.transmit(command, &mut buffer) {
            // A driver may take a card that went for one that said nothing.
            Ok(answer) if answer.len() < 2 => Err(diagnose(self.name, Error::CommError)),
            Ok(answer) => Ok(answer.to_vec()),
            Err(e) => Err(diagnose(self.name, e)),
        }
    }
}

impl Drop for PcscLink<'_> {
    fn drop(&mut self) {
        // A reset takes back what the PIN had opened.
        if let Some(card) = self.card.take() {
            let _gone_already = card.end(Disposition::ResetCard);
        }
    }
}

/// How long pcscd may take to see that a card is out: it looks every 0.4 s.
const UNTIL_SEEN: Duration = Duration::from_millis(1500);

/// How long pcscd may take to be there again after it ended, where something starts it again.
const UNTIL_STARTED: Duration = Duration::from_millis(300);

/// Looks what has happened: PC/SC's own codes for a card that is pulled out in the middle of a
/// command differ from driver to driver.
fn diagnose(name: &CStr, error: Error) -> LinkError {
    let start = Instant::now();
    loop {
        // A connection of its own: ours may have ended with pcscd.
        let seen = Context::establish(Scope::User).and_then(|context| {
            let mut states = [ReaderState::new(name, State::UNAWARE)];
            context.get_status_change(Duration::ZERO, &mut states).map(|()| states[0].event_state())
        });
        match seen {
            Err(Error::NoService | Error::ServiceStopped) if start.elapsed() > UNTIL_STARTED => {
                return LinkError::NoService;
            }
            Err(Error::NoReadersAvailable | Error::UnknownReader | Error::ReaderUnavailable) => {
                return LinkError::ReaderVanished;
            }
            Ok(state) if state.intersects(State::UNKNOWN | State::UNAVAILABLE | State::IGNORE) => {
                return LinkError::ReaderVanished;
            }
            Ok(state) if !state.contains(State::PRESENT) => return LinkError::PulledOut,
            Ok(_) | Err(_) if start.elapsed() > UNTIL_SEEN => {
                return match error {
                    Error::RemovedCard | Error::NoSmartcard => LinkError::PulledOut,
                    Error::NoService | Error::ServiceStopped | Error::InvalidHandle => {
                        LinkError::NoService
                    }
                    other => LinkError::NoAnswer(other.to_string()),
                };
            }
            Ok(_) | Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// An error before any card is spoken with.
fn failed(error: Error) -> CardError {
    match error {
        Error::NoService | Error::ServiceStopped | Error::InvalidHandle => {
            CardError::NoService { doing: "" }
        }
        Error::NoReadersAvailable => CardError::NoReader,
        other => CardError::Pcsc { doing: "looking for readers", said: other.to_string() },
    }
}

/// An error of taking the card in `reader`.
fn refused(error: Error, reader: &str) -> CardError {
    let doing = "taking the card";
    let reader = reader.to_owned();
    match error {
        Error::SharingViolation => CardError::InUse { reader },
        Error::NoSmartcard => CardError::NoCard { reader },
        Error::RemovedCard => CardError::PulledOut { reader, doing },
        // Its answer to reset is none, or names no protocol.
        Error::UnresponsiveCard
        | Error::UnpoweredCard
        | Error::UnsupportedCard
        | Error::InvalidAtr
        | Error::ProtoMismatch => CardError::Mute { reader },
        Error::UnknownReader | Error::ReaderUnavailable => {
            CardError::ReaderVanished { reader, doing }
        }
        Error::NoService | Error::ServiceStopped | Error::InvalidHandle => {
            CardError::NoService { doing }
        }
        other => CardError::Pcsc { doing, said: other.to_string() },
    }
}

fn shown(name: &CStr) -> String {
    name.to_string_lossy().into_owned()
}
