//! How an answer goes out.

use rustix::{
    fs::sendfile,
    io::Errno,
    net::{SendFlags, send},
};
use std::{
    fs::File,
    io::{self, Read},
    net::{Shutdown, TcpStream},
    ops::Range,
    time::{Duration, Instant},
};

/// The most of a file by one call, in bytes.
const PIECE: u64 = 4 << 20;

/// Sends all of `bytes`. A client that is gone is an error, and no signal.
pub fn all(stream: &TcpStream, mut bytes: &[u8], flags: SendFlags) -> io::Result<()> {
    while !bytes.is_empty() {
        match send(stream, bytes, flags | SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Sends `range` of `file`, and tells `sent` of each piece that went, in bytes.
///
/// Errors: `UnexpectedEof` where the file is shorter than it was said to be; the client sees by the
/// length that it was told that bytes are missing.
pub fn file(
    stream: &TcpStream,
    file: &File,
    range: Range<u64>,
    mut sent: impl FnMut(u64),
) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let piece = usize::try_from((range.end - at).min(PIECE)).unwrap_or(usize::MAX);
        match sendfile(stream, file, Some(&mut at), piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => sent(bytes as u64),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Ends `stream` such that its client reads the answer: to close it while something that it sent
/// lies unread would take the answer from it.
///
/// What still comes is read and forgotten, for `patience` at most.
pub fn farewell(mut stream: &TcpStream, patience: Duration) {
    if stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let until = Instant::now() + patience;
    let mut buffer = [0; 16 << 10];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return;
        }
        if !matches!(stream.read(&mut buffer), Ok(1..)) {
            return;
        }
    }
}

/// `status` in words; one that is not among them is an error of the server.
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        301 => "Moved Permanently",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        423 => "Locked",
        424 => "Failed Dependency",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        507 => "Insufficient Storage",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write, net::TcpListener, thread};

    /// Both ends of a connection.
    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connect");
        (listener.accept().expect("accept").0, near)
    }

    #[test]
    fn a_file_that_is_shorter_than_it_was_said_to_be_is_no_whole_answer() {
        let path = std::env::current_exe().expect("this program");
        let length = path.metadata().expect("its length").len();
        let this = File::open(path).expect("this program");
        let (stream, mut near) = pair();
        let read = thread::spawn(move || {
            let mut all = Vec::new();
            near.read_to_end(&mut all).map(|_| all)
        });
        let mut sent = 0;
        let wanted = length - 10..length + 10;
        let done = file(&stream, &this, wanted, |bytes| sent += bytes);
        assert_eq!(done.expect_err("it ends").kind(), io::ErrorKind::UnexpectedEof);
        drop(stream);
        let came = read.join().expect("no panic").expect("read");
        assert_eq!((sent, came.len()), (10, 10));
    }

    #[test]
    fn a_client_that_still_sends_reads_its_answer() {
        let (stream, mut near) = pair();
        near.write_all(&[b'x'; 100_000]).expect("sent");
        all(&stream, b"no", SendFlags::empty()).expect("answered");
        let ends = thread::spawn(move || farewell(&stream, Duration::from_secs(30)));
        let mut answer = String::new();
        near.read_to_string(&mut answer).expect("an answer");
        assert_eq!(answer, "no");
        drop(near);
        ends.join().expect("no panic");
    }
}
