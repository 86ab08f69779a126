//! One message of sshd's (OpenSSH 10), and what it means.
//!
//! Names, versions and targets in it are a stranger's choice. So every message is known by how it
//! begins, which is sshd's, and what a stranger chose lies between that and how it ends, which is
//! sshd's too: fields are taken from both ends, never searched for. Where a message comes from is
//! not its business (see `sorting`).

use nonstop_api::heard::{EndedBy, LONGEST_TEXT, RefusedFor, Wanted};
use std::net::Ipv4Addr;

/// What a message means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Word<'a> {
    /// A connection was accepted.
    Connection { source: Ipv4Addr },
    /// What the client calls itself.
    Client(&'a str),
    /// A login name, and whether there is such an account.
    User { name: &'a str, known: bool },
    /// A key that did not let in.
    FailedKey { user: &'a str, key: Option<&'a str> },
    /// Something that tells why it will be refused.
    Because(RefusedFor),
    /// The key is good; what else is asked decides.
    Accepted,
    /// The session's own process.
    Child(u32),
    /// The connection is over.
    Over(EndedBy),
    /// The login of a process took too long.
    TimeUp { source: Ipv4Addr, pid: u32 },
    /// A connection that was not even accepted.
    Dropped { source: Ipv4Addr, why: RefusedFor },
    /// A session got a connection to a target.
    Connected(String),
    /// A session did not get what it asked for.
    Denied { what: Wanted, target: String },
}

/// What `message` means; None for one that says nothing that we want to know.
pub(crate) fn word(message: &str) -> Option<Word<'_>> {
    let message = message.trim_end_matches(['\r', '\n']);
    let message = message.strip_suffix(" [preauth]").unwrap_or(message);
    let message = ["debug1: ", "error: ", "fatal: "]
        .iter()
        .find_map(|level| message.strip_prefix(level))
        .unwrap_or(message);
    match placed(message) {
        Some((function, message)) => of_function(function, message),
        None => plain(message),
    }
}

/// Splits `kex.c:FUNCTION():1395 (bin=sshd-session, pid=30): MESSAGE`.
fn placed(message: &str) -> Option<(&str, &str)> {
    let (file, rest) = message.split_once(".c:")?;
    let named = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    };
    let (function, rest) = rest.split_once("():")?;
    let (line, rest) = rest.split_once(" (bin=")?;
    let (program, rest) = rest.split_once(", pid=")?;
    let (pid, rest) = rest.split_once("): ")?;
    let whole = named(file)
        && named(function)
        && named(program)
        && [line, pid].iter().all(|n| n.parse::<u32>().is_ok());
    whole.then_some((function, rest))
}

fn of_function<'a>(function: &str, message: &'a str) -> Option<Word<'a>> {
    match function {
        "kex_exchange_identification" => {
            let version = message.strip_prefix("Remote protocol version ")?;
            Some(Word::Client(version.split_once(", remote software version ")?.1))
        }
        "auth_authorise_keyopts" => {
            // Behind the name of a file of ours and a number.
            let (_line, what) = message.split_once(": ")?;
            if what.starts_with("entry expired at ") {
                Some(Word::Because(RefusedFor::Expired))
            } else if what.starts_with("Authentication tried for ") {
                Some(Word::Because(RefusedFor::Source))
            } else {
                None
            }
        }
        "channel_post_connecting" => {
            let rest = message.strip_prefix("channel ")?;
            let (_number, rest) = rest.split_once(": connected to ")?;
            let (host, port) = rest.rsplit_once(" port ")?;
            Some(Word::Connected(target(host, port)?))
        }
        "server_input_global_request" => {
            let rest = message.strip_prefix("rtype ")?;
            let (kind, _reply) = rest.rsplit_once(" want_reply ")?;
            let wanted = ["tcpip-forward", "streamlocal-forward@openssh.com"].contains(&kind);
            wanted.then(|| Word::Denied { what: Wanted::RemoteForward, target: String::new() })
        }
        "server_input_channel_open" => match message.strip_prefix("failure ")? {
            // These say more in messages of their own.
            "direct-tcpip" | "direct-streamlocal@openssh.com" | "session" => None,
            "tun@openssh.com" => Some(Word::Denied { what: Wanted::Tunnel, target: String::new() }),
            other => Some(Word::Denied { what: Wanted::Other, target: text(other) }),
        },
        _ => None,
    }
}

fn plain(message: &str) -> Option<Word<'_>> {
    if let Some(rest) = message.strip_prefix("Connection from ") {
        let mut words = rest.split(' ');
        let source = words.next()?.parse().ok()?;
        (words.next() == Some("port")).then_some(())?;
        words.next()?.parse::<u16>().ok()?;
        return (words.next() == Some("on")).then_some(Word::Connection { source });
    }
    if let Some(rest) = message.strip_prefix("Invalid user ") {
        let (name, _source) = before_source(rest)?;
        return Some(Word::User { name, known: false });
    }
    if let Some(rest) = message.strip_prefix("User ") {
        if let Some(pid) = rest.strip_prefix("child is on pid ") {
            return pid.parse().ok().map(Word::Child);
        }
        let (name, _why) = rest.rsplit_once(" not allowed because ")?;
        return Some(Word::User { name, known: false });
    }
    if let Some(rest) = message.strip_prefix("Failed ") {
        let (_method, rest) = rest.split_once(" for ")?;
        let (rest, key) = match rest.rsplit_once(" ssh2: ") {
            Some((rest, key)) => (rest, Some(fingerprint(key)?)),
            None => (rest.strip_suffix(" ssh2")?, None),
        };
        let (user, _source) = before_source(rest)?;
        return Some(match user.strip_prefix("invalid user ") {
            Some(name) => Word::User { name, known: false },
            None => Word::FailedKey { user, key },
        });
    }
    if message.starts_with("Accepted publickey for ") {
        return Some(Word::Accepted);
    }
    if message.starts_with("Access denied for user ") {
        return Some(Word::Because(RefusedFor::Daemon));
    }
    if message.starts_with("maximum authentication attempts exceeded for ") {
        return Some(Word::Because(RefusedFor::TooManyTries));
    }
    if message.starts_with("Unable to negotiate with ") {
        return Some(Word::Because(RefusedFor::NoAlgorithms));
    }
    if message.starts_with("banner exchange: Connection from ") {
        return Some(Word::Because(RefusedFor::NotSsh));
    }
    if let Some(rest) = message.strip_prefix("Timeout before authentication for connection from ") {
        let (source, rest) = rest.split_once(" to ")?;
        let (_ours, pid) = rest.split_once(", pid = ")?;
        return Some(Word::TimeUp { source: source.parse().ok()?, pid: pid.parse().ok()? });
    }
    if let Some(rest) = message.strip_prefix("drop connection #") {
        let (_number, rest) = rest.split_once(" from [")?;
        let (source, rest) = rest.split_once("]:")?;
        let penalty = rest.contains(" penalty: ");
        let why = if penalty { RefusedFor::Penalty } else { RefusedFor::Crowded };
        return Some(Word::Dropped { source: source.parse().ok()?, why });
    }
    if let Some(rest) = message.strip_prefix("Received request from ") {
        let rest = rest.strip_suffix(", but the request was denied.")?;
        let (_from, rest) = rest.split_once(" to connect to host ")?;
        let (host, port) = rest.rsplit_once(" port ")?;
        return Some(Word::Denied { what: Wanted::Forward, target: target(host, port)? });
    }
    if let Some(rest) = message.strip_prefix("refused streamlocal port forward: originator ") {
        let (_originator, path) = rest.split_once(", target ")?;
        return Some(Word::Denied { what: Wanted::UnixSocket, target: text(path) });
    }
    if message == "no more sessions" {
        return Some(Word::Denied { what: Wanted::Session, target: String::new() });
    }
    over(message).map(Word::Over)
}

/// How a connection ended.
fn over(message: &str) -> Option<EndedBy> {
    const ENDS: [(&str, EndedBy); 7] = [
        ("Received disconnect from ", EndedBy::Client),
        ("Disconnected from ", EndedBy::Client),
        ("Connection closed by ", EndedBy::Connection),
        ("Connection reset by ", EndedBy::Connection),
        ("Timeout, client not responding from ", EndedBy::Silence),
        ("Disconnecting ", EndedBy::Connection),
        ("ssh_dispatch_run_fatal: ", EndedBy::Connection),
    ];
    ENDS.iter().find(|(begin, _)| message.starts_with(begin)).map(|(_, how)| *how)
}

/// Splits `NAME from ADDRESS port NUMBER` at its end: the name may hold the like itself.
fn before_source(text: &str) -> Option<(&str, Ipv4Addr)> {
    let (rest, port) = text.rsplit_once(" port ")?;
    port.parse::<u16>().ok()?;
    let (name, source) = rest.rsplit_once(" from ")?;
    Some((name, source.parse().ok()?))
}

/// The fingerprint in `ED25519 SHA256:…`, with nothing behind it.
fn fingerprint(key: &str) -> Option<&str> {
    let (kind, fingerprint) = key.split_once(' ')?;
    let digest = fingerprint.strip_prefix("SHA256:")?;
    let whole = kind.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-')
        && digest.len() == 43
        && digest.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/".contains(&b));
    whole.then_some(fingerprint)
}

fn target(host: &str, port: &str) -> Option<String> {
    let port: u16 = port.parse().ok()?;
    Some(format!("{}:{port}", text(host)))
}

/// What a stranger chose, short and in plain characters.
pub(crate) fn text(chosen: &str) -> String {
    let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    let mut short: String = chosen.chars().map(plain).take(LONGEST_TEXT).collect();
    if chosen.chars().nth(LONGEST_TEXT).is_some() {
        short.pop();
        short.push('+');
    }
    short
}

#[cfg(test)]
mod tests;
