//! Makes a card the lab's own, step by step, in an order that can be cut anywhere.
//!
//! What a cut leaves is read from the card when the same is done again: a card whose CHUID has a
//! GUID of this lab's goes on under it, since all its secrets derive from that GUID; the PIN is
//! set by the PUK, so nobody has to know the one before; and the key is made anew. The account
//! has none of this before [`Office::activate`].

use crate::{
    apdu::Link,
    chuid::Guid,
    error::CardError,
    key::{CardKey, KeyAlgorithm},
    management::{Algorithm, ManagementKey},
    pin::Pin,
    piv::Piv,
};
use thiserror::Error;

/// What the lab gives a card.
#[derive(Debug, Clone)]
pub struct Begun {
    /// Who it is from now on.
    pub guid: Guid,
    /// Its management key.
    pub management: ManagementKey,
    /// Its PUK.
    pub puk: Pin,
    /// What its key has to sign.
    pub challenge: Vec<u8>,
    /// The last day that it is good, "20301231".
    pub expires: String,
}

/// Who keeps the record: the lab.
pub trait Office {
    /// Why it said no.
    type Error;

    /// Opens, or opens again, the record of a card whose CHUID says `guid`.
    fn begin(&mut self, guid: Option<Guid>) -> Result<Begun, Self::Error>;

    /// Checks `signature` over the challenge and gives a certificate, DER.
    fn certify(&mut self, key: &CardKey, signature: &[u8]) -> Result<Vec<u8>, Self::Error>;

    /// Lets the card in. What comes after it needs no card.
    fn activate(&mut self, issued: &Issued) -> Result<(), Self::Error>;

    /// Hears what is being done, before it is.
    fn step(&mut self, what: &str);
}

/// A card that is the lab's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Who it is.
    pub guid: Guid,
    /// Its key.
    pub key: CardKey,
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// The PIN that it got.
    pub pin: Pin,
    /// How it uses its management key.
    pub management: Algorithm,
    /// Whether it took the lab's management key; a card that cannot change it keeps the factory's.
    pub own_management: bool,
}

/// Why a card was not issued.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IssueError<E> {
    /// The card, or what stands before it.
    #[error(transparent)]
    Card(#[from] CardError),
    /// The lab.
    #[error("the lab said no")]
    Office(E),
}

/// Issues the card `piv` with a key of the kind `algorithm`.
///
/// Repeatable: see above. Errors: the card's or the lab's; the account is then as it was.
pub fn issue<L: Link, O: Office>(
    piv: &mut Piv<L>,
    office: &mut O,
    algorithm: KeyAlgorithm,
) -> Result<Issued, IssueError<O::Error>> {
    office.step("reading the card");
    let known = piv.guid()?;
    let begun = office.begin(known).map_err(IssueError::Office)?;
    let factory = ManagementKey::factory();
    let (which, management) = piv.manage(&[&begun.management, &factory])?;
    office.step("making it this lab's own");
    piv.set_chuid(&begun.guid, &begun.expires)?;
    let pin = Pin::random();
    set_secrets(piv, &begun, which == 0, known == Some(begun.guid), &pin)?;
    let own_management = which == 0 || piv.set_management(management, &begun.management)?;
    office.step("the card makes its key");
    let key = piv.generate(algorithm)?;
    piv.verify(&pin)?;
    let signature = piv.sign(algorithm, &begun.challenge)?;
    office.step("the lab certifies it");
    let certificate = office.certify(&key, &signature).map_err(IssueError::Office)?;
    piv.set_certificate(&certificate)?;
    if piv.certificate()?.as_ref() != Some(&certificate) {
        let what = "it does not give back the certificate that it took".into();
        return Err(CardError::Nonsense { doing: "writing its certificate", what }.into());
    }
    let guid = begun.guid;
    let issued = Issued { guid, key, certificate, pin, management, own_management };
    office.activate(&issued).map_err(IssueError::Office)?;
    Ok(issued)
}

/// Sets PUK and PIN. A card that has the lab's management key has its PUK: that one comes first. Of
/// another, the factory's is tried, and the lab's where it was cut in between; a wrong PUK costs one
/// of few tries, and the right one gives them all back.
fn set_secrets<L: Link>(
    piv: &mut Piv<L>,
    begun: &Begun,
    ours: bool,
    known: bool,
    pin: &Pin,
) -> Result<(), CardError> {
    if ours {
        return piv.set_pin(&begun.puk, pin);
    }
    match piv.change_puk(&Pin::factory_puk(), &begun.puk) {
        Ok(()) => piv.set_pin(&begun.puk, pin),
        Err(CardError::WrongPuk { .. }) if known => piv.set_pin(&begun.puk, pin),
        Err(other) => Err(other),
    }
}

/// Takes a card that has a key with a certificate in slot 9A; nothing is written on it.
///
/// Errors: `NoCertificate`, a wrong PIN, or the lab's; the account is then as it was.
pub fn enrol<L: Link, E>(
    piv: &mut Piv<L>,
    pin: &Pin,
    challenge: &[u8],
) -> Result<(CardKey, Vec<u8>), IssueError<E>> {
    let certificate = piv.certificate()?.ok_or(CardError::NoCertificate)?;
    let key = CardKey::of_certificate(&certificate).map_err(|_| CardError::NoCertificate)?;
    piv.verify(pin)?;
    let signature = piv.sign(key.algorithm, challenge)?;
    Ok((key, signature))
}
