//! The lab's part at the reader: what nonstopd gives, checks and records.

use super::letter::{Kept, Letter, LetterFile};
use crate::error::CliError;
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use nonstop_api::{CallError, CardPukView, Client, Reply, Request};
use nonstop_card::{
    Pin,
    chuid::Guid,
    issue::{self, IssueError, Issued},
    key::CardKey,
    management::ManagementKey,
};
use nonstop_model::{AccountName, CardAct, CardGuid, CardId};
use std::time::Instant;

/// Says on stderr what is being done, and when it began.
#[derive(Debug)]
pub(super) struct Progress {
    start: Instant,
    quiet: bool,
}

impl Progress {
    /// From now on; scripts hear nothing.
    pub(super) fn begin(quiet: bool) -> Progress {
        Progress { start: Instant::now(), quiet }
    }

    /// Says it.
    pub(super) fn say(&self, what: &str) {
        if !self.quiet {
            eprintln!("{:5.1} s  {what}", self.start.elapsed().as_secs_f32());
        }
    }
}

/// What the lab gave for a card.
#[derive(Debug)]
pub(super) struct Begun {
    card: CardId,
    pub(super) challenge: Vec<u8>,
    expires_at: Timestamp,
    guid: Option<CardGuid>,
    management: Option<ManagementKey>,
    puk: Option<Pin>,
}

/// What the lab recorded of a card.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) card: CardId,
    pub(super) fingerprint: String,
    pub(super) key: String,
    pub(super) expires_at: Timestamp,
    certificate: Vec<u8>,
}

type Said<T> = Result<T, IssueError<CliError>>;

fn ask(client: &Client, request: &Request) -> Said<Reply> {
    client.call(request).map_err(|e| IssueError::Office(e.into()))
}

fn otherwise<T>() -> Said<T> {
    Err(IssueError::Office(CliError::Otherwise))
}

/// Opens the record of a card, or opens it again.
pub(super) fn begin(
    client: &Client,
    account: &AccountName,
    act: CardAct,
    guid: Option<CardGuid>,
) -> Said<Begun> {
    let request = Request::CardBegin { account: account.clone(), act, guid };
    let Reply::CardBegun(view) = ask(client, &request)? else { return otherwise() };
    let bytes = |text: &str| hex::decode(text).map_err(|_| IssueError::Office(CliError::Otherwise));
    let management = match &view.management_secret {
        None => None,
        Some(secret) => match <[u8; 32]>::try_from(bytes(secret)?) {
            Ok(secret) => Some(ManagementKey::derived(secret)),
            Err(_) => return otherwise(),
        },
    };
    Ok(Begun {
        card: view.card,
        challenge: bytes(&view.challenge)?,
        expires_at: view.expires_at,
        guid: view.guid,
        management,
        puk: view.puk.as_deref().map(puk).transpose().map_err(IssueError::Office)?,
    })
}

/// Has the card's signature checked and its certificate made.
pub(super) fn certify(
    client: &Client,
    begun: &Begun,
    key: &CardKey,
    signature: &[u8],
) -> Said<Record> {
    let request = Request::CardCertify {
        card: begun.card,
        public_key: BASE64_STANDARD.encode(&key.spki),
        signature: BASE64_STANDARD.encode(signature),
    };
    let Reply::CardCertified(view) = ask(client, &request)? else { return otherwise() };
    let Ok(certificate) = BASE64_STANDARD.decode(&view.certificate) else { return otherwise() };
    Ok(Record {
        card: begun.card,
        fingerprint: view.fingerprint,
        key: view.key,
        expires_at: begun.expires_at,
        certificate,
    })
}

/// Asks for what unblocks the card `guid`.
pub(super) fn unblock(client: &Client, guid: CardGuid) -> Said<CardPukView> {
    match ask(client, &Request::CardUnblock { guid })? {
        Reply::CardPuk(puk) => Ok(puk),
        _ => otherwise(),
    }
}

/// A PUK as nonstopd gives it.
pub(super) fn puk(text: &str) -> Result<Pin, CliError> {
    Pin::parse(text).map_err(|_| CliError::Otherwise)
}

/// A card without a name cannot be one of ours.
pub(super) fn nameless(reader: &str) -> CliError {
    CliError::Refused {
        message: format!("the card in {reader} was not issued here: it has no name of its own"),
        help: Some("its PUK is with whoever issued it".into()),
    }
}

/// The letter for the card `card` of `account`.
pub(super) fn letter(
    client: &Client,
    account: &AccountName,
    card: CardId,
    expires_at: Option<Timestamp>,
    pin: &Pin,
) -> Result<Letter, CliError> {
    let Reply::Me(me) = client.call(&Request::WhoAmI)? else { return Err(CliError::Otherwise) };
    let view = match client.call(&Request::AccountShow { name: account.clone() })? {
        Reply::Account(view) => view,
        _ => return Err(CliError::Otherwise),
    };
    let connect = me.lab.connect;
    Ok(Letter {
        lab: me.lab.name,
        account: account.to_string(),
        full_name: view.full_name,
        card: card.to_string(),
        pin: pin.clone(),
        gateway: format!("{}, {}", connect.host, connect.port),
        host_key: connect.fingerprint,
        authority: me.lab.authority_fingerprint,
        expires: expires_at.map(|end| end.strftime("%F").to_string()),
    })
}

/// The lab, while a card is issued for one account.
#[derive(Debug)]
pub(super) struct AtTheDesk<'a> {
    client: &'a Client,
    account: &'a AccountName,
    progress: &'a Progress,
    letter: Option<LetterFile>,
    begun: Option<Begun>,
    record: Option<Record>,
    written: Option<Kept>,
}

impl<'a> AtTheDesk<'a> {
    /// Nothing is begun yet.
    pub(super) fn new(
        client: &'a Client,
        account: &'a AccountName,
        letter: LetterFile,
        progress: &'a Progress,
    ) -> AtTheDesk<'a> {
        let letter = Some(letter);
        AtTheDesk { client, account, progress, letter, begun: None, record: None, written: None }
    }

    /// What was recorded, and the letter.
    pub(super) fn close(self) -> Result<(Record, Kept), CliError> {
        self.record.zip(self.written).ok_or(CliError::Otherwise)
    }

    fn activated(&mut self, issued: &Issued) -> Result<(), CliError> {
        let record = self.record.as_ref().ok_or(CliError::Otherwise)?;
        let until = Some(record.expires_at);
        let text = letter(self.client, self.account, record.card, until, &issued.pin)?;
        // The letter is whole on the disk before the card opens anything: else its PIN is lost.
        let written = self.letter.take().ok_or(CliError::Otherwise)?.write(text)?;
        self.progress.say("the lab lets it in");
        match self.client.call(&Request::CardActivate { card: record.card }) {
            Ok(_) => {
                self.written = Some(written.keep()?);
                Ok(())
            }
            Err(e @ CallError::Refused(_)) => {
                written.take_back();
                Err(e.into())
            }
            // Whether it is active is not known; its PIN stands nowhere else.
            Err(_) => {
                let kept = written.keep()?;
                kept.show();
                Err(CliError::Unsure { card: record.card })
            }
        }
    }
}

impl issue::Office for AtTheDesk<'_> {
    type Error = CliError;

    fn begin(&mut self, guid: Option<Guid>) -> Result<issue::Begun, CliError> {
        let guid = guid.map(CardGuid);
        let begun = begin(self.client, self.account, CardAct::Issue, guid).map_err(super::why)?;
        let day = begun.expires_at.strftime("%Y%m%d").to_string();
        let (Some(guid), Some(management), Some(puk)) =
            (begun.guid, begun.management.clone(), begun.puk.clone())
        else {
            return Err(CliError::Otherwise);
        };
        let challenge = begun.challenge.clone();
        self.begun = Some(begun);
        Ok(issue::Begun { guid: guid.0, management, puk, challenge, expires: day })
    }

    fn certify(&mut self, key: &CardKey, signature: &[u8]) -> Result<Vec<u8>, CliError> {
        let begun = self.begun.as_ref().ok_or(CliError::Otherwise)?;
        let record = certify(self.client, begun, key, signature).map_err(super::why)?;
        let certificate = record.certificate.clone();
        self.record = Some(record);
        Ok(certificate)
    }

    fn activate(&mut self, issued: &Issued) -> Result<(), CliError> {
        self.activated(issued)
    }

    fn step(&mut self, what: &str) {
        self.progress.say(what);
    }
}
