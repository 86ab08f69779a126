//! `nonstop card`: cards at the reader of this machine, and what the lab knows of them.
//!
//! The reader is spoken with here and never by the daemon; the daemon gives what derives from the
//! lab's secret, checks the card's signature and keeps the record.

mod letter;
mod office;
mod typed;

use crate::{
    error::CliError,
    print, print_json,
    render::render,
    table::{Table, plain},
};
use clap::Subcommand;
use letter::LetterFile;
use nonstop_api::{CardView, Client, Reply, Request};
use nonstop_card::{
    CardError, Pin,
    desk::{Content, Desk},
    issue::{self, IssueError},
    key::KeyAlgorithm,
};
use nonstop_model::{AccountName, CardAct, CardGuid, CardId, CardState, Lab};
use office::{AtTheDesk, Progress};
use serde::Serialize;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum CardVerb {
    /// List this machine's readers with what is in them; works without the daemon.
    Readers,
    /// Make the card in the reader an account's: key, PIN, PUK, management key and certificate. What
    /// was on it is lost. Can be run again after any interruption.
    Issue {
        /// Whose it will be.
        account: AccountName,
        /// The reader, by its name or a part of it; needed where several have a card in them.
        #[arg(long)]
        reader: Option<String>,
        /// The key that the card makes: `ec` (P-256) or `rsa` (2048 bits).
        #[arg(long, default_value = "ec")]
        algorithm: KeyAlgorithm,
        /// Write the letter with the PIN here, for root alone: HTML to print where the name ends in
        /// .html, or text. Without it, it is shown once.
        #[arg(long, value_name = "FILE")]
        letter: Option<PathBuf>,
    },
    /// Take the card in the reader with the key that it has (slot 9A). Nothing is written on it.
    /// Asks for its PIN, or reads it from stdin.
    Enrol {
        /// Whose it will be.
        account: AccountName,
        /// The reader, by its name or a part of it.
        #[arg(long)]
        reader: Option<String>,
    },
    /// List cards, the newest first.
    List {
        /// Of this account alone.
        account: Option<AccountName>,
    },
    /// End a card: what it has open is cut, and it never logs in again.
    Revoke {
        /// Which, such as c7.
        id: CardId,
        /// Why; kept in the trace.
        #[arg(long)]
        reason: String,
    },
    /// Set a new PIN of a card that this lab issued, also of a blocked one.
    Unblock {
        /// The reader, by its name or a part of it.
        #[arg(long)]
        reader: Option<String>,
        /// Write the letter with the PIN here; see `issue`.
        #[arg(long, value_name = "FILE")]
        letter: Option<PathBuf>,
    },
}

/// Does what `verb` says.
pub(crate) fn run(lab: &Lab, verb: &CardVerb, json: bool) -> Result<(), CliError> {
    let client = Client::new(lab.admin_socket());
    match verb {
        CardVerb::Readers => readers(&client, json),
        CardVerb::Issue { account, reader, algorithm, letter } => {
            let letter = LetterFile::open(letter.as_deref(), json)?;
            issue_card(&client, account, reader.as_deref(), *algorithm, letter, json)
        }
        CardVerb::Enrol { account, reader } => enrol(&client, account, reader.as_deref(), json),
        CardVerb::List { account } => {
            show(&client.call(&Request::CardList { account: account.clone() })?, json);
            Ok(())
        }
        CardVerb::Revoke { id, reason } => {
            show(&client.call(&Request::CardRevoke { card: *id, reason: reason.clone() })?, json);
            Ok(())
        }
        CardVerb::Unblock { reader, letter } => {
            let letter = LetterFile::open(letter.as_deref(), json)?;
            unblock(&client, reader.as_deref(), letter, json)
        }
    }
}

fn show(reply: &Reply, json: bool) {
    if json {
        let value = serde_json::to_value(reply).expect("our types have string keys");
        print_json(value.get("value").unwrap_or(&json!({})));
    } else {
        print(&render(reply, crate::width()));
    }
}

/// A reader, for `card readers`.
#[derive(Debug, Serialize)]
struct ReaderView {
    reader: String,
    content: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    guid: Option<CardGuid>,
    /// Whether slot 9A has a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    card: Option<CardView>,
    says: String,
}

fn readers(client: &Client, json: bool) -> Result<(), CliError> {
    let readers = Desk::open()?.readers()?;
    let known = match client.call(&Request::CardList { account: None }) {
        Ok(Reply::Cards(cards)) => cards,
        Ok(_) => Vec::new(),
        Err(e) => {
            eprintln!("whose cards they are is not known: {}", CliError::from(e));
            Vec::new()
        }
    };
    let views: Vec<ReaderView> =
        readers.into_iter().map(|r| view(r.name, r.content, &known)).collect();
    if json {
        print_json(&views);
        return Ok(());
    }
    let mut table = Table::new(["READER", "WHAT IS IN IT"]);
    for view in views {
        table.row([view.reader, view.says]);
    }
    print(&table.text(crate::width()));
    Ok(())
}

fn view(reader: String, content: Content, known: &[CardView]) -> ReaderView {
    let plain = |content: &'static str, says: &str| ReaderView {
        reader: reader.clone(),
        content,
        guid: None,
        certificate: None,
        card: None,
        says: says.into(),
    };
    match content {
        Content::Empty => plain("empty", "no card"),
        Content::Mute => plain("mute", "a card that gives no sign of life (upside down?)"),
        Content::InUse => plain("in-use", "a card that another program uses"),
        Content::NotPiv => plain("not-piv", "a card that is not a PIV card"),
        Content::Broken(e) => plain("broken", &e.to_string()),
        Content::Piv { guid, certificate } => {
            let guid = guid.map(CardGuid);
            // A card can be revoked and issued again: the newest record is what it is.
            let of_guid = |card: &&CardView| guid.is_some() && card.guid == guid;
            let card = known.iter().filter(of_guid).max_by_key(|card| card.id).cloned();
            let key = if certificate { "with a certificate" } else { "without a certificate" };
            let says = match (&card, guid) {
                (Some(card), _) => {
                    format!("card {} of {}, {}", card.id, card.account, state(card))
                }
                (None, Some(guid)) => format!("a PIV card {key}, {guid}"),
                (None, None) => format!("a PIV card {key}, without a name of its own"),
            };
            let certificate = Some(certificate);
            ReaderView { guid, certificate, card, says, ..plain("piv", "") }
        }
    }
}

fn state(card: &CardView) -> &'static str {
    match card.state {
        CardState::Issuing => "not finished: run `card issue` again",
        CardState::Active if card.expired => "expired",
        CardState::Active => "active",
        CardState::Revoked => "revoked",
    }
}

fn issue_card(
    client: &Client,
    account: &AccountName,
    reader: Option<&str>,
    algorithm: KeyAlgorithm,
    letter: LetterFile,
    json: bool,
) -> Result<(), CliError> {
    let progress = Progress::begin(json);
    let mut office = AtTheDesk::new(client, account, letter, &progress);
    let issued = Desk::open()?
        .with_card(reader, |piv| issue::issue(piv, &mut office, algorithm))
        .map_err(why)?;
    let (record, shown) = office.close()?;
    if !issued.own_management {
        eprintln!(
            "this card cannot change its management key and keeps its maker's: whoever has it in hand can \
             destroy what is on it, but neither read its key nor use it without the PIN"
        );
    }
    if json {
        print_json(&json!({
            "card": record.card,
            "account": account,
            "guid": CardGuid(issued.guid),
            "algorithm": issued.key.algorithm.to_string(),
            "fingerprint": record.fingerprint,
            "key": record.key,
            "expires_at": record.expires_at,
            "management": issued.management.to_string(),
            "management_is_ours": issued.own_management,
            "letter": shown.path(),
        }));
        return Ok(());
    }
    progress.say(&format!("card {} of {account} is active", record.card));
    print(&format!("card {} of {account}\n{}", record.card, record.key));
    shown.show();
    Ok(())
}

fn enrol(
    client: &Client,
    account: &AccountName,
    reader: Option<&str>,
    json: bool,
) -> Result<(), CliError> {
    let progress = Progress::begin(json);
    let record = Desk::open()?.with_card(reader, |piv| {
        progress.say("reading the card");
        if piv.certificate()?.is_none() {
            return Err(IssueError::Card(CardError::NoCertificate));
        }
        let guid = piv.guid()?.map(CardGuid);
        let begun = office::begin(client, account, CardAct::Enrol, guid)?;
        let pin = typed::pin(piv.reader()).map_err(IssueError::Office)?;
        progress.say("the card signs");
        let (key, signature) = issue::enrol(piv, &pin, &begun.challenge)?;
        progress.say("the lab checks it");
        office::certify(client, &begun, &key, &signature)
    });
    let record = record.map_err(why)?;
    client.call(&Request::CardActivate { card: record.card })?;
    if json {
        print_json(&json!({
            "card": record.card, "account": account, "fingerprint": record.fingerprint,
            "key": record.key, "expires_at": record.expires_at,
        }));
    } else {
        print(&format!("card {} of {account}\n{}", record.card, record.key));
    }
    Ok(())
}

fn unblock(
    client: &Client,
    reader: Option<&str>,
    letter: LetterFile,
    json: bool,
) -> Result<(), CliError> {
    let pin = Pin::random();
    let mut letter = Some(letter);
    let done = Desk::open()?.with_card(reader, |piv| {
        let guid = piv.guid()?.map(CardGuid);
        let guid = guid.ok_or_else(|| IssueError::Office(office::nameless(piv.reader())))?;
        let puk = office::unblock(client, guid)?;
        let code = office::puk(&puk.puk).map_err(IssueError::Office)?;
        let written = office::letter(client, &puk.account, puk.card, None, &pin)
            .and_then(|text| letter.take().expect("once").write(text))
            .map_err(IssueError::Office)?;
        match piv.set_pin(&code, &pin) {
            Ok(()) => Ok((puk, written)),
            Err(e) => {
                written.take_back();
                Err(e.into())
            }
        }
    });
    let (puk, written) = done.map_err(why)?;
    let written = written.keep()?;
    if json {
        print_json(&json!({
            "card": puk.card, "account": puk.account, "letter": written.path(),
        }));
    } else {
        print(&format!("card {} of {} has a new PIN", puk.card, plain(puk.account.as_str())));
        written.show();
    }
    Ok(())
}

fn why(error: IssueError<CliError>) -> CliError {
    match error {
        IssueError::Card(e) => e.into(),
        IssueError::Office(e) => e,
    }
}
