//! The PIV application of a card: what SP 800-73-4 lets a host do, and one command beyond it.

use crate::{
    apdu::{self, Answer, Command, Link, Status},
    chuid::{self, Guid},
    error::CardError,
    key::{CardKey, KeyAlgorithm},
    management::{Algorithm, ManagementKey, challenge},
    pin::Pin,
    tlv::{self, TlvError},
};

/// The whole identifier with version 1.0: some cards take no shorter one.
const AID: [u8; 11] = [0xA0, 0, 0, 3, 8, 0, 0, 0x10, 0, 1, 0];
const CHUID: [u8; 3] = [0x5F, 0xC1, 0x02];
const CERTIFICATE_9A: [u8; 3] = [0x5F, 0xC1, 0x05];
const PIN: u8 = 0x80;
const PUK: u8 = 0x81;

/// A card whose PIV application is selected.
#[derive(Debug)]
pub struct Piv<L> {
    link: L,
    reader: String,
}

type Result<T> = std::result::Result<T, CardError>;

impl<L: Link> Piv<L> {
    /// Selects the PIV application of the card in `reader`.
    ///
    /// Errors: `NotPiv`, or what stands between us and the card.
    pub fn select(link: L, reader: &str) -> Result<Piv<L>> {
        let mut piv = Piv { link, reader: reader.into() };
        let command = Command::new(0xA4, 4, 0).data(AID).answered();
        let answer = piv.send(&command, "looking for its PIV application")?;
        let piv_answers = tlv::find(&answer.data, 0x61).is_ok();
        match answer.status {
            Status::Done if piv_answers => Ok(piv),
            _ => Err(CardError::NotPiv { reader: reader.into() }),
        }
    }

    /// Name of its reader.
    pub fn reader(&self) -> &str {
        &self.reader
    }

    /// What its CHUID says; none where it has none.
    pub fn guid(&mut self) -> Result<Option<Guid>> {
        let doing = "reading who it is";
        let Some(content) = self.object(&CHUID, doing)? else { return Ok(None) };
        chuid::guid(&content).map_err(nonsense(doing))
    }

    /// Writes who it is, and until which day ("20301231").
    pub fn set_chuid(&mut self, guid: &Guid, expires: &str) -> Result<()> {
        self.put(&CHUID, &chuid::content(guid, expires), "writing who it is")
    }

    /// The certificate in slot 9A, DER; none where there is none.
    pub fn certificate(&mut self) -> Result<Option<Vec<u8>>> {
        let doing = "reading its certificate";
        let Some(content) = self.object(&CERTIFICATE_9A, doing)? else { return Ok(None) };
        let compressed = match tlv::find(&content, 0x71) {
            Ok(info) => info.first().is_some_and(|b| b & 1 != 0),
            Err(_) => false,
        };
        if compressed {
            let what = "a compressed certificate, which is not read here".into();
            return Err(CardError::Nonsense { doing, what });
        }
        match tlv::find(&content, 0x70) {
            Ok(certificate) => Ok(Some(certificate.to_vec())),
            Err(TlvError::Missing(_)) => Ok(None),
            Err(e) => Err(nonsense(doing)(e)),
        }
    }

    /// Writes the certificate into slot 9A.
    pub fn set_certificate(&mut self, certificate: &[u8]) -> Result<()> {
        let content =
            [tlv::element(0x70, certificate), tlv::element(0x71, &[0]), tlv::element(0xFE, &[])];
        self.put(&CERTIFICATE_9A, &content.concat(), "writing its certificate")
    }

    /// Shows the PIN.
    ///
    /// Errors: `WrongPin`, `PinBlocked`.
    pub fn verify(&mut self, pin: &Pin) -> Result<()> {
        let doing = "showing the PIN";
        let command = Command::new(0x20, 0, PIN).data(pin.padded().to_vec());
        match self.send(&command, doing)?.status {
            Status::Wrong(left) => Err(CardError::WrongPin { left }),
            Status::Blocked => Err(CardError::PinBlocked),
            status => done(status, doing),
        }
    }

    /// Gives the card another PUK.
    ///
    /// Errors: `WrongPuk`, `PukBlocked`.
    pub fn change_puk(&mut self, old: &Pin, new: &Pin) -> Result<()> {
        let doing = "changing its PUK";
        let data = [*old.padded(), *new.padded()].concat();
        puk(self.send(&Command::new(0x24, 0, PUK).data(data), doing)?.status, doing)
    }

    /// Sets a PIN, whatever the old one was, blocked or not.
    ///
    /// Errors: `WrongPuk`, `PukBlocked`.
    pub fn set_pin(&mut self, by: &Pin, pin: &Pin) -> Result<()> {
        let doing = "setting its PIN";
        let data = [*by.padded(), *pin.padded()].concat();
        puk(self.send(&Command::new(0x2C, 0, PIN).data(data), doing)?.status, doing)
    }

    /// Shows the management key: the first of `keys` that is the card's. Gives which, and how the
    /// card uses it. The card shows that it has it, too, where it knows how.
    ///
    /// Errors: `ManagementUnknown`.
    pub fn manage(&mut self, keys: &[&ManagementKey]) -> Result<(usize, Algorithm)> {
        for algorithm in Algorithm::ALL {
            let mutual = match self.ask(algorithm, 0x80)? {
                Some(_) => true,
                None if self.ask(algorithm, 0x81)?.is_some() => false,
                None => continue,
            };
            for (n, key) in keys.iter().enumerate() {
                let shown = if mutual {
                    self.show_both_ways(algorithm, key)?
                } else {
                    self.show(algorithm, key)?
                };
                if shown {
                    return Ok((n, algorithm));
                }
            }
        }
        Err(CardError::ManagementUnknown { reader: self.reader.clone() })
    }

    /// Asks for a witness (0x80) or a challenge (0x81); none where the card gives none for this
    /// algorithm.
    fn ask(&mut self, algorithm: Algorithm, tag: u32) -> Result<Option<Vec<u8>>> {
        let asked = tlv::element(0x7C, &tlv::element(tag, &[]));
        let answer = self.general(algorithm.number(), 0x9B, asked, MANAGE)?;
        if answer.status != Status::Done {
            return Ok(None);
        }
        let block = inner(&answer.data, tag).map_err(nonsense(MANAGE))?;
        Ok((block.len() == algorithm.block_length()).then(|| block.to_vec()))
    }

    fn show_both_ways(&mut self, algorithm: Algorithm, key: &ManagementKey) -> Result<bool> {
        let Some(witness) = self.ask(algorithm, 0x80)? else { return Ok(false) };
        let shown = key.decrypt(algorithm, &witness).unwrap_or_default();
        let ours = challenge(algorithm)?;
        let data = [tlv::element(0x80, &shown), tlv::element(0x81, &ours)];
        let data = tlv::element(0x7C, &data.concat());
        let answer = self.general(algorithm.number(), 0x9B, data, MANAGE)?;
        if answer.status != Status::Done {
            return Ok(false);
        }
        let response = inner(&answer.data, 0x82).map_err(nonsense(MANAGE))?;
        if key.encrypt(algorithm, &ours).as_deref() != Some(response) {
            let what = "it took the management key and does not have it".into();
            return Err(CardError::Nonsense { doing: MANAGE, what });
        }
        Ok(true)
    }

    fn show(&mut self, algorithm: Algorithm, key: &ManagementKey) -> Result<bool> {
        let Some(theirs) = self.ask(algorithm, 0x81)? else { return Ok(false) };
        let shown = key.encrypt(algorithm, &theirs).unwrap_or_default();
        let data = tlv::element(0x7C, &tlv::element(0x82, &shown));
        Ok(self.general(algorithm.number(), 0x9B, data, MANAGE)?.status == Status::Done)
    }

    /// Gives the card another management key, for the algorithm it has; false where it does not
    /// know how. No standard has this command; cards of several makers do.
    pub fn set_management(&mut self, algorithm: Algorithm, key: &ManagementKey) -> Result<bool> {
        let doing = "changing its management key";
        let key = key.cut(algorithm);
        let length = u8::try_from(key.len()).expect("at most 32");
        let data = [&[algorithm.number(), 0x9B, length][..], key].concat();
        match self.send(&Command::new(0xFF, 0xFF, 0xFF).data(data), doing)?.status {
            Status::Unknown => Ok(false),
            status => done(status, doing).map(|()| true),
        }
    }

    /// Makes a key in slot 9A; the one that was there is gone.
    ///
    /// Errors: `NoSuchKey`.
    pub fn generate(&mut self, algorithm: KeyAlgorithm) -> Result<CardKey> {
        let doing = "making its key";
        let template = tlv::element(0xAC, &tlv::element(0x80, &[algorithm.number()]));
        let command = Command::new(0x47, 0, 0x9A).data(template).answered();
        let answer = self.send(&command, doing)?;
        match answer.status {
            Status::Unknown | Status::Other(0x6A80) => {
                return Err(CardError::NoSuchKey { algorithm: algorithm.to_string() });
            }
            status => done(status, doing)?,
        }
        let content = tlv::find(&answer.data, 0x7F49).map_err(nonsense(doing))?;
        CardKey::generated(algorithm, content).map_err(nonsense(doing))
    }

    /// A signature over `message` with SHA-256 by the key in slot 9A, whose PIN was shown:
    /// ECDSA in DER, or PKCS #1 v1.5.
    pub fn sign(&mut self, algorithm: KeyAlgorithm, message: &[u8]) -> Result<Vec<u8>> {
        let doing = "signing";
        let input = algorithm.input(message);
        let data = [tlv::element(0x82, &[]), tlv::element(0x81, &input)].concat();
        let data = tlv::element(0x7C, &data);
        let answer = self.general(algorithm.number(), 0x9A, data, doing)?;
        done(answer.status, doing)?;
        Ok(inner(&answer.data, 0x82).map_err(nonsense(doing))?.to_vec())
    }

    fn general(&mut self, algorithm: u8, slot: u8, data: Vec<u8>, doing: Doing) -> Result<Answer> {
        self.send(&Command::new(0x87, algorithm, slot).data(data).answered(), doing)
    }

    fn object(&mut self, tag: &[u8], doing: Doing) -> Result<Option<Vec<u8>>> {
        let command = Command::new(0xCB, 0x3F, 0xFF).data(tlv::element(0x5C, tag)).answered();
        let answer = self.send(&command, doing)?;
        match answer.status {
            Status::NotFound => Ok(None),
            status => {
                done(status, doing)?;
                let content = tlv::find(&answer.data, 0x53).map_err(nonsense(doing))?;
                Ok((!content.is_empty()).then(|| content.to_vec()))
            }
        }
    }

    fn put(&mut self, tag: &[u8], content: &[u8], doing: Doing) -> Result<()> {
        let data = [tlv::element(0x5C, tag), tlv::element(0x53, content)].concat();
        done(self.send(&Command::new(0xDB, 0x3F, 0xFF).data(data), doing)?.status, doing)
    }

    fn send(&mut self, command: &Command, doing: Doing) -> Result<Answer> {
        apdu::exchange(&mut self.link, command)
            .map_err(|e| CardError::broken_link(e, &self.reader, doing))
    }
}

type Doing = &'static str;

const MANAGE: Doing = "showing the management key";

fn inner(data: &[u8], tag: u32) -> std::result::Result<&[u8], TlvError> {
    tlv::find(tlv::find(data, 0x7C)?, tag)
}

fn puk(status: Status, doing: Doing) -> Result<()> {
    match status {
        Status::Wrong(left) => Err(CardError::WrongPuk { left }),
        Status::Blocked => Err(CardError::PukBlocked),
        status => done(status, doing),
    }
}

fn done(status: Status, doing: Doing) -> Result<()> {
    let status = match status {
        Status::Done => return Ok(()),
        Status::Other(word) => format!("{word:04X}"),
        other => format!("{other:?}"),
    };
    Err(CardError::Refused { doing, status })
}

fn nonsense(doing: Doing) -> impl Fn(TlvError) -> CardError {
    move |e| CardError::Nonsense { doing, what: e.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apdu::LinkError;
    use proptest::prelude::*;

    /// A card that answers whatever comes to its mind.
    struct Hostile(Vec<Vec<u8>>);

    impl Link for Hostile {
        fn transmit(&mut self, _command: &[u8]) -> std::result::Result<Vec<u8>, LinkError> {
            self.0.pop().ok_or(LinkError::PulledOut)
        }
    }

    fn answer() -> impl Strategy<Value = Vec<u8>> {
        let body = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(|v| tlv::element(0x53, &v)),
            prop::collection::vec(any::<u8>(), 0..40)
                .prop_map(|v| tlv::element(0x7C, &tlv::element(0x82, &v))),
            prop::collection::vec(any::<u8>(), 0..70)
                .prop_map(|v| tlv::element(0x7F49, &tlv::element(0x86, &v))),
        ];
        let word = prop::sample::select(vec![0x9000_u16, 0x9000, 0x6110, 0x6C05, 0x63C1, 0x6983]);
        (body, word).prop_map(|(mut body, word)| {
            body.extend(word.to_be_bytes());
            body
        })
    }

    proptest! {
        #[test]
        fn a_hostile_card_gives_an_error_at_worst(answers in prop::collection::vec(answer(), 0..12)) {
            let mut piv = Piv { link: Hostile(answers), reader: "r".into() };
            let _ = piv.guid();
            let _ = piv.certificate();
            let _ = piv.generate(KeyAlgorithm::EcP256);
            let _ = piv.sign(KeyAlgorithm::Rsa2048, b"x");
            let _ = piv.manage(&[&ManagementKey::factory()]);
        }
    }
}
