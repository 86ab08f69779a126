//! What a request gets, without a byte of it sent.

use nonstop_http::{Head, Part};
use std::{fmt::Write as _, io, net::TcpStream, ops::Range};

/// What is served.
pub trait Site: Send + Sync + 'static {
    /// What the bytes of an answer come from, where they are more than a page.
    type Open: Source;

    /// What `head` gets.
    fn answer(&self, head: &Head) -> Answer<Self::Open>;

    /// Lets go of what is no longer published. False where the folder of published days itself is gone.
    fn tidy(&self) -> bool;
}

/// Something to be taken whole or in parts.
pub trait Source {
    /// What it is called where it is told who took it.
    fn what(&self) -> &str;

    /// Its SHA-256, as 64 lower-case hexadecimal digits.
    fn sha256(&self) -> String;

    /// Gives the bytes `range` to `stream`, and tells `went` how many went.
    ///
    /// Errors: of kind `InvalidData` where they are not what they should be: then the answer ends before
    /// its end, and staff are told.
    fn give(
        &self,
        stream: &TcpStream,
        range: Range<u64>,
        went: &mut dyn FnMut(u64),
    ) -> io::Result<()>;
}

/// An answer that is still to be sent.
#[derive(Debug)]
pub struct Answer<O> {
    /// Its status.
    pub status: u16,
    /// Header fields of its own, each with its line end.
    pub fields: String,
    /// Its body, in order; left out where the request was HEAD.
    pub parts: Vec<Part>,
    /// What `Part::Of` are parts of.
    pub open: Option<O>,
    /// What staff should see to, though the machine is not to know it.
    pub trouble: Vec<String>,
}

impl<O> Answer<O> {
    /// One of `status`, without a body.
    pub fn empty(status: u16) -> Answer<O> {
        Answer { status, fields: String::new(), parts: vec![], open: None, trouble: vec![] }
    }

    /// A short text.
    pub fn text(status: u16, text: &str) -> Answer<O> {
        let body = format!("{text}\n").into_bytes();
        Answer::empty(status).field("Content-Type", "text/plain; charset=utf-8").body(body)
    }

    /// The machine is told `text`; what went wrong stays here.
    pub fn trouble(text: &str, trouble: String) -> Answer<O> {
        Answer { trouble: vec![trouble], ..Answer::text(500, text) }
    }

    /// The same with a header field.
    pub fn field(mut self, name: &str, value: &str) -> Answer<O> {
        let _ = write!(self.fields, "{name}: {value}\r\n");
        self
    }

    /// The same with more of a body.
    pub fn body(mut self, bytes: Vec<u8>) -> Answer<O> {
        self.parts.push(Part::Bytes(bytes));
        self
    }

    /// The same, as a page whose language was chosen by its reader.
    pub fn page(self, text: String, policy: &str) -> Answer<O> {
        self.field("Content-Type", "text/html; charset=utf-8")
            .chosen()
            .field("Content-Security-Policy", policy)
            .body(text.into_bytes())
    }

    /// The same, said to depend on what its reader asked for, and to be asked for again.
    pub fn chosen(self) -> Answer<O> {
        self.field("Cache-Control", "no-cache").field("Vary", "Accept, Accept-Language")
    }

    /// Bytes of its body.
    pub fn length(&self) -> u64 {
        self.parts.iter().map(Part::length).sum()
    }
}
