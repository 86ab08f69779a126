//! The door: connections come in one by one, and one without a seat is told so.

use rustix::{
    io::Errno,
    net::{SendFlags, send},
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

/// The next connection to `listener`, and whom it is from.
///
/// Errors: of the listener itself. A client that is gone before it was accepted is passed over, and
/// descriptors or memory that are used up are waited for: they come back with the next connection
/// that ends.
pub fn accept(listener: &TcpListener) -> io::Result<(Arc<TcpStream>, Ipv4Addr)> {
    loop {
        match listener.accept() {
            Ok((stream, from)) => match from.ip() {
                IpAddr::V4(address) => return Ok((Arc::new(stream), address)),
                IpAddr::V6(_) => {}
            },
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => match e.raw_os_error().map(Errno::from_raw_os_error) {
                Some(
                    Errno::CONNABORTED | Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM,
                ) => thread::sleep(Duration::from_millis(5)),
                _ => return Err(e),
            },
        }
    }
}

/// Answers a connection that has no seat: 503 with `text`, without waiting for anybody.
pub fn refuse(stream: &TcpStream, text: &str) {
    let full = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: {}\r\n\
         Content-Type: text/plain; charset=utf-8\r\nRetry-After: 2\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let _client_gone = send(stream, full.as_bytes(), flags);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn who_has_no_seat_is_told_so_in_a_whole_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connect");
        let (stream, from) = accept(&listener).expect("accepted");
        assert_eq!(from, Ipv4Addr::LOCALHOST);
        refuse(&stream, "席がない\n");
        drop(stream);
        let mut answer = String::new();
        near.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("\r\nContent-Length: 13\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n席がない\n"), "{answer}");
    }
}
