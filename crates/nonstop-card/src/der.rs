//! As much DER as it takes to name a public key, and to find it in a certificate.

use crate::{
    key::KeyAlgorithm,
    tlv::{self, TlvError},
};

/// AlgorithmIdentifier's content: id-ecPublicKey, prime256v1.
pub(crate) const EC_P256: [u8; 19] = [
    0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01, 0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D,
    0x03, 0x01, 0x07,
];

/// AlgorithmIdentifier's content: rsaEncryption, NULL.
pub(crate) const RSA: [u8; 13] =
    [0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01, 0x05, 0x00];

/// What stands before a SHA-256 digest in PKCS #1 v1.5.
pub(crate) const SHA256_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];

const SEQUENCE: u32 = 0x30;
const INTEGER: u32 = 0x02;
const BIT_STRING: u32 = 0x03;
const VERSION: u32 = 0xA0;

/// A SubjectPublicKeyInfo of an algorithm and a key.
pub(crate) fn spki(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let bits = [&[0][..], key].concat();
    let content = [tlv::element(SEQUENCE, algorithm), tlv::element(BIT_STRING, &bits)].concat();
    tlv::element(SEQUENCE, &content)
}

/// An INTEGER that is not negative.
pub(crate) fn unsigned(number: &[u8]) -> Vec<u8> {
    let negative = number.first().is_some_and(|b| b & 0x80 != 0);
    let zero: &[u8] = if negative { &[0] } else { &[] };
    tlv::element(INTEGER, &[zero, number].concat())
}

/// The SubjectPublicKeyInfo within a certificate.
///
/// Errors: `Broken`, or something is missing.
pub fn spki_of(certificate: &[u8]) -> Result<&[u8], TlvError> {
    let (outer, _) = expect(certificate, SEQUENCE)?;
    let (body, _) = expect(outer, SEQUENCE)?;
    let (head, after) = tlv::first(body)?;
    let mut rest = if head.tag == VERSION { after } else { body };
    // Serial number, signature's algorithm, issuer, validity, subject.
    for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE] {
        rest = expect(rest, tag)?.1;
    }
    let (spki, _) = tlv::first(rest)?;
    if spki.tag == SEQUENCE { Ok(spki.whole) } else { Err(TlvError::Missing(SEQUENCE)) }
}

/// What kind of key a SubjectPublicKeyInfo is.
///
/// Errors: it is broken, or neither P-256 nor RSA-2048.
pub(crate) fn algorithm(spki: &[u8]) -> Result<KeyAlgorithm, TlvError> {
    let (content, _) = expect(spki, SEQUENCE)?;
    let (algorithm, rest) = expect(content, SEQUENCE)?;
    let (bits, _) = expect(rest, BIT_STRING)?;
    let key = bits.strip_prefix(&[0]).ok_or(TlvError::Broken)?;
    if algorithm == EC_P256 && key.len() == 65 && key[0] == 4 {
        return Ok(KeyAlgorithm::EcP256);
    }
    if algorithm == RSA {
        let (numbers, _) = expect(key, SEQUENCE)?;
        let (modulus, _) = expect(numbers, INTEGER)?;
        if modulus.len() == 257 && modulus[0] == 0 && modulus[1] & 0x80 != 0 {
            return Ok(KeyAlgorithm::Rsa2048);
        }
    }
    Err(TlvError::Broken)
}

fn expect(data: &[u8], tag: u32) -> Result<(&[u8], &[u8]), TlvError> {
    let (element, rest) = tlv::first(data)?;
    if element.tag == tag { Ok((element.value, rest)) } else { Err(TlvError::Missing(tag)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_key_of_a_certificate_is_found() {
        let key = spki(&EC_P256, &[4; 65]);
        let sequence = |content: &[u8]| tlv::element(SEQUENCE, content);
        let fields = [
            tlv::element(VERSION, &tlv::element(INTEGER, &[2])),
            tlv::element(INTEGER, &[1]),
            sequence(b""),
            sequence(b""),
            sequence(b""),
            sequence(b""),
            key.clone(),
        ];
        for fields in [&fields[..], &fields[1..]] {
            let certificate = sequence(&sequence(&fields.concat()));
            assert_eq!(spki_of(&certificate), Ok(&key[..]));
        }
        assert_eq!(algorithm(&spki(&EC_P256, &[3; 65])), Err(TlvError::Broken));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(data in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(spki) = spki_of(&data) {
                let _kind = algorithm(spki);
            }
        }
    }
}
