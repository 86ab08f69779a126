//! The file: a profile in JSON, signed by the lab's authority, whose key stands beside.
//!
//! The key beside says nothing by itself: it is known by its fingerprint, which the PIN letter has
//! and which a PC keeps from the first profile on.

use crate::{FILE_BYTES, Fingerprint, Profile, ProfileError};
use base64::{Engine, prelude::BASE64_STANDARD};
use p256::{
    ecdsa::{Signature, VerifyingKey, signature::Verifier},
    pkcs8::DecodePublicKey,
};
use serde::{Deserialize, Serialize};
use std::error::Error;

/// Stands before the payload where it is signed, so that no other signature of the authority's
/// (it signs certificates, too) is one of a profile.
const WHAT: &[u8] = b"nonstop profile 1\n";

/// A file with a right signature by the key that stands in it, whose fingerprint nobody has looked
/// at yet.
#[derive(Debug, Clone)]
pub struct Sealed {
    authority: Fingerprint,
    payload: Vec<u8>,
}

/// Why a profile was not sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It would be refused.
    #[error("the profile would be refused: {0}")]
    Profile(#[from] ProfileError),
    /// The key did not sign.
    #[error("sign the profile")]
    Sign(#[source] Box<dyn Error + Send + Sync>),
    /// The signature is not one of that key.
    #[error("the signature does not fit the authority's key")]
    Key(#[source] OpenError),
}

/// Why a file was refused.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Longer than any profile is.
    #[error("it has {0} bytes, more than the {FILE_BYTES} that a profile may have")]
    Long(usize),
    /// No profile at all, or torn.
    #[error("it is no profile: {0}")]
    Form(String),
    /// The key in it is no P-256 key.
    #[error("the authority's key in it is none")]
    Authority,
    /// Changed after it was signed, or signed with another key.
    #[error("its signature is wrong: it was changed after it was signed")]
    Signature,
    /// Another lab's, or a forger's.
    #[error("it is signed by {signed}, and the authority that is trusted is {trusted}")]
    Other {
        /// By whom it is signed.
        signed: Fingerprint,
        /// By whom it should be.
        trusted: Fingerprint,
    },
    /// A word in it is not what it should be.
    #[error("a word in it is refused: {0}")]
    Word(String),
    /// The words do not go together.
    #[error("{0}")]
    Profile(#[from] ProfileError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    payload: String,
    signature: String,
    authority: String,
}

impl Sealed {
    /// Writes `profile` as a file. `authority` is the public key of the lab's authority
    /// (SubjectPublicKeyInfo in DER, P-256); `sign` gives its signature (ECDSA with SHA-256, in DER)
    /// over the bytes that it is handed. What was written is read again before it is given.
    pub fn write<E: Into<Box<dyn Error + Send + Sync>>>(
        profile: &Profile,
        authority: &[u8],
        sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<String, SealError> {
        profile.check()?;
        let payload = serde_json::to_vec(profile).map_err(|e| SealError::Sign(e.into()))?;
        let signature = sign(&signed(&payload)).map_err(|e| SealError::Sign(e.into()))?;
        let file = File {
            payload: BASE64_STANDARD.encode(&payload),
            signature: BASE64_STANDARD.encode(signature),
            authority: BASE64_STANDARD.encode(authority),
        };
        let text =
            serde_json::to_string_pretty(&file).map_err(|e| SealError::Sign(e.into()))? + "\n";
        let read = Sealed::read(text.as_bytes()).map_err(SealError::Key)?;
        read.open(&Fingerprint::of(authority)).map_err(SealError::Key)?;
        Ok(text)
    }

    /// Reads a file and checks its signature against the key that stands in it.
    pub fn read(file: &[u8]) -> Result<Sealed, OpenError> {
        if file.len() > FILE_BYTES {
            return Err(OpenError::Long(file.len()));
        }
        let form = |what: &str| OpenError::Form(what.into());
        let file: File = serde_json::from_slice(file).map_err(|e| form(&e.to_string()))?;
        let bytes = |text: &str| BASE64_STANDARD.decode(text).map_err(|_| form("broken base64"));
        let (payload, signature) = (bytes(&file.payload)?, bytes(&file.signature)?);
        let authority = bytes(&file.authority)?;
        let key =
            VerifyingKey::from_public_key_der(&authority).map_err(|_| OpenError::Authority)?;
        let signature = Signature::from_der(&signature).map_err(|_| OpenError::Signature)?;
        key.verify(&signed(&payload), &signature).map_err(|_| OpenError::Signature)?;
        Ok(Sealed { authority: Fingerprint::of(&authority), payload })
    }

    /// The fingerprint of the key that signed it.
    pub fn authority(&self) -> Fingerprint {
        self.authority
    }

    /// The profile, if `trusted` signed it.
    pub fn open(&self, trusted: &Fingerprint) -> Result<Profile, OpenError> {
        if self.authority != *trusted {
            return Err(OpenError::Other { signed: self.authority, trusted: *trusted });
        }
        let profile: Profile =
            serde_json::from_slice(&self.payload).map_err(|e| OpenError::Word(e.to_string()))?;
        profile.check()?;
        Ok(profile)
    }
}

fn signed(payload: &[u8]) -> Vec<u8> {
    [WHAT, payload].concat()
}
