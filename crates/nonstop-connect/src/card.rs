//! The card, through the system's PKCS#11 module: which there is, its key, and whether a PIN is its.
//!
//! The PIN is tried here, once, and only then given to `ssh`: what `ssh` says of a wrong one names
//! no tries. Nothing stays open between: the card is free for `ssh`.

use crate::{
    os::Os,
    trouble::{Tries, Trouble},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    object::{Attribute, AttributeType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    slot::{Slot, TokenInfo},
    types::AuthPin,
};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A PIN, gone from memory with its last owner.
pub type Pin = Zeroizing<String>;

/// A card with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// The module that speaks with it.
    pub module: PathBuf,
    /// Its serial number, as the module shows it.
    pub serial: String,
    /// Its name, as the module shows it.
    pub label: String,
    /// Its public key, as a line of OpenSSH.
    pub key: String,
    /// Whether the reader itself takes the PIN.
    pub pinpad: bool,
    /// Tries for its PIN.
    pub tries: Tries,
    /// How few and how many letters a PIN of it has.
    pub pin_length: (usize, usize),
}

/// In slot 9A, the key for logging in, as all PIV modules number it.
const LOGIN_KEY: u8 = 1;

/// The module to be used: `named`, or the first that the system has.
pub fn module(os: Os, named: Option<&Path>) -> Result<PathBuf, Trouble> {
    if let Some(named) = named {
        // A module by a bare name would be looked for wherever the loader likes.
        return whole(named);
    }
    let found = os.modules().iter().map(PathBuf::from).find(|path| path.is_file());
    found.ok_or_else(|| Trouble::NoModule(os.modules().iter().map(ToString::to_string).collect()))
}

/// The whole path of a file that is there, without the `\\?\` that `canonicalize` puts before it on
/// Windows and `ssh` does not understand.
pub(crate) fn whole(path: &Path) -> Result<PathBuf, Trouble> {
    let found = path.metadata().and_then(|_| std::path::absolute(path));
    found.map_err(|e| Trouble::file(path, &e))
}

/// The card in a reader of this PC; with `serial`, that one.
///
/// Errors: each thing that can be missing by itself.
pub fn find(module: &Path, serial: Option<&str>) -> Result<Card, Trouble> {
    let context = open(module)?;
    let slots = context.get_all_slots().map_err(failed)?;
    if slots.is_empty() {
        return Err(Trouble::NoReader);
    }
    let (mut cards, mut unknown, mut keyless, mut readers) = (vec![], None, None, vec![]);
    for slot in slots {
        let Ok(info) = context.get_slot_info(slot) else { continue };
        let reader = shown(info.slot_description());
        match context.get_token_info(slot) {
            Ok(token) => match card(&context, module, slot, &token) {
                Ok(card) => cards.push(card),
                Err(Trouble::NoKey(card)) => keyless = Some(card),
                Err(trouble) => return Err(trouble),
            },
            Err(Error::Pkcs11(RvError::TokenNotRecognized, _)) => unknown = Some(reader),
            Err(_) if info.token_present() => unknown = Some(reader),
            Err(_) => readers.push(reader),
        }
    }
    // A module may show a card in several slots, one for each of its PINs.
    cards.sort_by(|a, b| a.serial.cmp(&b.serial));
    cards.dedup_by(|a, b| a.serial == b.serial && a.key == b.key);
    if let Some(serial) = serial {
        let wanted = cards.into_iter().find(|card| card.serial == serial);
        return wanted.ok_or_else(|| Trouble::OtherCard(shown(serial)));
    }
    match (cards.len(), unknown, keyless) {
        (1, _, _) => Ok(cards.remove(0)),
        (0, Some(reader), _) => Err(Trouble::UnknownCard(reader)),
        (0, None, Some(card)) => Err(Trouble::NoKey(card)),
        (0, None, None) => Err(Trouble::NoCard(readers)),
        _ => {
            let name = |card: &Card| format!("{} {:?}", card.serial, card.label);
            Err(Trouble::SeveralCards(cards.iter().map(name).collect()))
        }
    }
}

/// Tries `pin` on `card`, once.
///
/// Errors: wrong, with the tries that are left; blocked; the card is gone.
pub fn verify(card: &Card, pin: &Pin) -> Result<(), Trouble> {
    if card.tries == Tries::None {
        return Err(Trouble::WrongPin(Tries::None));
    }
    // What can be no PIN shall not cost a try.
    let (least, most) = card.pin_length;
    let length = || Trouble::PinLength(least, most);
    if !(least..=most).contains(&pin.len()) || pin.contains(char::is_control) {
        return Err(length());
    }
    let context = open(&card.module)?;
    let slot = slot_of(&context, card)?;
    let session = context.open_ro_session(slot).map_err(failed)?;
    let tried = session.login(UserType::User, Some(&AuthPin::new(pin.as_str().into())));
    let tries = || context.get_token_info(slot).map_or(Tries::All, |token| tries(&token));
    match tried {
        Ok(()) => session.logout().map_err(failed),
        Err(Error::Pkcs11(RvError::PinIncorrect, _)) => Err(Trouble::WrongPin(tries())),
        Err(Error::Pkcs11(RvError::PinLocked, _)) => Err(Trouble::WrongPin(Tries::None)),
        Err(Error::Pkcs11(RvError::PinLenRange | RvError::PinInvalid, _)) => Err(length()),
        Err(error) => Err(failed(error)),
    }
}

fn open(module: &Path) -> Result<Pkcs11, Trouble> {
    let broken = |e: Error| Trouble::Module(module.display().to_string(), shown(&e.to_string()));
    let context = Pkcs11::new(module).map_err(broken)?;
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(context),
        Err(error) => Err(broken(error)),
    }
}

fn slot_of(context: &Pkcs11, card: &Card) -> Result<Slot, Trouble> {
    let slots = context.get_slots_with_token().map_err(failed)?;
    let is_its = |slot: &Slot| {
        context
            .get_token_info(*slot)
            .is_ok_and(|token| token.serial_number() == card.serial && token.label() == card.label)
    };
    slots.into_iter().find(is_its).ok_or(Trouble::CardGone)
}

/// The card in `slot`, which a module knows.
fn card(context: &Pkcs11, module: &Path, slot: Slot, token: &TokenInfo) -> Result<Card, Trouble> {
    let (serial, label) = (token.serial_number().to_string(), token.label().to_string());
    let session = match context.open_ro_session(slot) {
        Ok(session) => session,
        Err(Error::Pkcs11(RvError::TokenNotRecognized, _)) => {
            return Err(Trouble::NoKey(shown(&label)));
        }
        Err(error) => return Err(failed(error)),
    };
    let key = login_key(&session)?.ok_or_else(|| Trouble::NoKey(shown(&label)))?;
    Ok(Card {
        module: module.into(),
        serial,
        label,
        key,
        pinpad: token.protected_authentication_path(),
        tries: tries(token),
        // What a module does not tell is what PIV has.
        pin_length: match (token.min_pin_length(), token.max_pin_length()) {
            (least @ 1.., most) if least <= most => (least, most),
            _ => (6, 8),
        },
    })
}

fn tries(token: &TokenInfo) -> Tries {
    if token.user_pin_locked() {
        Tries::None
    } else if token.user_pin_final_try() {
        Tries::Last
    } else if token.user_pin_count_low() {
        Tries::Fewer
    } else {
        Tries::All
    }
}

/// The public key for logging in, as a line of OpenSSH.
fn login_key(session: &Session) -> Result<Option<String>, Trouble> {
    let wanted = [Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::Id(vec![LOGIN_KEY])];
    for object in session.find_objects(&wanted).map_err(failed)? {
        if let Some(line) = line(session, object)? {
            return Ok(Some(line));
        }
    }
    Ok(None)
}

fn line(session: &Session, object: ObjectHandle) -> Result<Option<String>, Trouble> {
    let wanted = [
        AttributeType::EcParams,
        AttributeType::EcPoint,
        AttributeType::Modulus,
        AttributeType::PublicExponent,
    ];
    let (mut curve, mut point, mut modulus, mut exponent) = (None, None, None, None);
    for attribute in session.get_attributes(object, &wanted).map_err(failed)? {
        match attribute {
            Attribute::EcParams(bytes) => curve = Some(bytes),
            Attribute::EcPoint(bytes) => point = Some(bytes),
            Attribute::Modulus(bytes) => modulus = Some(bytes),
            Attribute::PublicExponent(bytes) => exponent = Some(bytes),
            _ => {}
        }
    }
    Ok(match (curve, point, modulus, exponent) {
        (Some(curve), Some(point), _, _) => ec_line(&curve, &point),
        (_, _, Some(modulus), Some(exponent)) => Some(rsa_line(&modulus, &exponent)),
        _ => None,
    })
}

/// The line of a key on P-256 or P-384; None for other curves.
fn ec_line(curve: &[u8], point: &[u8]) -> Option<String> {
    const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
    let (name, size) = match curve {
        P256 => ("nistp256", 32),
        P384 => ("nistp384", 48),
        _ => return None,
    };
    // In an OCTET STRING, as it should be, or bare, as some modules have it.
    let length = 1 + 2 * size;
    let bare = point.get(point.len().checked_sub(length)?..)?;
    if bare.first() != Some(&4) {
        return None;
    }
    let kind = format!("ecdsa-sha2-{name}");
    Some(key_line(&kind, &[kind.as_bytes(), name.as_bytes(), bare]))
}

fn rsa_line(modulus: &[u8], exponent: &[u8]) -> String {
    let number = |bytes: &[u8]| {
        let from = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
        let mut number = bytes[from..].to_vec();
        if number.first().is_some_and(|b| *b >= 0x80) {
            number.insert(0, 0);
        }
        number
    };
    key_line("ssh-rsa", &[b"ssh-rsa", &number(exponent), &number(modulus)])
}

fn key_line(kind: &str, fields: &[&[u8]]) -> String {
    let mut blob = Vec::new();
    for field in fields {
        let length = u32::try_from(field.len()).expect("a field of a key is short");
        blob.extend_from_slice(&length.to_be_bytes());
        blob.extend_from_slice(field);
    }
    format!("{kind} {}", BASE64_STANDARD.encode(blob))
}

fn failed(error: Error) -> Trouble {
    match error {
        Error::Pkcs11(RvError::TokenNotPresent | RvError::DeviceRemoved, _) => Trouble::CardGone,
        error => Trouble::Card(shown(&error.to_string())),
    }
}

/// What a card or module says of itself, for a terminal.
fn shown(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use nonstop_profile::HostKey;

    #[test]
    fn keys_of_cards_become_lines_of_openssh() {
        let p256 = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        let point = [&[4u8][..], &[7; 64]].concat();
        let wrapped = [&[0x04, 65][..], &point].concat();
        let line = ec_line(&p256, &point).expect("a key");
        assert_eq!(ec_line(&p256, &wrapped).expect("a key"), line);
        assert_eq!(line.parse::<HostKey>().expect("a key").to_string(), line);
        assert_eq!(ec_line(&p256, &point[1..]), None);
        assert_eq!(ec_line(&[0x06, 0x01, 0x00], &point), None);
        let line = rsa_line(&[0x80; 256], &[0, 1, 0, 1]);
        assert_eq!(line.parse::<HostKey>().expect("a key").to_string(), line);
    }

    #[test]
    fn a_module_that_is_none_is_told_with_its_name() {
        let here = std::env::current_exe().expect("this");
        let trouble = find(&here, None).expect_err("no module");
        assert!(
            matches!(&trouble, Trouble::Module(path, _) if *path == here.display().to_string())
        );
        assert!(module(Os::Windows, None).is_err_and(|t| matches!(t, Trouble::NoModule(_))));
    }
}
