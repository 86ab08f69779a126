//! Cards: begun, certified and made active by an admin at the reader; entered, listed and revoked
//! by staff. What a card says is checked here; what is on it, the CLI sees to.

use super::{Service, one_line, refusal};
use crate::{caller::Caller, status::chain};
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::{SignedDuration, Timestamp};
use nonstop_api::{
    ApiError, CardBegunView, CardCertifiedView, CardPukView, CardView, ErrorCode, Reply,
};
use nonstop_host::{
    HostError,
    authority::{CardSubject, PresentedKey},
};
use nonstop_model::{AccountName, CardAct, CardGuid, CardId, KeyAlgorithm, PublicKey};
use nonstop_store::{BeginCard, NewKey};
use openssh_keys::{Curve, Data};

impl Service {
    pub(super) fn card_list(
        &self,
        caller: &Caller,
        account: Option<&AccountName>,
    ) -> Result<Reply, ApiError> {
        let account = match account {
            Some(name) => {
                caller.must_own(name, &format!("account `{name}`"))?;
                self.db.read(|read| read.account(name)).map_err(refusal)?;
                Some(name)
            }
            None if caller.is_staff() => None,
            None => caller.account().map(|account| &account.name),
        };
        let cards = self.db.read(|read| read.cards(account)).map_err(refusal)?;
        let now = self.now();
        Ok(Reply::Cards(cards.into_iter().map(|card| CardView::of(card, now)).collect()))
    }

    pub(super) fn card_begin(
        &self,
        caller: &Caller,
        account: &AccountName,
        act: CardAct,
        guid: Option<CardGuid>,
    ) -> Result<Reply, ApiError> {
        caller.must_be_admin()?;
        let begin = BeginCard {
            account: account.clone(),
            act,
            guid: guid.filter(|guid| !guid.is_unset()),
            new_guid: match act {
                CardAct::Issue => Some(CardGuid(new_guid())),
                CardAct::Enrol => None,
            },
            challenge: rand::random(),
            expires_at: self.card_end(),
        };
        let card = self.commit(caller, |w| w.begin_card(&begin))?;
        let ours = card.guid.filter(|_| act == CardAct::Issue);
        Ok(Reply::CardBegun(CardBegunView {
            card: card.id,
            guid: card.guid,
            management_secret: ours.map(|guid| hex::encode(self.card_secret.management(guid))),
            puk: ours.map(|guid| self.card_secret.puk(guid)),
            challenge: hex::encode(begin.challenge),
            name: account.to_string(),
            expires_at: begin.expires_at,
        }))
    }

    pub(super) fn card_certify(
        &self,
        caller: &Caller,
        id: CardId,
        public_key: &str,
        signature: &str,
    ) -> Result<Reply, ApiError> {
        caller.must_be_admin()?;
        let (card, challenge) =
            self.db.read(|read| Ok((read.card(id)?, read.card_challenge(id)?))).map_err(refusal)?;
        let challenge =
            challenge.ok_or_else(|| refusal(nonstop_store::StoreError::ChallengeUsed(id)))?;
        let presented = PresentedKey::parse(&bytes("public key", public_key)?)
            .map_err(|e| refused_key(&e.to_string()))?;
        presented
            .check(&challenge, &bytes("signature", signature)?)
            .map_err(|e| refused_key(&e.to_string()))?;
        let key = key(&presented.openssh())?;
        let now = self.now();
        let subject = CardSubject {
            account: card.account.clone(),
            from: now,
            until: card.expires_at.unwrap_or_else(|| self.card_end()),
        };
        let certificate = self.authority.card(&subject, &presented).map_err(host_failed)?;
        self.commit(caller, |w| w.certify_card(id, &challenge, &key))?;
        Ok(Reply::CardCertified(CardCertifiedView {
            certificate: BASE64_STANDARD.encode(certificate),
            fingerprint: key.fingerprint,
            key: key.key.0,
        }))
    }

    pub(super) fn card_activate(&self, caller: &Caller, id: CardId) -> Result<Reply, ApiError> {
        caller.must_be_admin()?;
        self.commit(caller, |w| w.activate_card(id))?;
        Ok(Reply::Done)
    }

    pub(super) fn card_add(
        &self,
        caller: &Caller,
        name: &AccountName,
        line: &str,
    ) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        // Whoever adds a key of their own to another of the staff would act in that one's name.
        self.account_to_change(caller, name)?;
        let key = key(line)?;
        match key.algorithm {
            KeyAlgorithm::EcP256 | KeyAlgorithm::Rsa(_) => {}
            KeyAlgorithm::EcP384 | KeyAlgorithm::EcP521 | KeyAlgorithm::Ed25519 => {
                let message =
                    format!("the key is {}, which no card of this lab has", key.algorithm);
                return Err(ApiError::new(ErrorCode::Invalid, message).help(
                    "give the line that `ssh-keygen -D opensc-pkcs11.so` prints for the card",
                ));
            }
        }
        let end = self.card_end();
        let card = self.commit(caller, |w| w.add_card(name, &key, end))?;
        Ok(Reply::Card(CardView::of(card, self.now())))
    }

    pub(super) fn card_revoke(
        &self,
        caller: &Caller,
        id: CardId,
        reason: &str,
    ) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        let reason = one_line("reason", reason, 500)?;
        self.commit(caller, |w| w.revoke_card(id, &reason))?;
        Ok(Reply::Done)
    }

    pub(super) fn card_unblock(&self, caller: &Caller, guid: CardGuid) -> Result<Reply, ApiError> {
        caller.must_be_admin()?;
        let card = self.commit(caller, |w| w.unblock_card(guid))?;
        let puk = self.card_secret.puk(guid);
        Ok(Reply::CardPuk(CardPukView { card: card.id, account: card.account, puk }))
    }

    /// When a card that begins now expires.
    fn card_end(&self) -> Timestamp {
        let days = SignedDuration::from_hours(i64::from(self.lab.card_days) * 24);
        self.now().checked_add(days).unwrap_or(Timestamp::MAX)
    }
}

/// A UUID of random bits, as NIST SP 800-73 wants a card's GUID to be.
fn new_guid() -> [u8; 16] {
    let mut guid: [u8; 16] = rand::random();
    guid[6] = guid[6] & 0x0f | 0x40;
    guid[8] = guid[8] & 0x3f | 0x80;
    guid
}

fn bytes(what: &str, base64: &str) -> Result<Vec<u8>, ApiError> {
    let short = Some(base64).filter(|text| text.len() <= 4096);
    short.and_then(|text| BASE64_STANDARD.decode(text).ok()).ok_or_else(|| {
        ApiError::new(ErrorCode::Invalid, format!("the card's {what} is not base64"))
    })
}

fn refused_key(why: &str) -> ApiError {
    ApiError::new(ErrorCode::Invalid, why)
        .help("the card is not as it should be: begin anew, and take another if that fails too")
}

fn host_failed(e: HostError) -> ApiError {
    ApiError::new(ErrorCode::Internal, chain(&e)).help(e.help)
}

/// Checks one line of an OpenSSH public key: a type that the gateway takes, no options.
pub(super) fn key(line: &str) -> Result<NewKey, ApiError> {
    let bad = |why: String| {
        ApiError::new(ErrorCode::Invalid, format!("a key cannot be used: {why}"))
            .help("give the one line of a file like ~/.ssh/id_ed25519.pub")
    };
    let line = line.trim();
    if line.contains(char::is_control) || line.len() > 16_384 {
        return Err(bad("it is not one line".into()));
    }
    let key = openssh_keys::PublicKey::parse(line).map_err(|e| bad(e.to_string()))?;
    if key.options.as_ref().is_some_and(|options| !options.is_empty()) {
        return Err(bad("it has options in front".into()));
    }
    let algorithm = match &key.data {
        Data::Ed25519 { .. } => KeyAlgorithm::Ed25519,
        Data::Ecdsa { curve: Curve::Nistp256, .. } => KeyAlgorithm::EcP256,
        Data::Ecdsa { curve: Curve::Nistp384, .. } => KeyAlgorithm::EcP384,
        Data::Ecdsa { curve: Curve::Nistp521, .. } => KeyAlgorithm::EcP521,
        Data::Rsa { modulus, .. } => {
            let bytes = modulus.iter().skip_while(|byte| **byte == 0).count();
            match u16::try_from(bytes * 8) {
                Ok(bits @ 2048..) => KeyAlgorithm::Rsa(bits),
                _ => {
                    return Err(bad(format!("it is RSA of {} bits, less than 2048", bytes * 8)));
                }
            }
        }
        _ => return Err(bad("use ed25519, ECDSA, or RSA of 2048 bits and more".into())),
    };
    let fingerprint = format!("SHA256:{}", key.fingerprint());
    // Written anew without the comment: what sshd reads is ours, not the caller's.
    let key = openssh_keys::PublicKey { options: None, comment: None, ..key };
    Ok(NewKey { key: PublicKey(key.to_string().trim_end().into()), fingerprint, algorithm })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4mgl+VnJWxyUMGJvGdmoIPRBbKzQm5k2cRP+k9HTkU";

    #[test]
    fn a_key_with_options_a_newline_or_no_sense_is_refused() {
        for bad in [
            "",
            "hello",
            &format!("command=\"sh\" {GOOD}"),
            &format!("{GOOD}\n{GOOD}"),
            "ssh-dss AAAAB3NzaC1kc3M=",
        ] {
            assert!(key(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_comment_does_not_reach_sshd() {
        let new = key(&format!("{GOOD} permitopen=\"any\"")).expect("a good key");
        assert_eq!(new.key.0, GOOD);
    }
}
