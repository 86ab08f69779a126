//! A public key that a card presents. It comes from a card that anybody may have made, so it is
//! read strictly: two forms, each written in just one way.

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::signature::{ECDSA_P256_SHA256_ASN1, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

/// Why a key, or what it says, is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CardKeyError {
    /// It is of another kind, or not encoded in the one way there is.
    #[error("the card's public key is neither EC on P-256 nor RSA")]
    Form,
    /// It is too weak, or larger than cards have.
    #[error("the card's key is RSA of {0} bits, and 2048 to 4096 are taken")]
    Size(usize),
    /// The signature is not that of this key over what was asked.
    #[error("the card's signature does not fit its public key and what it was asked to sign")]
    Signature,
}

/// A key that a card presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentedKey {
    spki: Vec<u8>,
    form: Form,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// An uncompressed point.
    P256(Vec<u8>),
    /// Modulus and exponent, big-endian, without zeros in front; both as RSAPublicKey in DER.
    Rsa { modulus: Vec<u8>, exponent: Vec<u8>, pkcs1: Vec<u8> },
}

/// What stands before the point in the SubjectPublicKeyInfo of a key on P-256.
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The algorithm of an RSA key.
const RSA: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

impl PresentedKey {
    /// The key in `spki`, a SubjectPublicKeyInfo in DER.
    ///
    /// Errors: anything but a point on P-256 without compression, or RSA of 2048 to 4096 bits.
    pub fn parse(spki: &[u8]) -> Result<PresentedKey, CardKeyError> {
        if let Some(point) = spki.strip_prefix(P256) {
            let uncompressed = point.len() == 65 && point[0] == 4;
            let form = uncompressed.then(|| Form::P256(point.into())).ok_or(CardKeyError::Form)?;
            return Ok(PresentedKey { spki: spki.into(), form });
        }
        let (modulus, exponent) = rsa_parts(spki).ok_or(CardKeyError::Form)?;
        let bits = modulus.len() * 8 - modulus[0].leading_zeros() as usize;
        if !(2048..=4096).contains(&bits) {
            return Err(CardKeyError::Size(bits));
        }
        let pkcs1 = tlv(0x30, &[integer(modulus), integer(exponent)].concat());
        let whole = tlv(0x30, &[RSA.to_vec(), tlv(0x03, &[&[0], &pkcs1[..]].concat())].concat());
        if whole != spki {
            return Err(CardKeyError::Form);
        }
        let (modulus, exponent) = (modulus.into(), exponent.into());
        Ok(PresentedKey { spki: whole, form: Form::Rsa { modulus, exponent, pkcs1 } })
    }

    /// Whether `signature` is this key's over `message`: ECDSA in DER or RSA PKCS #1 v1.5, with
    /// SHA-256. A point that is not on the curve fails here.
    pub fn check(&self, message: &[u8], signature: &[u8]) -> Result<(), CardKeyError> {
        let checked = match &self.form {
            Form::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(message, signature)
            }
            Form::Rsa { pkcs1, .. } => UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pkcs1)
                .verify(message, signature),
        };
        checked.map_err(|_| CardKeyError::Signature)
    }

    /// The key as OpenSSH writes it: type and base64.
    pub fn openssh(&self) -> String {
        let (kind, parts) = match &self.form {
            Form::P256(point) => ("ecdsa-sha2-nistp256", [b"nistp256".to_vec(), point.clone()]),
            Form::Rsa { modulus, exponent, .. } => {
                ("ssh-rsa", [unsigned(exponent), unsigned(modulus)])
            }
        };
        let mut blob = Vec::new();
        for part in [kind.as_bytes(), &parts[0], &parts[1]] {
            let length = u32::try_from(part.len()).expect("keys are short");
            blob.extend(length.to_be_bytes());
            blob.extend(part);
        }
        format!("{kind} {}", BASE64_STANDARD.encode(blob))
    }

    /// Its SubjectPublicKeyInfo in DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }
}

/// Modulus and exponent of an RSA key, without zeros in front. What is looser than DER is found by
/// writing the key anew.
fn rsa_parts(spki: &[u8]) -> Option<(&[u8], &[u8])> {
    let (inside, _) = content(0x30, spki)?;
    let (bits, _) = content(0x03, inside.strip_prefix(RSA)?)?;
    let (key, _) = content(0x30, bits.strip_prefix(&[0])?)?;
    let (modulus, rest) = content(0x02, key)?;
    let (exponent, _) = content(0x02, rest)?;
    let bare = |number: &[u8]| number.iter().position(|byte| *byte != 0);
    Some((&modulus[bare(modulus)?..], &exponent[bare(exponent)?..]))
}

/// What is in the element with `tag` at the beginning of `der`, and what follows it.
fn content(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match der {
        [first, length @ ..=0x7f, rest @ ..] if *first == tag => (usize::from(*length), rest),
        [first, 0x81, length, rest @ ..] if *first == tag => (usize::from(*length), rest),
        [first, 0x82, high, low, rest @ ..] if *first == tag => {
            (usize::from(u16::from_be_bytes([*high, *low])), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("keys are short").to_be_bytes();
    let mut der = vec![tag];
    match length {
        [0, low @ ..=0x7f] => der.push(low),
        [0, low] => der.extend([0x81, low]),
        [high, low] => der.extend([0x82, high, low]),
    }
    der.extend(content);
    der
}

fn integer(number: &[u8]) -> Vec<u8> {
    tlv(0x02, &unsigned(number))
}

/// The number with a zero in front where it would be negative otherwise.
fn unsigned(number: &[u8]) -> Vec<u8> {
    let sign: &[u8] = if number.first().is_some_and(|byte| byte & 0x80 != 0) { &[0] } else { &[] };
    [sign, number].concat()
}

#[cfg(test)]
mod tests {
    use super::{super::pem, *};
    use std::{fs, path::Path, process::Command};

    fn run(program: &str, args: &[&str], at: &Path) -> Vec<u8> {
        let output = Command::new(program).args(args).current_dir(at).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {said}");
        output.stdout
    }

    /// A key by OpenSSL, its SubjectPublicKeyInfo, and its signature over `m`.
    fn made(at: &Path, args: &[&str]) -> (Vec<u8>, Vec<u8>) {
        run("openssl", &[&["genpkey", "-out", "k"], args].concat(), at);
        let spki = run("openssl", &["pkey", "-in", "k", "-pubout", "-outform", "DER"], at);
        fs::write(at.join("m"), b"a challenge").expect("written");
        (spki, run("openssl", &["dgst", "-sha256", "-sign", "k", "m"], at))
    }

    const EC: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

    #[test]
    fn keys_and_signatures_of_openssl_are_taken_and_written_as_ssh_keygen_does() {
        let at = tempfile::tempdir().expect("a folder");
        let rsa: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
        let rsa3: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"];
        for args in [EC, rsa, rsa3] {
            let (spki, signature) = made(at.path(), args);
            let key = PresentedKey::parse(&spki).expect("one that cards have");
            assert_eq!(key.spki(), spki);
            key.check(b"a challenge", &signature).expect("its own");
            assert_eq!(key.check(b"another", &signature), Err(CardKeyError::Signature));
            fs::write(at.path().join("p"), pem("PUBLIC KEY", &spki)).expect("written");
            let line = run("ssh-keygen", &["-i", "-m", "PKCS8", "-f", "p"], at.path());
            assert_eq!(key.openssh(), String::from_utf8_lossy(&line).trim());

            let (other, _) = made(at.path(), args);
            let other = PresentedKey::parse(&other).expect("one that cards have");
            assert_eq!(other.check(b"a challenge", &signature), Err(CardKeyError::Signature));
        }
    }

    #[test]
    fn weak_keys_other_kinds_and_other_ways_to_write_them_are_refused() {
        let at = tempfile::tempdir().expect("a folder");
        let parse = |args: &[&str]| PresentedKey::parse(&made(at.path(), args).0);
        let weak = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"];
        assert_eq!(parse(&weak), Err(CardKeyError::Size(1024)));
        let p384 = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
        assert_eq!(parse(&p384), Err(CardKeyError::Form));

        let (ec, _) = made(at.path(), EC);
        let rsa = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
        let (rsa, _) = made(at.path(), &rsa);
        for good in [ec, rsa] {
            for length in 0..good.len() {
                let cut = PresentedKey::parse(&good[..length]);
                assert_eq!(cut, Err(CardKeyError::Form), "cut to {length}");
            }
            let more = [&good[..], &[0]].concat();
            assert_eq!(PresentedKey::parse(&more), Err(CardKeyError::Form));
            // Whatever one byte of the frame says otherwise is another key or none, never a panic.
            for at in 0..40 {
                let mut bent = good.clone();
                bent[at] ^= 0x01;
                let _ = PresentedKey::parse(&bent);
            }
        }
    }

    #[test]
    fn a_point_beside_the_curve_signs_nothing() {
        let at = tempfile::tempdir().expect("a folder");
        let (mut spki, signature) = made(at.path(), EC);
        *spki.last_mut().expect("a byte") ^= 1;
        let key = PresentedKey::parse(&spki).expect("the form is right");
        assert_eq!(key.check(b"a challenge", &signature), Err(CardKeyError::Signature));
    }
}
