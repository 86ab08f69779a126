//! The few words of PostgreSQL's protocol, version 3.0, that we speak as a client on a unix
//! socket: begin, a question in text, and COPY into a table.
//!
//! Own words and no library's: whoever loads hostile packets holds an open socket and may make no
//! system call but reading, writing and waiting; and the bytes of a COPY go to the kernel from
//! where they were made.

use std::{
    fmt::Write as _,
    io::{self, BufReader, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

/// What can go wrong between us and a PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Nothing answers there.
    #[error("connect to PostgreSQL in {}", folder.display())]
    Connect {
        /// Where its socket should be.
        folder: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The connection is gone, or mute for too long.
    #[error("the connection to PostgreSQL")]
    Io(#[from] io::Error),
    /// PostgreSQL refused.
    #[error("PostgreSQL: {message} ({code})")]
    Server {
        /// Its SQLSTATE.
        code: String,
        /// Its words.
        message: String,
    },
    /// What it said is not what it should say.
    #[error("PostgreSQL said what was not expected: {0}")]
    Nonsense(&'static str),
}

impl WireError {
    /// Whether PostgreSQL has no room left on the disk.
    pub fn is_full_disk(&self) -> bool {
        matches!(self, WireError::Server { code, .. } if code == "53100")
    }
}

/// One row, as text; None is NULL.
pub type Row = Vec<Option<String>>;

/// The longest message that is taken from a server, in bytes.
const LONGEST: usize = 64 << 20;

/// A connection, at rest between questions.
#[derive(Debug)]
pub struct Session {
    stream: BufReader<UnixStream>,
}

impl Session {
    /// Connects as `role` to `database` through the socket in `folder`. No answer in `patience`
    /// is an error then and later; None waits for ever.
    pub fn open(
        folder: &Path,
        role: &str,
        database: &str,
        patience: Option<Duration>,
    ) -> Result<Session, WireError> {
        let connect = |source| WireError::Connect { folder: folder.into(), source };
        let stream = UnixStream::connect(folder.join(SOCKET)).map_err(connect)?;
        stream.set_read_timeout(patience)?;
        stream.set_write_timeout(patience)?;
        let mut session = Session { stream: BufReader::with_capacity(16 << 10, stream) };
        let mut words = 196_608u32.to_be_bytes().to_vec();
        for word in ["user", role, "database", database, "application_name", "nonstop", ""] {
            words.extend_from_slice(word.as_bytes());
            words.push(0);
        }
        let mut message = (words.len() as u32 + 4).to_be_bytes().to_vec();
        message.append(&mut words);
        session.send(&message)?;
        session.answer(|tag, body| match (tag, body) {
            (b'R', [0, 0, 0, 0]) => Ok(()),
            (b'R', _) => Err(WireError::Nonsense("it wants a password")),
            _ => Ok(()),
        })?;
        Ok(session)
    }

    /// Asks `sql`, which may be several statements; the rows of all.
    pub fn ask(&mut self, sql: &str) -> Result<Vec<Row>, WireError> {
        self.send(&message(b'Q', sql))?;
        let mut rows = Vec::new();
        self.answer(|tag, body| {
            if tag == b'D' {
                rows.push(row(body)?);
            }
            Ok(())
        })?;
        Ok(rows)
    }

    /// The one text that `sql` answers with; None for NULL or no row.
    pub fn ask_one(&mut self, sql: &str) -> Result<Option<String>, WireError> {
        Ok(self.ask(sql)?.into_iter().next().and_then(|row| row.into_iter().next().flatten()))
    }

    /// Begins the COPY that `sql` says.
    pub fn copy(&mut self, sql: &str) -> Result<Copy<'_>, WireError> {
        self.send(&message(b'Q', sql))?;
        loop {
            let (tag, body) = self.message()?;
            match tag {
                b'G' => return Ok(Copy { session: self }),
                b'E' => {
                    let refused = refusal(&body);
                    self.answer(|_, _| Ok(()))?;
                    return Err(refused);
                }
                b'Z' => return Err(WireError::Nonsense("no COPY began")),
                _ => {}
            }
        }
    }

    /// Asks `sql`, whose rows nobody wants, and calls `waiting` each second until it is answered.
    pub fn ask_patiently(&mut self, sql: &str, mut waiting: impl FnMut()) -> Result<(), WireError> {
        self.send(&message(b'Q', sql))?;
        while !self.has_word(Duration::from_secs(1))? {
            waiting();
        }
        self.answer(|_, _| Ok(()))
    }

    /// Whether PostgreSQL says something within `patience`.
    fn has_word(&self, patience: Duration) -> io::Result<bool> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        if !self.stream.buffer().is_empty() {
            return Ok(true);
        }
        let mut polled = [PollFd::from_borrowed_fd(self.stream.get_ref().as_fd(), PollFlags::IN)];
        let patience = Timespec {
            tv_sec: patience.as_secs().cast_signed(),
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        Ok(poll(&mut polled, Some(&patience))? > 0)
    }

    /// Reads messages up to the next time of rest; the first refusal is the result then.
    fn answer(
        &mut self,
        mut each: impl FnMut(u8, &[u8]) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        let mut refused = None;
        loop {
            let (tag, body) = self.message()?;
            match tag {
                b'Z' => return refused.map_or(Ok(()), Err),
                b'E' => {
                    let refusal = refusal(&body);
                    if is_fatal(&body) {
                        return Err(refusal);
                    }
                    refused.get_or_insert(refusal);
                }
                _ => each(tag, &body)?,
            }
        }
    }

    fn message(&mut self) -> Result<(u8, Vec<u8>), WireError> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let [tag, a, b, c, d] = head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if !(4..=LONGEST).contains(&length) {
            return Err(WireError::Nonsense("a message of absurd length"));
        }
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body)?;
        Ok((tag, body))
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        Ok(self.stream.get_mut().write_all(bytes)?)
    }
}

/// A COPY that goes on. Dropped without [`Copy::end`], it leaves the session of no use.
#[derive(Debug)]
pub struct Copy<'a> {
    session: &'a mut Session,
}

/// Bytes at the front of what is sent that are kept for [`Copy::send`] to fill.
pub const HEAD: usize = 5;

impl Copy<'_> {
    /// Sends the bytes behind the first [`HEAD`] of `buffer`, which it fills. An error of
    /// PostgreSQL's is noticed at the next call or at the end.
    pub fn send(&mut self, buffer: &mut [u8]) -> Result<(), WireError> {
        let length = buffer.len() as u32 - 1;
        buffer[0] = b'd';
        buffer[1..HEAD].copy_from_slice(&length.to_be_bytes());
        // During a COPY it says nothing, unless something is wrong.
        if self.session.has_word(Duration::ZERO)? {
            return self.session.answer(|_, _| Ok(())).and(Err(WireError::Nonsense("COPY ended")));
        }
        self.session.send(buffer)
    }

    /// Ends it; the rows that PostgreSQL took.
    pub fn end(self) -> Result<u64, WireError> {
        self.session.send(&[b'c', 0, 0, 0, 4])?;
        let mut rows = None;
        self.session.answer(|tag, body| {
            if tag == b'C' {
                let words = String::from_utf8_lossy(body);
                let number = words.trim_end_matches('\0').rsplit(' ').next();
                rows = number.and_then(|n| n.parse().ok());
            }
            Ok(())
        })?;
        rows.ok_or(WireError::Nonsense("a COPY without a number of rows"))
    }

    /// Gives it up: PostgreSQL takes nothing of it.
    pub fn abandon(self) {
        // Whether it hears this or the end of the connection is the same to it.
        let _ = self.session.send(&message(b'f', "given up"));
        let _ = self.session.answer(|_, _| Ok(()));
    }
}

/// The name of the socket in its folder.
pub const SOCKET: &str = ".s.PGSQL.5432";

/// `text` as a literal of SQL.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("'");
    for c in text.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\0' => {}
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

fn message(tag: u8, text: &str) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&(text.len() as u32 + 5).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}

fn row(body: &[u8]) -> Result<Row, WireError> {
    const TORN: WireError = WireError::Nonsense("a torn row");
    let (count, mut rest) = body.split_at_checked(2).ok_or(TORN)?;
    let mut row = Vec::new();
    for _ in 0..u16::from_be_bytes([count[0], count[1]]) {
        let (length, after) = rest.split_first_chunk::<4>().ok_or(TORN)?;
        let length = i32::from_be_bytes(*length);
        rest = after;
        let Ok(length) = usize::try_from(length) else {
            row.push(None);
            continue;
        };
        let (text, after) = rest.split_at_checked(length).ok_or(TORN)?;
        row.push(Some(String::from_utf8_lossy(text).into_owned()));
        rest = after;
    }
    Ok(row)
}

fn fields(body: &[u8]) -> impl Iterator<Item = (u8, String)> {
    body.split(|b| *b == 0)
        .filter_map(|f| Some((*f.first()?, String::from_utf8_lossy(&f[1..]).into_owned())))
}

fn refusal(body: &[u8]) -> WireError {
    let (mut code, mut message) = (String::new(), String::new());
    for (kind, text) in fields(body) {
        match kind {
            b'C' => code = text,
            b'M' => message = text,
            b'D' | b'H' => {
                let _ = write!(message, "; {text}");
            }
            _ => {}
        }
    }
    WireError::Server { code, message }
}

fn is_fatal(body: &[u8]) -> bool {
    fields(body).any(|(kind, text)| kind == b'V' && ["FATAL", "PANIC"].contains(&text.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_and_a_torn_one_is_not() {
        let whole = [0, 2, 0, 0, 0, 1, b'a', 255, 255, 255, 255];
        assert_eq!(row(&whole).unwrap(), [Some("a".into()), None]);
        for cut in 0..whole.len() {
            assert!(row(&whole[..cut]).is_err());
        }
    }

    #[test]
    fn a_refusal_says_code_and_words() {
        let body = b"SERROR\0VERROR\0C53100\0Mno room\0Hfree some\0\0";
        let refused = refusal(body);
        assert!(refused.is_full_disk());
        assert_eq!(refused.to_string(), "PostgreSQL: no room; free some (53100)");
        assert!(!is_fatal(body));
    }

    #[test]
    fn a_quote_ends_no_literal() {
        assert_eq!(quoted("a'b"), "'a''b'");
    }
}
