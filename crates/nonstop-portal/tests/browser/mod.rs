//! As much of a browser as the tests need: HTTP over TCP, cookies, forms.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpStream},
    time::{Duration, Instant},
};

/// A browser behind the tunnel to an account's address.
#[derive(Clone)]
pub struct Browser {
    address: Ipv4Addr,
    port: u16,
    host: String,
    lang: String,
    from: (String, String),
    cookies: BTreeMap<String, String>,
}

impl Browser {
    /// A browser that speaks English and is at `http://localhost:8000`.
    pub fn new(address: Ipv4Addr, port: u16) -> Browser {
        Browser {
            address,
            port,
            host: "localhost:8000".into(),
            lang: "en".into(),
            from: ("Origin".into(), "http://localhost:8000".into()),
            cookies: BTreeMap::new(),
        }
    }

    /// The same with another language.
    pub fn speaks(self, lang: &str) -> Browser {
        Browser { lang: format!("{lang};q=0.9, fr;q=0.2"), ..self }
    }

    /// The same at another name.
    pub fn host(self, host: &str) -> Browser {
        Browser { host: host.into(), ..self }
    }

    /// The same with all its cookies, in the tunnel of another.
    pub fn at(self, address: Ipv4Addr) -> Browser {
        Browser { address, ..self }
    }

    /// The same, whose forms say with a header that they come from another page.
    pub fn from_page(self, name: &str, value: &str) -> Browser {
        Browser { from: (name.into(), value.into()), ..self }
    }

    /// GETs `path`.
    pub fn get(&mut self, path: &str) -> Page {
        self.talk(&format!("GET {path} HTTP/1.1\r\n{}\r\n", self.headers()))
    }

    /// POSTs `fields` as they are.
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let (name, value) = &self.from;
        self.talk(&format!(
            "POST {path} HTTP/1.1\r\n{}{name}: {value}\r\nContent-Length: {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}",
            self.headers(),
            body.len(),
        ))
    }

    /// Opens the form at `page` and sends `fields` with its token to `path`.
    pub fn submit(&mut self, page: &str, path: &str, fields: &[(&str, &str)]) -> Page {
        let token = self.get(page).token().to_string();
        self.post(path, &[&[("token", token.as_str())], fields].concat())
    }

    /// The same for a form that goes to its own address.
    pub fn send(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        self.submit(path, path, fields)
    }

    fn headers(&self) -> String {
        let cookies: Vec<_> = self.cookies.iter().map(|(k, v)| format!("{k}={v}")).collect();
        format!(
            "Host: {}\r\nAccept-Language: {}\r\nCookie: {}\r\nConnection: close\r\n",
            self.host,
            self.lang,
            cookies.join("; "),
        )
    }

    fn talk(&mut self, message: &str) -> Page {
        let mut stream = self.connect();
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        // A portal that refuses a long body need not read all of it.
        let _sent = stream.write_all(message.as_bytes());
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes) {
            Err(e) if e.kind() != ErrorKind::ConnectionReset => panic!("read an answer: {e}"),
            _ => {}
        }
        let page = Page::parse(&String::from_utf8(bytes).expect("UTF-8"));
        for (_, line) in page.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let (name, rest) = line.split_once('=').expect("a cookie");
            assert!(line.contains("HttpOnly") && line.contains("SameSite=Strict"), "{line}");
            let value = rest.split(';').next().unwrap_or_default();
            self.cookies.insert(name.into(), value.into());
        }
        page
    }

    fn connect(&self) -> TcpStream {
        let since = Instant::now();
        loop {
            match TcpStream::connect((self.address, self.port)) {
                Ok(stream) => return stream,
                // The portal has just been started.
                Err(_) if since.elapsed() < Duration::from_secs(10) => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(e) => panic!("connect to {}:{}: {e}", self.address, self.port),
            }
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Page {
    /// Status code.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// Its text.
    pub text: String,
}

impl Page {
    fn parse(answer: &str) -> Page {
        let (head, text) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|l| l.split(' ').nth(1)?.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(": "));
        Page {
            status: status.expect("a status"),
            headers: headers.map(|(k, v)| (k.to_ascii_lowercase(), v.into())).collect(),
            text: text.into(),
        }
    }

    /// Whether it holds `text`.
    pub fn has(&self, text: &str) -> bool {
        self.text.contains(text)
    }

    /// A header; empty where it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(k, _)| k == name).map_or("", |(_, v)| v)
    }

    /// The token of its forms.
    pub fn token(&self) -> &str {
        let after = self.text.split("name=\"token\" value=\"").nth(1);
        after.and_then(|rest| rest.split('"').next()).unwrap_or_else(|| panic!("{}", self.text))
    }

    /// Its content without the frame; tokens are left out.
    pub fn main(&self) -> String {
        let token = self.token();
        let main = self.text.split("<main").nth(1).and_then(|rest| rest.split("</main>").next());
        let main = main.unwrap_or_else(|| panic!("{}", self.text)).replace(token, "[token]");
        format!("<main{main}</main>")
    }

    /// Checks what holds for every page of ours: headers, landmarks, labels, no script.
    pub fn is_well_made(&self, path: &str) {
        let policy = self.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("form-action 'self'"));
        assert_eq!(self.header("cache-control"), "no-store", "{path}");
        assert_eq!(self.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(self.header("referrer-policy"), "same-origin", "{path}");
        for wanted in ["<main", "<title>", "class=\"skip\"", "name=\"viewport\""] {
            assert_eq!(self.text.matches(wanted).count(), 1, "{path}: {wanted}");
        }
        assert_eq!(self.text.matches("<h1").count(), 1, "{path}: one heading of the page");
        for bad in ["<script", "javascript:", " style=", " onclick=", "<th>", "http://cdn", "{{", "{}"] {
            assert!(!self.has(bad) || (bad == "{}" && self.has("alert(1)")), "{path} holds {bad}");
        }
        self.every_field_has_a_label(path);
        for form in self.text.split("<form").skip(1) {
            let form = form.split("</form>").next().unwrap_or_default();
            assert!(form.contains("method=\"post\""), "{path}: {form}");
            assert!(form.contains("name=\"token\""), "{path}: {form}");
        }
    }

    fn every_field_has_a_label(&self, path: &str) {
        for kind in ["<input", "<textarea", "<select"] {
            for tag in self.text.split(kind).skip(1) {
                let tag = tag.split('>').next().unwrap_or_default();
                if tag.contains("type=\"hidden\"") {
                    continue;
                }
                let id = tag.split(" id=\"").nth(1).and_then(|rest| rest.split('"').next());
                let id = id.unwrap_or_else(|| panic!("{path}: a field without id: {tag}"));
                assert!(self.has(&format!("for=\"{id}\"")), "{path}: no label for {id}");
            }
        }
    }
}
