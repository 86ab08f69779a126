//! What callers see of cards.

use jiff::Timestamp;
use nonstop_model::{
    AccountName, Card, CardAct, CardGuid, CardId, CardKind, CardState, KeyAlgorithm,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardView {
    /// Which.
    pub id: CardId,
    /// Whose.
    pub account: AccountName,
    /// What holds the key.
    pub kind: CardKind,
    /// How far it is.
    pub state: CardState,
    /// Whether its time is over: it opens nothing then.
    pub expired: bool,
    /// What was done at the reader; None where somebody gave the public key alone.
    pub act: Option<CardAct>,
    /// What its CHUID says.
    pub guid: Option<CardGuid>,
    /// What kind of key it has; None before there is one.
    pub algorithm: Option<KeyAlgorithm>,
    /// `SHA256:…` of its key; None before there is one.
    pub fingerprint: Option<String>,
    /// Whether the card has signed what nonstopd asked it to.
    pub proven: bool,
    /// When it was begun.
    pub issued_at: Timestamp,
    /// From when on it opens nothing; None for never.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked, or given up.
    pub revoked_at: Option<Timestamp>,
    /// By whom.
    pub revoked_by: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

impl CardView {
    /// `card` at `now`.
    pub fn of(card: Card, now: Timestamp) -> CardView {
        CardView {
            expired: card.is_expired(now),
            id: card.id,
            account: card.account,
            kind: card.kind,
            state: card.state,
            act: card.act,
            guid: card.guid,
            algorithm: card.algorithm,
            fingerprint: card.fingerprint,
            proven: card.proven,
            issued_at: card.issued_at,
            expires_at: card.expires_at,
            revoked_at: card.revoked_at,
            revoked_by: card.revoked_by,
            reason: card.reason,
        }
    }
}

/// A card that was begun at the reader. It opens nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardBegunView {
    /// Which.
    pub card: CardId,
    /// What its CHUID has to say; None where one that is enrolled says nothing.
    pub guid: Option<CardGuid>,
    /// 32 bytes in hexadecimal, from which its management key is cut; None where it is enrolled.
    pub management_secret: Option<String>,
    /// Its PUK, 8 digits; None where it is enrolled.
    pub puk: Option<String>,
    /// 32 bytes in hexadecimal, which its key has to sign.
    pub challenge: String,
    /// The common name in its certificate.
    pub name: String,
    /// From when on it opens nothing.
    pub expires_at: Timestamp,
}

impl fmt::Debug for CardBegunView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither key nor PUK gets into a log.
        f.debug_struct("CardBegunView").field("card", &self.card).finish_non_exhaustive()
    }
}

/// A card that has shown its key. It opens nothing yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardCertifiedView {
    /// Its certificate by the lab's authority: DER in base64.
    pub certificate: String,
    /// `SHA256:…` of its key.
    pub fingerprint: String,
    /// Its key as a line of OpenSSH.
    pub key: String,
}

/// What unblocks a card.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardPukView {
    /// Which.
    pub card: CardId,
    /// Whose.
    pub account: AccountName,
    /// 8 digits.
    pub puk: String,
}

impl fmt::Debug for CardPukView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CardPukView").field("card", &self.card).finish_non_exhaustive()
    }
}
