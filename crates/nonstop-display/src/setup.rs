//! What `nonstopd` writes, as JSON, into the descriptor 2 of a viewer that it starts. The viewer
//! reads it to its end and replaces that descriptor by `/dev/null`.

use serde::{Deserialize, Serialize};

/// The longest setup in bytes.
pub const LONGEST: usize = 16 * 1024;

/// A worker's setup. Never logged: it holds a private key.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerSetup {
    /// The certificate that it shows and its issuers', each as base64 of DER.
    pub certificates: Vec<String>,
    /// The private key to the first, as base64 of PKCS #8.
    pub key: String,
}

/// A recorder's setup.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecorderSetup {
    /// For whom to encrypt: `age1…`.
    pub recipient: String,
    /// The most bytes that it writes.
    pub max_bytes: u64,
}

/// The setup of what decrypts a recording. Never logged: it holds a private key.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlayerSetup {
    /// With which to decrypt: `AGE-SECRET-KEY-1…`.
    pub identity: String,
}
