//! The first words of a client, and what becomes of them.

use crate::rdb::{DATABASE, role};

/// The longest first message, in bytes.
pub(super) const LONGEST: usize = 4096;

/// What a client's first bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum First {
    /// Not yet a whole message.
    Torn,
    /// It asks for encryption: no. So many bytes were its.
    Encryption(usize),
    /// It asks that the query of the connection with this key be ended.
    Cancel(Vec<u8>),
    /// It begins: what to say to the reader in its place, but for the role.
    Begin(Begin),
    /// It is refused, with these words.
    Refused(String),
    /// It is no client of PostgreSQL.
    Nonsense,
}

/// A connection that begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Begin {
    version: [u8; 4],
    words: Vec<(String, String)>,
}

const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;
const CANCEL: u32 = 80_877_102;

/// Parameters of a session that a client may set from the start; it may set others later, by SQL.
const HARMLESS: &[&str] =
    &["client_encoding", "datestyle", "extra_float_digits", "intervalstyle", "timezone"];

/// Reads the first message in `bytes`.
pub(super) fn first(bytes: &[u8]) -> First {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return First::Torn };
    let length = u32::from_be_bytes(*length) as usize;
    if !(8..=LONGEST).contains(&length) {
        return First::Nonsense;
    }
    let Some(body) = rest.get(..length - 4) else { return First::Torn };
    let (version, body) = body.split_first_chunk::<4>().expect("8 bytes at least");
    match (u32::from_be_bytes(*version), version) {
        (SSL | GSS, _) if body.is_empty() => First::Encryption(length),
        (CANCEL, _) if (8..=260).contains(&body.len()) => First::Cancel(body.into()),
        (_, [0, 3, ..]) if rest.len() == length - 4 => begin(*version, body),
        _ => First::Nonsense,
    }
}

fn begin(version: [u8; 4], body: &[u8]) -> First {
    let Some(body) = body.strip_suffix(&[0]) else { return First::Nonsense };
    let mut texts = body.split(|b| *b == 0).map(std::str::from_utf8);
    let (mut user, mut database, mut words) = (None, None, Vec::new());
    // Behind the last value stands the end of it, hence an empty text.
    while let Some(Ok(key)) = texts.next() {
        let Some(Ok(value)) = texts.next() else {
            match key {
                "" => break,
                _ => return First::Nonsense,
            }
        };
        match key {
            "user" => user = Some(value),
            "database" => database = Some(value),
            "replication" if ["false", "off", "no", "0"].contains(&value) => {}
            "replication" => return First::Refused("replication is not for machines".into()),
            _ if HARMLESS.contains(&key.to_ascii_lowercase().as_str()) && is_plain(value) => {
                words.push((key.into(), value.into()));
            }
            // A name that a program gives itself, options: nothing is lost without.
            _ => {}
        }
    }
    let Some(user) = user else { return First::Nonsense };
    match database {
        // Programs take the user's name where none is given.
        None | Some("" | DATABASE) => {}
        Some(name) if name == user => {}
        Some(name) => {
            let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
            return First::Refused(format!(
                "there is no database `{shown}`: the one here is `{DATABASE}`"
            ));
        }
    }
    First::Begin(Begin { version, words })
}

/// Whether `value` can stand in a log: the reader's says which one it does not know.
fn is_plain(value: &str) -> bool {
    value.len() <= 40
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b" ,/_+-.:".contains(&b))
}

impl Begin {
    /// The message to the reader, as the role of the segment at `slot`.
    pub(super) fn message(&self, slot: u32) -> Vec<u8> {
        let mut body = self.version.to_vec();
        let role = role(slot);
        let own = [("user", role.as_str()), ("database", DATABASE)];
        let words = self.words.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        for (key, value) in own.into_iter().chain(words) {
            for text in [key, value] {
                body.extend_from_slice(text.as_bytes());
                body.push(0);
            }
        }
        body.push(0);
        let mut message = (body.len() as u32 + 4).to_be_bytes().to_vec();
        message.append(&mut body);
        message
    }
}

/// The message that asks for the end of a query.
pub(super) fn cancel(key: &[u8]) -> Vec<u8> {
    let mut message = (key.len() as u32 + 8).to_be_bytes().to_vec();
    message.extend_from_slice(&CANCEL.to_be_bytes());
    message.extend_from_slice(key);
    message
}

/// The message that refuses a connection.
pub(super) fn refusal(code: &str, words: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, text) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', code), (b'M', words)] {
        body.push(kind);
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    let mut message = vec![b'E'];
    message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    message.append(&mut body);
    message
}

/// Looks for the key by which a query can be ended, in what the reader says first.
#[derive(Debug, Default)]
pub(super) struct KeyFinder {
    seen: Vec<u8>,
    done: bool,
}

impl KeyFinder {
    /// Takes the next bytes of the reader's; the key, once.
    pub(super) fn look(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.done {
            return None;
        }
        self.seen.extend_from_slice(bytes);
        let mut rest = &self.seen[..];
        let mut key = None;
        while let [tag, a, b, c, d, body @ ..] = rest {
            let length = (u32::from_be_bytes([*a, *b, *c, *d]) as usize).saturating_sub(4);
            let Some(after) = body.get(length..) else { break };
            match tag {
                b'K' => key = Some(body[..length].to_vec()),
                b'Z' | b'E' => self.done = true,
                _ => {}
            }
            rest = after;
        }
        let used = self.seen.len() - rest.len();
        self.seen.drain(..used);
        // The greeting is short: what is long is none.
        self.done |= self.seen.len() > 16 << 10;
        if self.done {
            self.seen = Vec::new();
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn startup(words: &str) -> Vec<u8> {
        let mut body = 196_608u32.to_be_bytes().to_vec();
        body.extend(words.bytes().map(|b| if b == b' ' { 0 } else { b }));
        body.extend([0, 0]);
        let mut message = (body.len() as u32 + 4).to_be_bytes().to_vec();
        message.append(&mut body);
        message
    }

    fn told(words: &str) -> String {
        match first(&startup(words)) {
            First::Begin(begin) => {
                let message = begin.message(17);
                String::from_utf8_lossy(&message[8..]).replace('\0', " ").trim_end().into()
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn whatever_name_is_given_the_role_is_the_segments() {
        let as_17 = "user machine_00017 database darknet";
        assert_eq!(told("user postgres database darknet"), as_17);
        assert_eq!(told("user nonstop"), as_17);
        assert_eq!(told("user root database root"), as_17);
        assert_eq!(told("user a user b database darknet options -cwork_mem=9GB"), as_17);
        assert_eq!(
            told("user a application_name hello client_encoding UTF8 TimeZone Asia/Tokyo"),
            format!("{as_17} client_encoding UTF8 TimeZone Asia/Tokyo")
        );
        assert_eq!(told("user a TimeZone <b>\u{1b}[31m"), as_17);
    }

    #[test]
    fn other_databases_and_replication_are_refused() {
        assert!(told("user a database postgres").contains("there is no database `postgres`"));
        assert!(told("user a replication database").contains("replication"));
        assert!(told("user a replication true").contains("replication"));
        assert_eq!(told("database darknet"), "Nonsense");
    }

    #[test]
    fn a_message_is_torn_at_every_byte_but_the_last() {
        let whole = startup("user a database darknet");
        for cut in 0..whole.len() {
            assert_eq!(first(&whole[..cut]), First::Torn, "at {cut}");
        }
        assert!(matches!(first(&whole), First::Begin(_)));
        let mut more = whole;
        more.push(0);
        assert_eq!(first(&more), First::Nonsense);
    }

    #[test]
    fn the_key_is_found_however_the_greeting_is_cut() {
        let greeting = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x08a\0b\0K\0\0\0\x0c12345678Z\0\0\0\x05I";
        for cut in 0..greeting.len() {
            let mut finder = KeyFinder::default();
            let found = [&greeting[..cut], &greeting[cut..]].map(|part| finder.look(part));
            let found: Vec<_> = found.into_iter().flatten().collect();
            assert_eq!(found, [b"12345678".to_vec()], "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            first(&bytes);
            KeyFinder::default().look(&bytes);
            let mut framed = (bytes.len() as u32 + 8).to_be_bytes().to_vec();
            framed.extend(196_608u32.to_be_bytes());
            framed.extend(&bytes);
            if let First::Begin(begin) = first(&framed) {
                let message = begin.message(3);
                prop_assert!(message[8..].starts_with(b"user\0machine_00003\0database\0darknet\0"));
            }
        }
    }
}
