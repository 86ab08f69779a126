//! Requests as they stand on the wire, and what comes back.

use anyhow::{Context, Result};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A field's value, or nothing.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map(String::as_str).unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection that is kept.
pub(crate) struct Wire {
    reader: BufReader<TcpStream>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Wire {
        Wire { reader: BufReader::new(stream) }
    }

    /// Sends `text` as it is.
    pub(crate) fn send(&mut self, text: &[u8]) -> Result<()> {
        self.reader.get_mut().write_all(text).context("send")
    }

    /// The head of the next answer: its status and fields.
    pub(crate) fn head(&mut self) -> Result<Answer> {
        let mut line = String::new();
        self.reader.read_line(&mut line).context("the status line")?;
        let status = line.split(' ').nth(1).with_context(|| format!("{line:?}"))?.parse()?;
        let mut fields = BTreeMap::new();
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).context("a field")?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            fields.insert(name.to_ascii_lowercase(), value.to_string());
        }
        Ok(Answer { status, fields, body: Vec::new() })
    }

    /// `length` bytes of a body.
    pub(crate) fn body(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).context("a body")?;
        Ok(body)
    }

    /// The next answer whole; `without` says that it has no body, whatever its length is.
    pub(crate) fn answer(&mut self, without: bool) -> Result<Answer> {
        let mut answer = self.head()?;
        if !without && let Some(length) = answer.fields.get("content-length") {
            answer.body = self.body(length.parse()?)?;
        }
        Ok(answer)
    }

    /// Asks by `method` for `target` with `fields`, each a line.
    pub(crate) fn ask(&mut self, method: &str, target: &str, fields: &[&str]) -> Result<Answer> {
        let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: pcap\r\n{fields}\r\n").as_bytes())?;
        self.answer(method == "HEAD")
    }

    /// Whether the other side has ended it.
    pub(crate) fn is_over(&mut self) -> bool {
        matches!(self.reader.read(&mut [0]), Ok(0) | Err(_))
    }
}
