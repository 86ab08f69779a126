//! Looking at a box from outside, alike for ours and for peers and without a process for it:
//! how many guests run, and whether RDP answers.

use anyhow::{Context, Result, anyhow, bail};
use nonstop_testkit::interrupt;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::fd::AsFd,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Waits until `count` guests run in the box with PID 1 `init`; gives the time since `start`.
///
/// Read from libvirtd's own notes, which say `running` once QEMU executes the guest.
pub(super) fn running(
    init: u32,
    count: usize,
    start: Instant,
    limit: Duration,
) -> Result<Duration> {
    let folder = notes(init);
    let mut seen = BTreeSet::new();
    let pause = Duration::from_millis(if count > 1 { 10 } else { 2 });
    until(&format!("{count} running guests"), start, limit, pause, || {
        for note in guests(&folder) {
            if !seen.contains(&note) && runs(&note) {
                seen.insert(note);
            }
        }
        Ok(seen.len() >= count)
    })
}

/// Waits until no guest is left in the box with PID 1 `init`.
pub(super) fn none_left(init: u32, limit: Duration) -> Result<()> {
    let folder = notes(init);
    let pause = Duration::from_millis(20);
    until("the end of all guests", Instant::now(), limit, pause, || Ok(guests(&folder).is_empty()))
        .map(drop)
}

fn notes(init: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{init}/root/run/libvirt/qemu"))
}

fn guests(notes: &Path) -> Vec<PathBuf> {
    let Ok(listing) = fs::read_dir(notes) else { return Vec::new() };
    let files = listing.flatten().map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|e| e == "xml")).collect()
}

/// A note opens with a comment of some lines, then `<domstatus state='running' ...`.
fn runs(note: &Path) -> bool {
    let mut head = [0; 1024];
    let Ok(n) = File::open(note).and_then(|mut file| file.read(&mut head)) else { return false };
    String::from_utf8_lossy(&head[..n]).contains("<domstatus state='running'")
}

/// Waits until the gateway of the box with PID 1 `init` lets alice through to RDP at `address`; gives
/// the time since `start`. Before that sshd would refuse her, and a refused login would have to be
/// tried again.
pub(super) fn gate_opens(
    init: u32,
    address: Ipv4Addr,
    start: Instant,
    limit: Duration,
) -> Result<Duration> {
    let file = format!("/proc/{init}/root/run/nonstop/gate/keys/alice");
    let opened = format!("permitopen=\"{address}:3389\"");
    until("the gateway to open", start, limit, Duration::from_millis(5), || {
        Ok(fs::read_to_string(&file).is_ok_and(|text| text.contains(&opened)))
    })
}

/// Waits until RDP answers at what `address` finds, as seen from the network of the process
/// `place`; gives the time since `start`.
pub(super) fn rdp_answers(
    place: u32,
    start: Instant,
    limit: Duration,
    mut address: impl FnMut() -> Option<SocketAddr> + Send,
) -> Result<Duration> {
    in_network(place, || {
        until("RDP to answer", start, limit, Duration::from_millis(10), || {
            Ok(address().is_some_and(|address| answers(address).unwrap_or(false)))
        })
    })
}

/// Sends an X.224 connection request and sees whether the connection is confirmed.
fn answers(address: SocketAddr) -> std::io::Result<bool> {
    // TPKT (19 bytes), connection request, RDP negotiation: TLS or CredSSP.
    const REQUEST: [u8; 19] = [3, 0, 0, 19, 14, 0xe0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 3, 0, 0, 0];
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(300))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(&REQUEST)?;
    let mut reply = [0; 6];
    stream.read_exact(&mut reply)?;
    Ok(reply[0] == 3 && reply[5] & 0xf0 == 0xd0)
}

/// Runs `act` in a thread that is in the network namespace of the process `place`.
pub(super) fn in_network<T: Send>(place: u32, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let enter_and_act = || {
        let path = format!("/proc/{place}/ns/net");
        let network = File::open(&path).with_context(|| format!("open {path}"))?;
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("enter {path}"))?;
        act()
    };
    thread::scope(|scope| scope.spawn(enter_and_act).join())
        .unwrap_or_else(|_| Err(anyhow!("a thread that looked at a network panicked")))
}

/// Asks `look` each `pause` until it says yes; gives the time since `start`.
pub(super) fn until(
    what: &str,
    start: Instant,
    limit: Duration,
    pause: Duration,
    mut look: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    loop {
        interrupt::check()?;
        if look()? {
            return Ok(start.elapsed());
        }
        if start.elapsed() > limit {
            bail!("waited {:.0} s for {what} in vain", limit.as_secs_f32());
        }
        thread::sleep(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn server(reply: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 19];
            stream.read_exact(&mut request).expect("a request");
            stream.write_all(reply).expect("heard");
        });
        address
    }

    #[test]
    fn only_a_confirmed_connection_is_an_answer() {
        let confirm = &[3, 0, 0, 19, 14, 0xd0, 0, 0, 0x12, 0x34, 0, 2, 0, 8, 0, 1, 0, 0, 0];
        assert!(answers(server(confirm)).expect("a reply"));
        assert!(!answers(server(b"HTTP/1.1 400 Bad Request\r\n")).expect("a reply"));
        assert!(answers(server(b"")).is_err());
    }
}
