//! Cards: begun at a reader, certified, active, revoked. What the reader and the card do in
//! between is nobody's to undo: a card that was left in the middle stays `issuing`, opens nothing,
//! and goes on or is given up.

use crate::{Read, StoreError, Write, codec};
use jiff::Timestamp;
use nonstop_model::{
    Account, AccountId, AccountName, AccountState, Card, CardAct, CardGuid, CardId, CardKey,
    CardKind, CardState, KeyAlgorithm, PublicKey,
};
use rusqlite::{OptionalExtension, Row};
use serde_json::json;

/// A card that is begun at a reader.
#[derive(Debug, Clone)]
pub struct BeginCard {
    /// For whom.
    pub account: AccountName,
    /// What is done with it.
    pub act: CardAct,
    /// What the card in the reader is called; None where it has no name yet, or needs none.
    pub guid: Option<CardGuid>,
    /// What a card is called that has no name, if the lab gives it one.
    pub new_guid: Option<CardGuid>,
    /// What it will have to sign.
    pub challenge: [u8; 32],
    /// From when on it opens nothing.
    pub expires_at: Timestamp,
}

/// A key to be entered: checked, without options.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// The line of OpenSSH.
    pub key: PublicKey,
    /// `SHA256:…`
    pub fingerprint: String,
    /// What kind of key it is.
    pub algorithm: KeyAlgorithm,
}

const SELECT: &str = "SELECT c.id, a.name, c.kind, c.state, c.act, c.guid, c.algorithm, c.line,
    c.fingerprint, c.proven, c.issued_at, c.expires_at, c.revoked_at, c.revoked_by, c.reason
    FROM cards c JOIN accounts a ON a.id = c.account";

impl Read<'_> {
    /// Cards, newest first: those of `account`, or all.
    pub fn cards(&self, account: Option<&AccountName>) -> Result<Vec<Card>, StoreError> {
        let sql = format!("{SELECT} WHERE ?1 IS NULL OR a.name = ?1 ORDER BY c.id DESC");
        let mut statement = self.tx.prepare_cached(&sql)?;
        codec::all(statement.query([account.map(AccountName::as_str)])?, card_from)
    }

    /// The card `id`.
    pub fn card(&self, id: CardId) -> Result<Card, StoreError> {
        let mut statement = self.tx.prepare_cached(&format!("{SELECT} WHERE c.id = ?1"))?;
        let mut rows = statement.query([id.0])?;
        rows.next()?.map_or(Err(StoreError::NoCard(id)), card_from)
    }

    /// The newest card that is called `guid`; one that is not revoked before those that are.
    pub fn card_called(&self, guid: CardGuid) -> Result<Option<Card>, StoreError> {
        let sql =
            format!("{SELECT} WHERE c.guid = ?1 ORDER BY c.state = 'revoked', c.id DESC LIMIT 1");
        let mut statement = self.tx.prepare_cached(&sql)?;
        let mut rows = statement.query([guid.to_string()])?;
        rows.next()?.map(card_from).transpose()
    }

    /// The card that has the key `fingerprint`, whatever became of it.
    pub fn card_of_key(&self, fingerprint: &str) -> Result<Option<Card>, StoreError> {
        let sql = format!("{SELECT} WHERE c.fingerprint = ?1");
        let mut statement = self.tx.prepare_cached(&sql)?;
        let mut rows = statement.query([fingerprint])?;
        rows.next()?.map(card_from).transpose()
    }

    /// What the card `id` has to sign; None if it was not asked to, or has.
    pub fn card_challenge(&self, id: CardId) -> Result<Option<[u8; 32]>, StoreError> {
        let sql = "SELECT challenge FROM cards WHERE id = ?1";
        let challenge: Option<Option<String>> =
            self.tx.query_row(sql, [id.0], |row| row.get(0)).optional()?;
        let challenge = challenge.ok_or(StoreError::NoCard(id))?;
        let bytes = |text: String| {
            let mut bytes = [0; 32];
            hex::decode_to_slice(text, &mut bytes).map_err(|e| codec::corrupt("a challenge", e))?;
            Ok(bytes)
        };
        challenge.map(bytes).transpose()
    }

    /// The keys of active cards of `id`.
    pub(crate) fn card_keys(&self, id: AccountId) -> Result<Vec<CardKey>, StoreError> {
        let mut statement = self.tx.prepare_cached(
            "SELECT id, kind, line, fingerprint, expires_at FROM cards
             WHERE account = ?1 AND state = 'active' ORDER BY id",
        )?;
        codec::all(statement.query([id.0])?, |row| {
            Ok(CardKey {
                card: CardId(row.get(0)?),
                kind: codec::parsed("a kind of card", &row.get::<_, String>(1)?)?,
                key: PublicKey(row.get(2)?),
                fingerprint: row.get(3)?,
                expires_at: row.get::<_, Option<i64>>(4)?.map(codec::time).transpose()?,
            })
        })
    }

    fn issuing(&self, id: CardId, to: &'static str) -> Result<Card, StoreError> {
        let card = self.card(id)?;
        match card.state {
            CardState::Issuing => Ok(card),
            CardState::Active | CardState::Revoked => {
                Err(StoreError::CardNotThatFar { id, is: card.state.as_str(), to })
            }
        }
    }
}

fn card_from(row: &Row<'_>) -> Result<Card, StoreError> {
    let text = |column| row.get::<_, Option<String>>(column);
    let time = |column| row.get::<_, Option<i64>>(column)?.map(codec::time).transpose();
    let act = text(4)?.map(|act| codec::parsed("what is done with a card", &act)).transpose()?;
    Ok(Card {
        id: CardId(row.get(0)?),
        account: codec::parsed("an account's name", &row.get::<_, String>(1)?)?,
        kind: codec::parsed("a kind of card", &row.get::<_, String>(2)?)?,
        state: codec::parsed("a state of a card", &row.get::<_, String>(3)?)?,
        act,
        guid: text(5)?.map(|guid| codec::parsed("a card's GUID", &guid)).transpose()?,
        algorithm: text(6)?.map(|of| codec::parsed("an algorithm", &of)).transpose()?,
        key: text(7)?.map(PublicKey),
        fingerprint: text(8)?,
        proven: row.get(9)?,
        issued_at: codec::time(row.get(10)?)?,
        expires_at: time(11)?,
        revoked_at: time(12)?,
        revoked_by: text(13)?,
        reason: text(14)?,
    })
}

impl Write<'_> {
    /// Begins a card, or goes on with one that was left in the middle: the same row, with another
    /// challenge, so that whoever had the earlier one can do no more with it.
    ///
    /// A card that was revoked may be issued again: as a new one, under its old name.
    ///
    /// Errors: the card in the reader is in use, another's, or in the middle of something else.
    pub fn begin_card(&mut self, begin: &BeginCard) -> Result<Card, StoreError> {
        let account = self.account_that_may_have_cards(&begin.account)?;
        let known = begin.guid.map(|guid| self.card_called(guid)).transpose()?.flatten();
        let known = known.filter(|card| card.state != CardState::Revoked);
        if let Some(known) = &known
            && (known.state, &known.account, known.act)
                != (CardState::Issuing, &account.name, Some(begin.act))
        {
            let (id, account) = (known.id, known.account.clone());
            return Err(StoreError::CardInHand { id, account, is: known.state.as_str() });
        }
        let challenge = hex::encode(begin.challenge);
        let expires_at = codec::micros(begin.expires_at);
        let id = match known.map(|card| card.id).or(self.nameless(&account, begin)?) {
            Some(id) => {
                self.tx.execute(
                    "UPDATE cards SET act = ?2, challenge = ?3, expires_at = ?4 WHERE id = ?1",
                    (id.0, begin.act.as_str(), &challenge, expires_at),
                )?;
                id
            }
            None => {
                let guid = begin.guid.or(begin.new_guid).map(|guid| guid.to_string());
                self.tx.execute(
                    "INSERT INTO cards
                         (account, kind, state, act, guid, challenge, issued_at, expires_at)
                     VALUES (?1, 'piv', 'issuing', ?2, ?3, ?4, ?5, ?6)",
                    (
                        account.id.0,
                        begin.act.as_str(),
                        guid,
                        &challenge,
                        codec::micros(self.now()),
                        expires_at,
                    ),
                )?;
                self.last_card()?
            }
        };
        let card = self.card(id)?;
        let detail = json!({
            "account": card.account, "act": begin.act, "guid": card.guid, "expires_at": card.expires_at,
        });
        self.trace("card.begin", &id, detail)?;
        Ok(card)
    }

    /// A card without a name that `begin` goes on with: it was being enrolled for the same person.
    fn nameless(&self, account: &Account, begin: &BeginCard) -> Result<Option<CardId>, StoreError> {
        if begin.guid.or(begin.new_guid).is_some() {
            return Ok(None);
        }
        let sql = "SELECT max(id) FROM cards WHERE account = ?1 AND state = 'issuing'
                       AND act = ?2 AND guid IS NULL";
        let id = self.tx.query_row(sql, (account.id.0, begin.act.as_str()), |row| row.get(0))?;
        Ok(Option::<u32>::map(id, CardId))
    }

    /// Records the key of a card that has signed `challenge`; it opens nothing yet.
    ///
    /// Errors: the card is not being issued; it was asked for another signature meanwhile, or has
    /// given this one already; the key is or was another card's.
    pub fn certify_card(
        &mut self,
        id: CardId,
        challenge: &[u8; 32],
        key: &NewKey,
    ) -> Result<Card, StoreError> {
        let card = self.issuing(id, "certified")?;
        if self.card_challenge(id)? != Some(*challenge) {
            return Err(StoreError::ChallengeUsed(id));
        }
        self.take_key(id, &card.account, key)?;
        self.tx.execute(
            "UPDATE cards SET challenge = NULL, algorithm = ?2, line = ?3, fingerprint = ?4,
                 proven = 1 WHERE id = ?1",
            (id.0, key.algorithm.to_string(), &key.key.0, &key.fingerprint),
        )?;
        let detail = json!({
            "account": card.account, "key": key.fingerprint, "algorithm": key.algorithm,
        });
        self.trace("card.certify", &id, detail)?;
        self.card(id)
    }

    /// Lets a card log in: everything is on it. One that may already stays as it is.
    ///
    /// Errors: it has no key yet, or was asked for another signature meanwhile; it was revoked.
    pub fn activate_card(&mut self, id: CardId) -> Result<(), StoreError> {
        if self.card(id)?.state == CardState::Active {
            return Ok(());
        }
        let card = self.issuing(id, "active")?;
        self.account_that_may_have_cards(&card.account)?;
        if card.key.is_none() || self.card_challenge(id)?.is_some() {
            return Err(StoreError::NotCertified(id));
        }
        self.tx.execute(
            "UPDATE cards SET state = 'active', activated_at = ?2 WHERE id = ?1",
            (id.0, codec::micros(self.now())),
        )?;
        let detail = json!({ "account": card.account, "key": card.fingerprint });
        self.trace("card.active", &id, detail)
    }

    /// Enters a public key of which nobody has seen the card: it logs in at once.
    ///
    /// Errors: the key is or was another card's.
    pub fn add_card(
        &mut self,
        name: &AccountName,
        key: &NewKey,
        expires_at: Timestamp,
    ) -> Result<Card, StoreError> {
        let account = self.account_that_may_have_cards(name)?;
        let id = self.enter_key(account.id, CardKind::Piv, key, Some(expires_at))?;
        let detail = json!({ "account": name, "key": key.fingerprint, "algorithm": key.algorithm });
        self.trace("card.add", &id, detail)?;
        self.card(id)
    }

    /// Ends a card for good, or gives up one that is being issued. One that is ended already stays
    /// as it is.
    pub fn revoke_card(&mut self, id: CardId, reason: &str) -> Result<(), StoreError> {
        let card = self.card(id)?;
        if card.state == CardState::Revoked {
            return Ok(());
        }
        let by = self.actor().to_string();
        self.tx.execute(
            "UPDATE cards SET state = 'revoked', challenge = NULL, revoked_at = ?2,
                 revoked_by = ?3, reason = ?4 WHERE id = ?1",
            (id.0, codec::micros(self.now()), by, reason),
        )?;
        let detail = json!({
            "account": card.account, "before": card.state, "key": card.fingerprint,
            "reason": reason,
        });
        self.trace("card.revoke", &id, detail)
    }

    /// Records that the code which unblocks a card was given out; says of which card.
    ///
    /// Errors: no card that this lab made is called so.
    pub fn unblock_card(&mut self, guid: CardGuid) -> Result<Card, StoreError> {
        let card = self.card_called(guid)?.ok_or(StoreError::NotOurCard(guid))?;
        match card.act {
            Some(CardAct::Issue) => {}
            Some(CardAct::Enrol) | None => return Err(StoreError::NotOurCard(guid)),
        }
        self.trace("card.unblock", &card.id, json!({ "account": card.account, "guid": guid }))?;
        Ok(card)
    }

    /// Enters the key of a file or of a card that nobody has seen; traced by the caller.
    pub(crate) fn enter_key(
        &mut self,
        account: AccountId,
        kind: CardKind,
        key: &NewKey,
        expires_at: Option<Timestamp>,
    ) -> Result<CardId, StoreError> {
        let now = codec::micros(self.now());
        self.tx.execute(
            "INSERT INTO cards (account, kind, state, algorithm, line, fingerprint, issued_at,
                 expires_at, activated_at)
             VALUES (?1, ?2, 'active', ?3, ?4, ?5, ?6, ?7, ?6)",
            (
                account.0,
                kind.as_str(),
                key.algorithm.to_string(),
                &key.key.0,
                &key.fingerprint,
                now,
                expires_at.map(codec::micros),
            ),
        )?;
        let id = self.last_card()?;
        let name = self.card(id)?.account;
        self.take_key(id, &name, key)?;
        Ok(id)
    }

    /// Gives `key` to the card `id` of `account`. A key is one card's for ever; a card that was
    /// never active leaves its key to another of the same person.
    fn take_key(
        &mut self,
        id: CardId,
        account: &AccountName,
        key: &NewKey,
    ) -> Result<(), StoreError> {
        let sql = "SELECT k.card FROM card_keys k JOIN cards c ON c.id = k.card
                   JOIN accounts a ON a.id = c.account
                   WHERE k.fingerprint = ?1 AND k.card <> ?2
                       AND (c.activated_at IS NOT NULL OR c.state = 'issuing' OR a.name <> ?3)";
        let others = self
            .tx
            .query_row(sql, (&key.fingerprint, id.0, account.as_str()), |row| row.get::<_, u32>(0));
        if others.optional()?.is_some() {
            return Err(StoreError::KeyTaken { fingerprint: key.fingerprint.clone() });
        }
        self.tx.execute(
            "INSERT INTO card_keys (fingerprint, card) VALUES (?1, ?2)
             ON CONFLICT (fingerprint) DO UPDATE SET card = ?2",
            (&key.fingerprint, id.0),
        )?;
        Ok(())
    }

    fn account_that_may_have_cards(&self, name: &AccountName) -> Result<Account, StoreError> {
        let account = self.account(name)?;
        match account.state {
            AccountState::Active | AccountState::Suspended => Ok(account),
            AccountState::Removed => Err(StoreError::AccountRemoved(name.clone())),
        }
    }

    fn last_card(&self) -> Result<CardId, StoreError> {
        let id = self.tx.last_insert_rowid();
        u32::try_from(id).map(CardId).map_err(|e| codec::corrupt("a card's number", e))
    }
}
