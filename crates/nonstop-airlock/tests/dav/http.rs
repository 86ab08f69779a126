//! A client that sends what it is told to.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddrV4, TcpStream},
    time::Duration,
};

/// A connection.
pub(crate) struct Client {
    pub(crate) stream: BufReader<TcpStream>,
    host: String,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) fields: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Got {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }

    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", |value| value)
    }
}

impl Client {
    /// One that is connected to `address`, and calls it by that.
    pub(crate) fn to(address: SocketAddrV4) -> Client {
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        Client { stream: BufReader::new(stream), host: address.to_string() }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("sent");
    }

    /// Asks with a body that has a length.
    pub(crate) fn ask(
        &mut self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Got {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("Host: {}\r\n", self.host));
        }
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() && !fields.iter().any(|(name, _)| *name == "Content-Length") {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        self.send(head.as_bytes());
        self.send(body);
        self.answer(method == "HEAD")
    }

    /// Reads an answer.
    pub(crate) fn answer(&mut self, head: bool) -> Got {
        let mut line = String::new();
        let mut next = |stream: &mut BufReader<TcpStream>| {
            line.clear();
            stream.read_line(&mut line).expect("a line");
            line.trim_end().to_string()
        };
        let first = next(&mut self.stream);
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no answer: {first:?}"));
        let mut fields = BTreeMap::new();
        loop {
            let line = next(&mut self.stream);
            let Some((name, value)) = line.split_once(": ") else { break };
            fields.insert(name.to_ascii_lowercase(), value.to_string());
        }
        let mut body = Vec::new();
        let length = fields.get("content-length").and_then(|text| text.parse::<u64>().ok());
        if head || [204, 304, 100].contains(&status) {
        } else if let Some(length) = length {
            self.stream.by_ref().take(length).read_to_end(&mut body).expect("a body");
        } else if fields.contains_key("transfer-encoding") {
            loop {
                let length = u64::from_str_radix(&next(&mut self.stream), 16).expect("a chunk");
                self.stream.by_ref().take(length).read_to_end(&mut body).expect("a body");
                next(&mut self.stream);
                if length == 0 {
                    break;
                }
            }
        }
        Got { status, fields, body }
    }
}
