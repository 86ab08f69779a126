//! The lab's authority, as heads show it: its public key, which is believed by its fingerprint alone.

use base64::{Engine, prelude::BASE64_STANDARD};
use nonstop_profile::Fingerprint;
use p256::{
    ecdsa::{Signature, VerifyingKey, signature::Verifier},
    pkcs8::DecodePublicKey,
};
use serde::{Deserialize, Serialize};
use std::{error::Error, fmt};

/// What signs heads: the lab's authority, or a test's.
pub trait Sign {
    /// Its public key: SubjectPublicKeyInfo in DER, on P-256.
    fn public_key(&self) -> Vec<u8>;

    /// What its key says to `message`: ECDSA with SHA-256, in DER.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>>;
}

/// A key that is none, or a signature that is not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a SubjectPublicKeyInfo of a key on P-256.
    #[error("the authority's key is no key on P-256")]
    Key,
    /// Not base64, or not written in the one way there is.
    #[error("broken base64")]
    Base64,
    /// Not a signature of this key over these bytes.
    #[error("the signature does not fit")]
    Signature,
}

/// The public key of a lab's authority: SubjectPublicKeyInfo in DER, in files as base64.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct AuthorityKey(Vec<u8>);

impl AuthorityKey {
    /// The key in `spki`.
    pub fn from_der(spki: Vec<u8>) -> Result<AuthorityKey, KeyError> {
        VerifyingKey::from_public_key_der(&spki).map_err(|_| KeyError::Key)?;
        Ok(AuthorityKey(spki))
    }

    /// How it is known: what PIN letters show, `nonstop whoami` too.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.0)
    }

    /// Whether `signature` (DER) is this key's over `message`.
    pub(crate) fn check(&self, message: &[u8], signature: &[u8]) -> Result<(), KeyError> {
        let key = VerifyingKey::from_public_key_der(&self.0).map_err(|_| KeyError::Key)?;
        let signature = Signature::from_der(signature).map_err(|_| KeyError::Signature)?;
        key.verify(message, &signature).map_err(|_| KeyError::Signature)
    }
}

impl fmt::Debug for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorityKey({})", self.fingerprint())
    }
}

impl TryFrom<String> for AuthorityKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<AuthorityKey, KeyError> {
        AuthorityKey::from_der(decode(&text)?)
    }
}

impl From<AuthorityKey> for String {
    fn from(key: AuthorityKey) -> String {
        BASE64_STANDARD.encode(key.0)
    }
}

/// The bytes of `text`, if it is the one way to write them.
fn decode(text: &str) -> Result<Vec<u8>, KeyError> {
    let bytes = BASE64_STANDARD.decode(text).map_err(|_| KeyError::Base64)?;
    if BASE64_STANDARD.encode(&bytes) == text { Ok(bytes) } else { Err(KeyError::Base64) }
}

/// Bytes of a signature, in files as base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct SignatureBytes(pub(crate) Vec<u8>);

impl TryFrom<String> for SignatureBytes {
    type Error = KeyError;

    fn try_from(text: String) -> Result<SignatureBytes, KeyError> {
        decode(&text).map(SignatureBytes)
    }
}

impl From<SignatureBytes> for String {
    fn from(signature: SignatureBytes) -> String {
        BASE64_STANDARD.encode(signature.0)
    }
}
