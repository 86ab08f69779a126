//! What the gateway's ear makes of sshd's words, for the daemon: typed, bounded, and believed only as
//! far as it can be true. A stranger chooses the names, versions and targets in it.

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// The longest text of a stranger's that is passed on, in characters.
pub const LONGEST_TEXT: usize = 64;

/// Things that are told at once, at most.
pub const MOST_AT_ONCE: usize = 512;

/// Something that sshd said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "heard", rename_all = "snake_case", deny_unknown_fields)]
pub enum Heard {
    /// From here on sshd is heard. What sessions that were open before say is not.
    Began,
    /// Some of it was lost, since there was more than could be passed on.
    Lost {
        /// How much; 0 where nobody can know.
        words: u64,
    },
    /// A connection that did not become a session.
    Refused(Refusal),
    /// The program at the other end of a session.
    Client {
        /// sshd's process that runs the hook.
        pid: u32,
        /// What it calls itself.
        client: String,
    },
    /// Connections to a target that sshd opened for a session.
    Forwarded {
        /// sshd's process that opened them.
        child: u32,
        /// How many.
        count: u32,
        /// `ADDRESS:PORT`.
        target: String,
    },
    /// Something that a session asked for and did not get.
    Denied {
        /// sshd's process that refused it.
        child: u32,
        /// The one that runs the hook, where that is known.
        pid: Option<u32>,
        /// How often.
        count: u32,
        /// What kind of thing.
        what: Wanted,
        /// Which; empty where sshd does not say.
        target: String,
    },
    /// A session ended by itself.
    Ended {
        /// sshd's process that runs the hook.
        pid: u32,
        /// How.
        how: EndedBy,
    },
}

/// A connection that did not become a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// sshd's process for it; None where there was none yet.
    pub pid: Option<u32>,
    /// From where, as the kernel knows it.
    pub source: Option<Ipv4Addr>,
    /// The login name that was tried.
    pub user: Option<String>,
    /// Why.
    pub why: RefusedFor,
    /// The fingerprint of the last key that was tried.
    pub key: Option<String>,
    /// What the program at the other end calls itself.
    pub client: Option<String>,
}

/// Why a login was refused. The one who tries is told none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedFor {
    /// There is no such account, or it may not log in at all.
    UnknownAccount,
    /// The account has no such key.
    UnknownKey,
    /// The key is right, the address is none of the account's.
    Source,
    /// The key is right, and its time is over.
    Expired,
    /// The daemon said no, or nothing.
    Daemon,
    /// Too many keys in one connection.
    TooManyTries,
    /// No key exchange, cipher or key type that both know.
    NoAlgorithms,
    /// It tried no key.
    NoKey,
    /// It did not speak SSH.
    NotSsh,
    /// It took longer than the time for a login.
    TooSlow,
    /// Its address has to wait, for what it did before.
    Penalty,
    /// Too many were logging in.
    Crowded,
}

impl RefusedFor {
    /// In the database and the trace.
    pub fn as_str(self) -> &'static str {
        match self {
            RefusedFor::UnknownAccount => "unknown_account",
            RefusedFor::UnknownKey => "unknown_key",
            RefusedFor::Source => "source",
            RefusedFor::Expired => "expired",
            RefusedFor::Daemon => "daemon",
            RefusedFor::TooManyTries => "too_many_tries",
            RefusedFor::NoAlgorithms => "no_algorithms",
            RefusedFor::NoKey => "no_key",
            RefusedFor::NotSsh => "not_ssh",
            RefusedFor::TooSlow => "too_slow",
            RefusedFor::Penalty => "penalty",
            RefusedFor::Crowded => "crowded",
        }
    }

    /// In a sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            RefusedFor::UnknownAccount => "no such account",
            RefusedFor::UnknownKey => "the account has no such key",
            RefusedFor::Source => "the key is right, the source address is not registered",
            RefusedFor::Expired => "the key is right, its time is over",
            RefusedFor::Daemon => "the daemon did not let it in",
            RefusedFor::TooManyTries => "too many keys were tried",
            RefusedFor::NoAlgorithms => "no algorithm that both sides know",
            RefusedFor::NoKey => "no key was tried",
            RefusedFor::NotSsh => "it did not speak SSH",
            RefusedFor::TooSlow => "it took longer than the time for a login",
            RefusedFor::Penalty => "its address has to wait for what it did before",
            RefusedFor::Crowded => "too many were logging in at once",
        }
    }
}

/// What a session may ask for in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// A connection to a target.
    Forward,
    /// A connection to a unix socket.
    UnixSocket,
    /// A port of ours that leads to the client.
    RemoteForward,
    /// A shell, command or subsystem, and whatever comes with one: terminal, agent, X11.
    Session,
    /// A network tunnel.
    Tunnel,
    /// Another kind of channel.
    Other,
}

impl Wanted {
    /// In the trace.
    pub fn as_str(self) -> &'static str {
        match self {
            Wanted::Forward => "forward",
            Wanted::UnixSocket => "unix_socket",
            Wanted::RemoteForward => "remote_forward",
            Wanted::Session => "session",
            Wanted::Tunnel => "tunnel",
            Wanted::Other => "other",
        }
    }
}

/// How a session ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// The client said that it goes.
    Client,
    /// The client's connection was closed or reset.
    Connection,
    /// The client did not answer any more.
    Silence,
}

impl EndedBy {
    /// In a few words.
    pub fn sentence(self) -> &'static str {
        match self {
            EndedBy::Client => "the client left",
            EndedBy::Connection => "its connection broke",
            EndedBy::Silence => "the client did not answer any more",
        }
    }
}
