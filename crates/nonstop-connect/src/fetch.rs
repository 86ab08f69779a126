//! A fresh profile from the portal, through the tunnel.

use crate::trouble::Trouble;
use nonstop_profile::FILE_BYTES;
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(15);
/// The longest head of an answer.
const HEAD: usize = 16 << 10;

/// The profile that the portal at `port` of this PC has.
///
/// Errors: no answer, not 200, too long.
pub(crate) fn profile(port: u16) -> Result<Vec<u8>, Trouble> {
    let failed = |e: std::io::Error| Trouble::Fetch(e.to_string());
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    // 1.0: the answer comes in one piece and ends with the connection.
    let ask =
        format!("GET /profile HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).map_err(failed)?;
    let limit = (HEAD + FILE_BYTES) as u64 + 1;
    let mut answer = Vec::new();
    stream.take(limit).read_to_end(&mut answer).map_err(failed)?;
    body(&answer)
}

fn body(answer: &[u8]) -> Result<Vec<u8>, Trouble> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").filter(|end| *end <= HEAD);
    let end = end.ok_or_else(|| Trouble::Fetch("the answer is no HTTP".into()))?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.split(' ').nth(1).unwrap_or_default();
    if !head.starts_with("HTTP/1.") || status != "200" {
        let status: String = status.chars().filter(char::is_ascii_digit).take(3).collect();
        return Err(Trouble::Fetch(format!("it answered {status}")));
    }
    Ok(answer[end + 4..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart_or_refused() {
        let good = b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{}\r\n\r\n";
        assert_eq!(body(good).expect("fine"), b"{}\r\n\r\n");
        for bad in [&b"HTTP/1.0 404 Not Found\r\n\r\n"[..], b"SSH-2.0-x", b"", b"x 200\r\n\r\n"] {
            assert!(body(bad).is_err());
        }
    }
}
