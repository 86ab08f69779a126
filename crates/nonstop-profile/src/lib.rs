//! What a researcher's PC is told of a lab: where its gateway is and which keys that shows, whose
//! account this is, where portal, file transfer and desktops are. No secret.
//!
//! The file is read on a PC that trusts nobody yet, and its words end up in the arguments of `ssh`
//! and of RDP clients. So each word is parsed into a type whose text can be nothing else: no option,
//! command, path, escape of a terminal or second line. What does not parse is refused, never mended.
//! A [`Sealed`] file gives its [`Profile`] only to who says by which authority it must be signed.

mod fingerprint;
mod host;
mod host_key;
mod moment;
mod seal;
mod word;

pub use fingerprint::{CertificateDigest, Fingerprint, FingerprintError};
pub use host::{Address, Host, HostError, Port, Target};
pub use host_key::{HostKey, HostKeyError};
pub use moment::Moment;
pub use seal::{OpenError, SealError, Sealed};
pub use word::{Account, EnvironmentName, Plain, RoleName, UserName, WordError};

use serde::{Deserialize, Serialize};

/// The longest file in bytes.
pub const FILE_BYTES: usize = 64 << 10;
/// The most host keys: old and new of each kind while they are changed.
pub const HOST_KEYS: usize = 8;
/// The most desktops.
pub const DESKTOPS: usize = 64;

/// What a researcher's PC is told of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The lab's name, to be shown.
    pub lab: Plain,
    /// Its only way in.
    pub gateway: Gateway,
    /// Keys that the gateway may show: several while one follows another.
    pub host_keys: Vec<HostKey>,
    /// Who is to log in.
    pub account: Account,
    /// The portal, as seen from the gateway.
    pub portal: Target,
    /// The file transfer, likewise. None in files made before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<Target>,
    /// Desktops there were when the file was made.
    pub desktops: Vec<Desktop>,
    /// When the file was made. A younger one takes the place of an older one.
    pub issued_at: Moment,
}

/// Where sshd listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Name or address.
    pub host: Host,
    /// TCP port.
    pub port: Port,
}

/// A machine's desktop, served over RDP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desktop {
    /// Of which environment, as the portal calls it.
    pub environment: EnvironmentName,
    /// Of which of its machines.
    pub role: RoleName,
    /// What it is, to be shown.
    pub title: Plain,
    /// Where it is served, as seen from the gateway.
    pub target: Target,
    /// SHA-256 of its certificate. None where the guest's own server makes one anew with each
    /// revert: then the tunnel alone says whom one reaches.
    pub certificate: Option<CertificateDigest>,
    /// Whom the guest's own server asks for; None for a display, which asks for nobody.
    pub user: Option<UserName>,
    /// When the right to it ends.
    pub until: Moment,
}

/// What is wrong with a profile whose words are each right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Without one the gateway could not be told from another host.
    #[error("it has {0} host keys, not 1 to {HOST_KEYS}")]
    HostKeys(usize),
    /// More than a person has.
    #[error("it has {0} desktops, and at most {DESKTOPS} are taken")]
    Desktops(usize),
    /// Two of one kind with one name.
    #[error("it names {0} twice")]
    Twice(String),
}

impl Profile {
    /// Looks at what no single word shows: how many there are, and whether two are the same.
    pub fn check(&self) -> Result<(), ProfileError> {
        if self.host_keys.is_empty() || self.host_keys.len() > HOST_KEYS {
            return Err(ProfileError::HostKeys(self.host_keys.len()));
        }
        if self.desktops.len() > DESKTOPS {
            return Err(ProfileError::Desktops(self.desktops.len()));
        }
        for (n, key) in self.host_keys.iter().enumerate() {
            if self.host_keys[..n].contains(key) {
                return Err(ProfileError::Twice(format!("the host key {}", key.fingerprint())));
            }
        }
        for (n, desktop) in self.desktops.iter().enumerate() {
            if self.desktops[..n].iter().any(|other| other.name() == desktop.name()) {
                return Err(ProfileError::Twice(format!("the desktop {}", desktop.name())));
            }
        }
        Ok(())
    }
}

impl Desktop {
    /// Its name among those of a person: `e3-analyst`.
    pub fn name(&self) -> String {
        format!("{}-{}", self.environment, self.role)
    }
}
