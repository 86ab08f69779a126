//! The secret of the lab's cards. What manages a card derives from it and from the card's GUID, so
//! that the lab keeps nothing of single cards, and whoever has a card and its PIN manages nothing.

use super::{folder, write_whole};
use crate::HostError;
use nonstop_model::CardGuid;
use ring::{
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
    rand::{SecureRandom, SystemRandom},
};
use std::{fs, io, path::Path};

/// 32 random bytes, as the key of a derivation.
pub struct CardSecret(Prk);

impl std::fmt::Debug for CardSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CardSecret")
    }
}

const BYTES: usize = 32;

impl CardSecret {
    /// The secret in the authority's folder `at`, which is made if there is none; whole or absent
    /// after a power cut. Without it no card of the lab can be issued again or unblocked.
    ///
    /// Errors: the file is not 32 bytes long.
    pub fn open(at: &Path) -> Result<CardSecret, HostError> {
        let path = at.join("card.secret");
        let doing = || format!("read the secret of cards {}", path.display());
        let secret = match fs::read(&path) {
            Ok(secret) => secret,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let mut secret = vec![0; BYTES];
                SystemRandom::new()
                    .fill(&mut secret)
                    .map_err(|_| HostError::new(doing(), "the kernel gave no random bytes"))?;
                folder(at)
                    .and_then(|()| write_whole(&path, &secret))
                    .map_err(|e| HostError::new(doing(), e))?;
                secret
            }
            Err(e) => return Err(HostError::new(doing(), e)),
        };
        if secret.len() != BYTES {
            let why = format!("it has {} bytes, not {BYTES}", secret.len());
            return Err(HostError::new(doing(), why)
                .help("restore it from a backup: cards that were issued derive from it"));
        }
        Ok(CardSecret(Salt::new(HKDF_SHA256, &[]).extract(&secret)))
    }

    /// What the management key of the card `guid` is cut from.
    pub fn management(&self, guid: CardGuid) -> [u8; 32] {
        self.derive("nonstop card management", guid)
    }

    /// The PUK of the card `guid`: 8 digits, each as likely as the others.
    pub fn puk(&self, guid: CardGuid) -> String {
        let bytes: [u8; 64] = self.derive("nonstop card puk", guid);
        // From 250 on the first digits would be likelier.
        let digits = bytes.into_iter().filter(|byte| *byte < 250);
        let puk: String = digits.take(8).map(|byte| char::from(b'0' + byte % 10)).collect();
        assert_eq!(puk.len(), 8, "of 64 random bytes 57 are never 250 or more");
        puk
    }

    fn derive<const N: usize>(&self, what: &str, guid: CardGuid) -> [u8; N] {
        struct Length(usize);
        impl KeyType for Length {
            fn len(&self) -> usize {
                self.0
            }
        }
        let mut key = [0; N];
        self.0
            .expand(&[what.as_bytes(), &guid.0], Length(N))
            .and_then(|okm| okm.fill(&mut key))
            .expect("fewer bytes than 255 hashes have");
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// By Python's `hmac` over the same secret: extract with an empty salt, expand with the info.
    #[test]
    fn what_manages_a_card_derives_as_rfc_5869_says() {
        let at = tempfile::tempdir().expect("a folder");
        fs::write(at.path().join("card.secret"), [7; 32]).expect("written");
        let secret = CardSecret::open(at.path()).expect("read");
        let guid = CardGuid(*b"0123456789abcdef");
        assert_eq!(
            hex::encode(secret.management(guid)),
            "d40ac3eb2d5e022732e54892bf7ba322646b6e7932b8a3b0e1d7097536bb636f"
        );
        assert_eq!(secret.puk(guid), "29637224");
        let other = CardGuid(*b"0123456789abcdeg");
        assert_ne!(secret.management(guid), secret.management(other));
        assert_ne!(secret.puk(guid), secret.puk(other));
    }

    #[test]
    fn the_secret_is_made_once_is_roots_alone_and_a_cut_one_is_told() {
        let at = tempfile::tempdir().expect("a folder");
        let guid = CardGuid([9; 16]);
        let first = CardSecret::open(at.path()).expect("made").management(guid);
        assert_eq!(CardSecret::open(at.path()).expect("read").management(guid), first);
        let path = at.path().join("card.secret");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&path, [7; 31]).expect("written");
        let error = CardSecret::open(at.path()).expect_err("refused");
        assert!(error.help.contains("backup"), "{error}");
    }
}
