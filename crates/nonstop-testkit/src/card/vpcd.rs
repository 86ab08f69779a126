//! The card's end of vpcd's protocol: two bytes of length, then a command or one control byte.

use super::{CardFile, applet::Applet};
use anyhow::{Context, Result, bail};
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

/// vpcd's first slot; the second one listens on the next port.
pub const PORT: u16 = 35963;

/// What goes wrong, counted in commands from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// The card is pulled out before it has done this command.
    pub pull_at: Option<u64>,
    /// The card is pulled out after it has done this command and before it has answered.
    pub lose_answer: Option<u64>,
    /// Milliseconds that each command takes.
    pub slow_ms: u64,
}

/// Plays the card in `file` in the reader behind `port` until it is pulled out or vpcd ends.
///
/// Errors: nothing listens there for five seconds, the file is broken.
pub fn play(file: &CardFile, port: u16, faults: Faults) -> Result<()> {
    let mut card = Applet::open(file)?;
    let mut stream = connect(port)?;
    stream.set_nodelay(true).context("send at once")?;
    let mut count = 0;
    loop {
        let Some(message) = read(&mut stream)? else { return Ok(()) };
        match message.as_slice() {
            [] => bail!("an empty message"),
            [0..=2] => card.reset(),
            [4] => send(&mut stream, &card.atr())?,
            [other] => bail!("control byte {other}"),
            command => {
                count += 1;
                if faults.pull_at == Some(count) {
                    return Ok(());
                }
                thread::sleep(Duration::from_millis(faults.slow_ms));
                let answer = card.execute(command)?;
                if faults.lose_answer == Some(count) {
                    return Ok(());
                }
                send(&mut stream, &answer)?;
            }
        }
    }
}

fn connect(port: u16) -> Result<TcpStream> {
    let start = Instant::now();
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => return Ok(stream),
            Err(_) if start.elapsed() < Duration::from_secs(5) => {
                thread::sleep(Duration::from_millis(20));
            }
            Err(e) => return Err(e).with_context(|| format!("no vpcd on port {port}")),
        }
    }
}

/// A whole message; none when the reader is gone.
fn read(stream: &mut TcpStream) -> Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    if !fill(stream, &mut length)? {
        return Ok(None);
    }
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    Ok(fill(stream, &mut message)?.then_some(message))
}

/// vpcd sends length and body apart, so that its second packet waits for our delayed
/// acknowledgement: 44 ms a command, unless it is asked for at once, each time anew.
fn fill(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<bool> {
    let mut filled = 0;
    while filled < buffer.len() {
        rustix::net::sockopt::set_tcp_quickack(&*stream, true).context("acknowledge at once")?;
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => return Ok(false),
            Ok(n) => filled += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return Ok(false),
            Err(e) => return Err(e).context("hear vpcd"),
        }
    }
    Ok(true)
}

fn send(stream: &mut TcpStream, data: &[u8]) -> Result<()> {
    let length = u16::try_from(data.len()).context("an answer of more than 64 KiB")?;
    stream.write_all(&[&length.to_be_bytes(), data].concat()).context("answer vpcd")
}
