//! A browser in a few lines: cookies, forms, and whatever headers a test wants to send.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddrV4, TcpStream},
    time::Duration,
};

/// One visitor at one account's address.
pub(crate) struct Browser {
    to: SocketAddrV4,
    /// What it sends as `Host`.
    pub(crate) host: String,
    /// What it sends beside.
    pub(crate) headers: BTreeMap<String, String>,
    cookies: BTreeMap<String, String>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// Header lines, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: String,
}

impl Answer {
    /// The first header `name`.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    /// The token in its first form.
    pub(crate) fn token(&self) -> String {
        let start = "name=\"token\" value=\"";
        let at = self.body.find(start).expect("a form with a token") + start.len();
        self.body[at..at + 64].into()
    }

    /// The body without what differs from run to run.
    pub(crate) fn steady(&self) -> String {
        let version =
            self.body.find("/style.css?v=").map(|at| self.body[at + 13..at + 25].to_string());
        let mut text = self.body.clone();
        if self.body.contains("name=\"token\"") {
            text = text.replace(&self.token(), "TOKEN");
        }
        version.map_or(text.clone(), |v| text.replace(&v, "VERSION"))
    }

    /// The same, of the page's main part alone.
    pub(crate) fn main(&self) -> String {
        let text = self.steady();
        let from = text.find("<main").expect("a page");
        let to = text.find("</main>").expect("a whole page");
        text[from..to].into()
    }
}

impl Browser {
    /// A browser whose tunnel ends at `to`; it opened `localhost:8000`.
    pub(crate) fn new(to: SocketAddrV4) -> Browser {
        Browser {
            to,
            host: "localhost:8000".into(),
            headers: BTreeMap::new(),
            cookies: BTreeMap::new(),
        }
    }

    /// The same, asking for Japanese.
    pub(crate) fn japanese(mut self) -> Browser {
        self.headers.insert("Accept-Language".into(), "ja,en;q=0.5".into());
        self
    }

    /// Gets a page.
    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, "", &[])
    }

    /// Sends a form as a browser sends it: the token of the page at `form`, and an `Origin`.
    pub(crate) fn post(&mut self, form: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let token = self.get(form).token();
        self.post_raw(path, &[&[("token", token.as_str())], fields].concat(), true)
    }

    /// Sends a form with just `fields`, with or without an `Origin`.
    pub(crate) fn post_raw(&mut self, path: &str, fields: &[(&str, &str)], origin: bool) -> Answer {
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(fields);
        let own = format!("http://{}", self.host);
        let origin: &[(&str, &str)] = if origin { &[("Origin", &own)] } else { &[] };
        self.send("POST", path, &body.finish(), origin)
    }

    /// Sends a request as it stands.
    pub(crate) fn send(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
        more: &[(&str, &str)],
    ) -> Answer {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for (name, value) in more {
            text += &format!("{name}: {value}\r\n");
        }
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !self.cookies.is_empty() {
            let all: Vec<_> = self.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
            text += &format!("Cookie: {}\r\n", all.join("; "));
        }
        if method == "POST" {
            text += "Content-Type: application/x-www-form-urlencoded\r\n";
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        text += "Connection: close\r\n\r\n";
        let answer = self.exchange(&(text + body));
        for (_, line) in answer.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let pair = line.split(';').next().expect("a cookie");
            let (name, value) = pair.split_once('=').expect("a cookie");
            self.cookies.insert(name.into(), value.into());
        }
        answer
    }

    /// Sends bytes as they stand.
    pub(crate) fn exchange(&self, text: &str) -> Answer {
        let mut stream = TcpStream::connect(self.to).expect("the portal listens");
        stream.set_read_timeout(Some(Duration::from_secs(40))).expect("a timeout");
        // The portal may have said enough before it has read all.
        let _closed_early = stream.write_all(text.as_bytes());
        let mut bytes = Vec::new();
        let _reset_after_the_answer = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let mut lines = head.lines();
        let status = lines.next().and_then(|l| l.split(' ').nth(1)).and_then(|s| s.parse().ok());
        let headers = lines.filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_ascii_lowercase(), value.to_string()))
        });
        Answer { status: status.unwrap_or(0), headers: headers.collect(), body: body.into() }
    }
}
