//! What passes on the interfaces of a network namespace, by `tcpdump`, as an admin would look at it.

use crate::marker::Marker;
use anyhow::{Context, Result, bail};
use pcap_parser::{LegacyPcapReader, PcapBlockOwned, PcapError, traits::PcapReaderIterator};
use std::{
    collections::{BTreeSet, HashMap},
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
};

/// A frame that passed, from its network layer on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// In which network: the number that its watch was given.
    pub network: usize,
    /// By which interface.
    pub interface: String,
    /// Whether it left by it.
    pub outgoing: bool,
    /// Its ethertype.
    pub protocol: u16,
    /// Its content behind the ethertype, cut after some 380 bytes.
    pub content: Vec<u8>,
}

/// Looks at one network namespace until it is dropped.
#[derive(Debug)]
pub struct Watch {
    child: Child,
    readers: Vec<JoinHandle<()>>,
    lost: Receiver<u64>,
}

/// The header of "cooked" captures of all interfaces (LINKTYPE_LINUX_SLL2 of the pcap registry).
const HEADER: usize = 20;
const OUTGOING: u8 = 4;

impl Watch {
    /// Looks at the namespace `net` (a path), and tells `to` of frames that bear a marker of `run`
    /// or leave by one of `taps`. Returns when it sees.
    pub fn start(
        net: &str,
        network: usize,
        run: u32,
        taps: BTreeSet<String>,
        to: Sender<Captured>,
    ) -> Result<Watch> {
        let names = interfaces(net)?;
        let mut child = Command::new("nsenter")
            .args([&format!("--net={net}"), "--", "tcpdump", "-i", "any", "-n", "-U"])
            .args(["--immediate-mode", "-y", "LINUX_SLL2", "-s", "400", "-B", "32768", "-w", "-"])
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("run `nsenter` and `tcpdump`: install util-linux and tcpdump")?;
        let output = child.stdout.take().context("hear tcpdump")?;
        let mut said = BufReader::new(child.stderr.take().context("hear tcpdump")?);
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            if said.read_line(&mut line).context("hear tcpdump")? == 0 {
                bail!("tcpdump sees nothing in {net}: {}", line.trim());
            }
        }
        let (count, lost) = channel();
        let talk = thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                if let Some(number) = line.strip_suffix(" packets dropped by kernel") {
                    let _nobody_asks = count.send(number.trim().parse().unwrap_or(1));
                }
            }
        });
        let names = Arc::new(names);
        let frames = thread::spawn(move || {
            let keep = |captured: &Captured| {
                (captured.outgoing && taps.contains(&captured.interface))
                    || Marker::find(run, &captured.content).is_some()
            };
            read(output, network, &names, &mut |captured| {
                !keep(&captured) || to.send(captured).is_ok()
            });
        });
        Ok(Watch { child, readers: vec![talk, frames], lost })
    }

    /// Ends it, and says how many frames it could not see.
    pub fn end(mut self) -> u64 {
        self.stop();
        self.lost.try_iter().sum()
    }

    fn stop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            // nsenter has become tcpdump, which tells its figures at its end.
            let _ended_already = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        for reader in self.readers.drain(..) {
            let _its_end = reader.join();
        }
        let _reaped = self.child.wait();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.readers.is_empty() {
            self.stop();
        }
    }
}

/// Reads a capture to its end, or until `each` has enough.
fn read(
    input: impl std::io::Read,
    network: usize,
    names: &HashMap<u32, String>,
    each: &mut dyn FnMut(Captured) -> bool,
) {
    let Ok(mut reader) = LegacyPcapReader::new(1 << 16, input) else { return };
    loop {
        match reader.next() {
            Ok((offset, block)) => {
                let captured = match &block {
                    PcapBlockOwned::Legacy(packet) => captured(packet.data, network, names),
                    PcapBlockOwned::LegacyHeader(_) | PcapBlockOwned::NG(_) => None,
                };
                let goes_on = captured.is_none_or(&mut *each);
                reader.consume(offset);
                if !goes_on {
                    return;
                }
            }
            Err(PcapError::Incomplete(_)) => {
                if reader.refill().is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

fn captured(data: &[u8], network: usize, names: &HashMap<u32, String>) -> Option<Captured> {
    let content = data.get(HEADER..)?.to_vec();
    let protocol = u16::from_be_bytes([data[0], data[1]]);
    let index = u32::from_be_bytes([data[4], data[5], data[6], data[7]]);
    let interface = names.get(&index).cloned().unwrap_or_else(|| format!("interface {index}"));
    Some(Captured { network, interface, outgoing: data[10] == OUTGOING, protocol, content })
}

fn interfaces(net: &str) -> Result<HashMap<u32, String>> {
    let output = Command::new("nsenter")
        .args([&format!("--net={net}"), "--", "ip", "-j", "link", "show"])
        .output()
        .context("run `nsenter` and `ip`: install util-linux and iproute2")?;
    let listed: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("understand what `ip -j link show` says")?;
    let links = listed.as_array().into_iter().flatten();
    Ok(links
        .filter_map(|link| {
            let index = u32::try_from(link["ifindex"].as_u64()?).ok()?;
            Some((index, link["ifname"].as_str()?.to_string()))
        })
        .collect())
}
