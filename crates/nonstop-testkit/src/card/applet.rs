//! What the card answers.

use super::{CardFile, CardState, Kind, Secret, keys, keys::SlotKey, tlv};
use anyhow::{Context, Result};

const AID: [u8; 11] = [0xA0, 0, 0, 3, 8, 0, 0, 0x10, 0, 1, 0];
/// Of the application identifier, what a SELECT has to name at least.
const RID_AND_PIX: usize = 5;

const OK: u16 = 0x9000;
const WRONG_LENGTH: u16 = 0x6700;
const SECURITY: u16 = 0x6982;
const BLOCKED: u16 = 0x6983;
const CONDITIONS: u16 = 0x6985;
const WRONG_DATA: u16 = 0x6A80;
const NO_FUNCTION: u16 = 0x6A81;
const NOT_FOUND: u16 = 0x6A82;
const WRONG_P1P2: u16 = 0x6A86;
const NO_REFERENCE: u16 = 0x6A88;
const NO_INSTRUCTION: u16 = 0x6D00;

type Answer = std::result::Result<Vec<u8>, u16>;

/// A card with power on.
#[derive(Debug)]
pub struct Applet {
    file: CardFile,
    state: CardState,
    session: Session,
}

/// What is lost with the power.
#[derive(Debug, Default)]
struct Session {
    selected: bool,
    pin: bool,
    management: bool,
    witness: Option<Vec<u8>>,
    challenge: Option<Vec<u8>>,
    /// The beginning of a chained command.
    chained: Vec<u8>,
    /// What GET RESPONSE fetches.
    waiting: Vec<u8>,
}

impl Applet {
    /// The card in `file`.
    pub fn open(file: &CardFile) -> Result<Applet> {
        Ok(Applet { file: file.clone(), state: file.read()?, session: Session::default() })
    }

    /// Power off, on, or a reset.
    pub fn reset(&mut self) {
        self.session = Session::default();
    }

    /// The answer to reset; of a mute card one that nobody understands.
    pub(super) fn atr(&self) -> Vec<u8> {
        if self.state.kind == Kind::Mute {
            return vec![0];
        }
        // T=1 alone, eight historical bytes, and their checksum.
        let mut atr = [&[0x88, 0x81, 0x01][..], b"NSTTEST1"].concat();
        atr.push(atr.iter().fold(0, |sum, b| sum ^ b));
        [&[0x3B][..], &atr].concat()
    }

    /// Does what `command` says and keeps what it changed.
    ///
    /// Errors: the card's file cannot be written.
    pub fn execute(&mut self, command: &[u8]) -> Result<Vec<u8>> {
        let before = self.state.clone();
        let answer = self.command(command);
        if self.state != before {
            self.file.write(&self.state).context("keep what changed")?;
        }
        let (data, status) = match answer {
            Ok(data) => (data, OK),
            Err(status) => (Vec::new(), status),
        };
        Ok(self.give(data, status))
    }

    /// Gives out 256 bytes at most, and keeps the rest for GET RESPONSE.
    fn give(&mut self, mut data: Vec<u8>, status: u16) -> Vec<u8> {
        self.session.waiting = data.split_off(data.len().min(256));
        let status = match self.session.waiting.len() {
            0 => status,
            n => 0x6100 | u16::try_from(n.min(256) % 256).expect("at most 255"),
        };
        data.extend(status.to_be_bytes());
        data
    }

    fn command(&mut self, command: &[u8]) -> Answer {
        let &[cla, ins, p1, p2, ref body @ ..] = command else { return Err(WRONG_LENGTH) };
        let data = match body {
            [] | [_] => &[][..],
            [lc, rest @ ..] => rest.get(..usize::from(*lc)).ok_or(WRONG_LENGTH)?,
        };
        if cla == 0x10 {
            self.session.chained.extend_from_slice(data);
            return if self.session.chained.len() > 8192 { Err(WRONG_LENGTH) } else { Ok(vec![]) };
        }
        let data = [&std::mem::take(&mut self.session.chained)[..], data].concat();
        if ins == 0xC0 {
            return Ok(std::mem::take(&mut self.session.waiting));
        }
        self.session.waiting.clear();
        if ins == 0xA4 {
            return self.select(&data);
        }
        if !self.session.selected {
            return Err(NO_INSTRUCTION);
        }
        match (ins, p1, p2) {
            (0xCB, 0x3F, 0xFF) => self.get(&data),
            (0xDB, 0x3F, 0xFF) => self.put(&data),
            (0x20, 0, 0x80) => self.verify(&data),
            (0x20, 0xFF, 0x80) => {
                self.session.pin = false;
                Ok(vec![])
            }
            (0x24, 0, 0x80 | 0x81) => self.change(p2, &data),
            (0x2C, 0, 0x80) => self.unblock(&data),
            (0x47, 0, 0x9A) => self.generate(&data),
            (0x87, algorithm, 0x9B) => self.manage(algorithm, &data),
            (0x87, algorithm, 0x9A) => self.sign(algorithm, &data),
            (0xFF, 0xFF, 0xFF | 0xFE) if self.state.management.can_change => {
                self.set_management(&data)
            }
            (0x20 | 0x24 | 0x2C, ..) => Err(NO_REFERENCE),
            (0xCB | 0xDB | 0x47 | 0x87, ..) => Err(WRONG_P1P2),
            _ => Err(NO_INSTRUCTION),
        }
    }

    fn select(&mut self, aid: &[u8]) -> Answer {
        self.session = Session::default();
        let ours = aid.len() >= RID_AND_PIX && AID.starts_with(aid);
        if self.state.kind != Kind::Piv || !ours {
            return Err(NOT_FOUND);
        }
        self.session.selected = true;
        let authority = tlv::element(0x4F, &AID[..5]);
        Ok(tlv::element(
            0x61,
            &[tlv::element(0x4F, &AID[5..]), tlv::element(0x79, &authority)].concat(),
        ))
    }

    fn get(&mut self, data: &[u8]) -> Answer {
        let tag = tlv::find(data, 0x5C).ok_or(WRONG_DATA)?;
        // The discovery object: the PIV application alone, no global PIN.
        if tag == [0x7E] {
            let policy = [tlv::element(0x4F, &AID), tlv::element(0x5F2F, &[0x40, 0])].concat();
            return Ok(tlv::element(0x7E, &policy));
        }
        let object = self.state.objects.get(&hex::encode(tag)).ok_or(NOT_FOUND)?;
        Ok(tlv::element(0x53, &hex::decode(object).map_err(|_| NOT_FOUND)?))
    }

    fn put(&mut self, data: &[u8]) -> Answer {
        if !self.session.management {
            return Err(SECURITY);
        }
        let tag = tlv::find(data, 0x5C).ok_or(WRONG_DATA)?;
        let value = tlv::find(data, 0x53).ok_or(WRONG_DATA)?;
        self.state.objects.insert(hex::encode(tag), hex::encode(value));
        Ok(vec![])
    }

    fn verify(&mut self, data: &[u8]) -> Answer {
        if data.is_empty() {
            return match (self.session.pin, self.state.pin.tries) {
                (true, _) => Ok(vec![]),
                (false, 0) => Err(BLOCKED),
                (false, tries) => Err(0x63C0 | u16::from(tries)),
            };
        }
        self.session.pin = false;
        check(&mut self.state.pin, data)?;
        self.session.pin = true;
        Ok(vec![])
    }

    fn change(&mut self, which: u8, data: &[u8]) -> Answer {
        let (old, new) = data.split_at_checked(8).ok_or(WRONG_LENGTH)?;
        let new = unpadded(new).ok_or(WRONG_DATA)?;
        let secret = if which == 0x80 { &mut self.state.pin } else { &mut self.state.puk };
        check(secret, old)?;
        secret.value = new;
        Ok(vec![])
    }

    fn unblock(&mut self, data: &[u8]) -> Answer {
        let (puk, pin) = data.split_at_checked(8).ok_or(WRONG_LENGTH)?;
        let pin = unpadded(pin).ok_or(WRONG_DATA)?;
        check(&mut self.state.puk, puk)?;
        self.state.pin.value = pin;
        self.state.pin.tries = self.state.pin.limit;
        self.session.pin = false;
        Ok(vec![])
    }

    fn generate(&mut self, data: &[u8]) -> Answer {
        if !self.session.management {
            return Err(SECURITY);
        }
        let template = tlv::find(data, 0xAC).ok_or(WRONG_DATA)?;
        let &[algorithm] = tlv::find(template, 0x80).ok_or(WRONG_DATA)? else {
            return Err(WRONG_DATA);
        };
        let key = SlotKey::generate(algorithm).map_err(|_| WRONG_DATA)?;
        let public = key.public().map_err(|_| CONDITIONS)?;
        self.state.key = Some(key);
        Ok(tlv::element(0x7F49, &public))
    }

    fn sign(&mut self, algorithm: u8, data: &[u8]) -> Answer {
        let template = tlv::find(data, 0x7C).ok_or(WRONG_DATA)?;
        let key = self.state.key.as_ref().ok_or(NO_REFERENCE)?;
        if key.algorithm() != algorithm {
            return Err(WRONG_P1P2);
        }
        if !self.session.pin {
            return Err(SECURITY);
        }
        let input = tlv::find(template, 0x81).ok_or(WRONG_DATA)?;
        let signature = key.sign(input).map_err(|_| WRONG_DATA)?;
        Ok(tlv::element(0x7C, &tlv::element(0x82, &signature)))
    }

    /// Both ways to show the management key: the host encrypts our challenge, or decrypts our
    /// witness and has its own challenge encrypted.
    fn manage(&mut self, algorithm: u8, data: &[u8]) -> Answer {
        let asked = if algorithm == 0 { 0x03 } else { algorithm };
        if asked != self.state.management.algorithm {
            return Err(WRONG_P1P2);
        }
        let key = hex::decode(&self.state.management.key).map_err(|_| CONDITIONS)?;
        let (_, size) = keys::sizes(asked).ok_or(CONDITIONS)?;
        let encrypt = |data: &[u8]| keys::block(asked, &key, true, data).map_err(|_| WRONG_DATA);
        let template = tlv::find(data, 0x7C).ok_or(WRONG_DATA)?;
        let [witness, challenge, response] = [0x80, 0x81, 0x82].map(|tag| tlv::find(template, tag));
        let random = || {
            let mut bytes = vec![0; size];
            getrandom::fill(&mut bytes).map_err(|_| CONDITIONS)?;
            Ok::<_, u16>(bytes)
        };
        match (witness, challenge, response) {
            (Some([]), None, None) => {
                let fresh = random()?;
                let sent = encrypt(&fresh)?;
                self.session.witness = Some(fresh);
                Ok(tlv::element(0x7C, &tlv::element(0x80, &sent)))
            }
            (Some(shown), Some(theirs), None) => {
                let expected = self.session.witness.take().ok_or(CONDITIONS)?;
                if shown != expected {
                    return Err(SECURITY);
                }
                let answer = encrypt(theirs)?;
                self.session.management = true;
                Ok(tlv::element(0x7C, &tlv::element(0x82, &answer)))
            }
            (None, Some([]), None) => {
                let fresh = random()?;
                self.session.challenge = Some(fresh.clone());
                Ok(tlv::element(0x7C, &tlv::element(0x81, &fresh)))
            }
            (None, None, Some(shown)) => {
                let sent = self.session.challenge.take().ok_or(CONDITIONS)?;
                if shown != encrypt(&sent)? {
                    return Err(SECURITY);
                }
                self.session.management = true;
                Ok(vec![])
            }
            _ => Err(NO_FUNCTION),
        }
    }

    fn set_management(&mut self, data: &[u8]) -> Answer {
        if !self.session.management {
            return Err(SECURITY);
        }
        let &[algorithm, 0x9B, length, ref key @ ..] = data else { return Err(WRONG_DATA) };
        let (size, _) = keys::sizes(algorithm).ok_or(WRONG_DATA)?;
        if usize::from(length) != size || key.len() != size {
            return Err(WRONG_LENGTH);
        }
        self.state.management.algorithm = algorithm;
        self.state.management.key = hex::encode(key);
        Ok(vec![])
    }
}

/// A PIN without its padding of FF; none if it is not one.
fn unpadded(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().rposition(|b| *b != 0xFF)? + 1;
    let digits = &bytes[..end];
    let good = bytes.len() == 8 && digits.len() >= 6 && digits.iter().all(u8::is_ascii_digit);
    good.then(|| String::from_utf8_lossy(digits).into_owned())
}

fn check(secret: &mut Secret, shown: &[u8]) -> std::result::Result<(), u16> {
    if secret.tries == 0 {
        return Err(BLOCKED);
    }
    if shown.len() != 8 {
        return Err(WRONG_LENGTH);
    }
    if unpadded(shown).as_deref() == Some(&secret.value) {
        secret.tries = secret.limit;
        return Ok(());
    }
    secret.tries -= 1;
    // As SP 800-73-4 has it: the last wrong one still says how many are left.
    Err(0x63C0 | u16::from(secret.tries))
}
