//! What the hook in the gateway's login path tells and asks.

use serde::{Deserialize, Serialize};

/// Where in a session's life the hook was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoginEvent {
    /// May this person log in? The answer decides.
    Account,
    /// A session began.
    Open,
    /// A session ended.
    Close,
}

/// One call of the hook, on the login socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// Where in the session's life.
    pub event: LoginEvent,
    /// The login name.
    pub user: String,
    /// The source address as PAM knows it.
    pub rhost: String,
    /// `SSH_CONNECTION`: source address and port, our address and port.
    pub connection: String,
    /// `SSH_AUTH_INFO_0`: the method and public key that were accepted.
    pub auth_info: String,
    /// The process of sshd that asks.
    pub pid: u32,
}

/// The daemon's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginReply {
    /// Whether the login may go on.
    pub allow: bool,
    /// Why not, for the server's log only.
    pub reason: String,
}
