//! Elements put into the kernel's sets, and taken out, by netlink.
//!
//! Running `nft` costs milliseconds for the process alone, and it reads a set before it deletes
//! from it. A batch of messages is one transaction too, and costs the same at any size. Only
//! elements go this way: rules are text, by `nft`, as an admin would read them.

use super::elements::{Element, Field, elements};
use nonstop_plan::Grant;
use rustix::{
    io::Errno,
    net::{
        self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
        netlink::{self, SocketAddrNetlink},
        sockopt,
    },
};
use std::{io, os::fd::OwnedFd, time::Duration};

/// The kernel did not take a change of elements.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket, or the message does not go through it.
    #[error("talk to nf_tables by netlink")]
    Talk(#[source] io::Error),
    /// It answered no; nothing of the change was done.
    #[error("nf_tables refused")]
    Refused(#[source] io::Error),
    /// It did not answer.
    #[error("nf_tables did not answer")]
    Silent,
}

/// A transaction that is being written.
#[derive(Debug, Default)]
pub(super) struct Batch {
    messages: Vec<u8>,
    /// Where the last message begins.
    last: Option<usize>,
}

// linux/netlink.h, linux/netfilter/nfnetlink.h and nf_tables.h.
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const CREATE: u16 = 0x400;
const ERROR: u16 = 2;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NFTABLES: u16 = 10;
const NEW_ELEMENT: u16 = NFTABLES << 8 | 12;
const DELETE_ELEMENT: u16 = NFTABLES << 8 | 14;
const NESTED: u16 = 0x8000;
const INVERSE: u32 = 1;

/// The kernel copies a message whole: as much is given to one.
const SOCKET_BYTES: usize = 32 << 20;

impl Batch {
    /// Lets `grant` through for `lease`, or renews it.
    pub(super) fn add(&mut self, grant: &Grant, lease: Option<Duration>) {
        self.remove(grant);
        // To the kernel, no time at all would mean for ever.
        if lease.is_some_and(|lease| lease.as_millis() == 0) {
            return;
        }
        for element in elements(grant) {
            self.element(NEW_ELEMENT, &element, lease);
        }
    }

    /// Takes `grant` out. Each element is added first, since removing one that is absent fails;
    /// and adding one that is there does not renew it (kernel 6.1).
    pub(super) fn remove(&mut self, grant: &Grant) {
        for element in elements(grant) {
            self.element(NEW_ELEMENT, &Element { rate: None, ..element.clone() }, None);
            self.element(DELETE_ELEMENT, &element, None);
        }
    }

    fn element(&mut self, kind: u16, element: &Element, lease: Option<Duration>) {
        let key = nested(1, &attribute(1, &key(&element.key)));
        let mut body = key;
        if kind == NEW_ELEMENT {
            // Sets of limits hold no leases: a limit gives nothing away.
            if let (Some(lease), None) = (lease, element.rate) {
                let ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
                body.extend(attribute(4, &ms.to_be_bytes()));
            }
            if let Some(rate) = element.rate {
                body.extend(nested(7, &expression(rate)));
            }
        }
        let family = if element.family == "bridge" { BRIDGE } else { INET };
        let mut payload = general(family, 0);
        payload.extend(attribute(1, b"nonstop\0"));
        payload.extend(attribute(2, &[element.set.as_bytes(), b"\0"].concat()));
        payload.extend(nested(3, &nested(1, &body)));
        let flags = if kind == NEW_ELEMENT { REQUEST | CREATE } else { REQUEST };
        self.last = Some(self.messages.len());
        self.messages.extend(message(kind, flags, &payload));
    }

    /// Commits it: all of it or nothing. `socket` is opened when first needed and kept: closing one
    /// waits for the kernel to forget what was deleted, 15 ms (kernel 6.18).
    pub(super) fn commit(mut self, socket: &mut Option<OwnedFd>) -> Result<(), NetlinkError> {
        let Some(last) = self.last else { return Ok(()) };
        // Flags follow length and type.
        self.messages[last + 6] |= ACK as u8;
        let mut all = message(BATCH_BEGIN, REQUEST, &general(0, NFTABLES));
        all.append(&mut self.messages);
        all.extend(message(BATCH_END, REQUEST, &general(0, NFTABLES)));
        let talk = |e: Errno| NetlinkError::Talk(e.into());
        let open = match socket.take() {
            Some(open) => open,
            None => net::socket_with(
                AddressFamily::NETLINK,
                SocketType::RAW,
                SocketFlags::CLOEXEC,
                Some(netlink::NETFILTER),
            )
            .map_err(talk)?,
        };
        exchange(&open, &all)?;
        // Only now: one that failed may hold answers that nobody has read.
        *socket = Some(open);
        Ok(())
    }
}

/// Sends `all` and reads what is answered.
fn exchange(socket: &OwnedFd, all: &[u8]) -> Result<(), NetlinkError> {
    let talk = |e: Errno| NetlinkError::Talk(e.into());
    if all.len() > 64 << 10 {
        sockopt::set_socket_send_buffer_size_force(socket, SOCKET_BYTES).map_err(talk)?;
    }
    // The transaction is over when this returns; answers wait.
    net::sendto(socket, all, SendFlags::empty(), &SocketAddrNetlink::new(0, 0)).map_err(talk)?;
    let (mut answered, mut buffer) = (false, vec![0; 64 << 10]);
    loop {
        match net::recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((_, length)) => {
                for answer in answers(&buffer[..length.min(buffer.len())]) {
                    answered = true;
                    if answer != 0 {
                        let refused = io::Error::from_raw_os_error(-answer);
                        return Err(NetlinkError::Refused(refused));
                    }
                }
            }
            Err(Errno::AGAIN) if answered => return Ok(()),
            Err(Errno::AGAIN) => return Err(NetlinkError::Silent),
            Err(Errno::INTR) => {}
            Err(e) => return Err(talk(e)),
        }
    }
}

const INET: u8 = 1;
const BRIDGE: u8 = 7;

/// `struct nfgenmsg`.
fn general(family: u8, resource: u16) -> Vec<u8> {
    let [high, low] = resource.to_be_bytes();
    vec![family, 0, high, low]
}

/// A message with its header; its length is a multiple of four.
fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + payload.len()).expect("a message of a few hundred bytes");
    let mut all = Vec::with_capacity(16 + payload.len());
    all.extend(length.to_ne_bytes());
    all.extend(kind.to_ne_bytes());
    all.extend(flags.to_ne_bytes());
    all.extend([0; 8]);
    all.extend(payload);
    all
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("an attribute of a few hundred bytes");
    let mut all = Vec::with_capacity(usize::from(length) + 3);
    all.extend(length.to_ne_bytes());
    all.extend(kind.to_ne_bytes());
    all.extend(value);
    all.resize(all.len().next_multiple_of(4), 0);
    all
}

fn nested(kind: u16, value: &[u8]) -> Vec<u8> {
    attribute(kind | NESTED, value)
}

/// A key as the kernel compares it: each field filled up to a multiple of four bytes.
fn key(fields: &[Field]) -> Vec<u8> {
    let mut key = Vec::new();
    for field in fields {
        match field {
            Field::Interface(name) => {
                let mut bytes = name.as_bytes().to_vec();
                bytes.resize(16, 0);
                key.extend(bytes);
            }
            Field::Address(address) => key.extend(address.octets()),
            Field::Mac(mac) => key.extend(mac.octets()),
            Field::Uid(uid) => key.extend(uid.to_ne_bytes()),
            Field::Protocol(protocol) => key.push(protocol.number()),
            Field::Port(port) => key.extend(port.to_be_bytes()),
        }
        key.resize(key.len().next_multiple_of(4), 0);
    }
    key
}

/// What lets `rate` packets a second pass, and as many at once, and matches the rest.
fn expression(rate: u32) -> Vec<u8> {
    let data = [
        attribute(1, &u64::from(rate).to_be_bytes()),
        attribute(2, &1_u64.to_be_bytes()),
        attribute(3, &rate.to_be_bytes()),
        attribute(4, &0_u32.to_be_bytes()),
        attribute(5, &INVERSE.to_be_bytes()),
    ];
    [attribute(1, b"limit\0"), nested(2, &data.concat())].concat()
}

/// The error numbers of the answers in `received`; 0 is an acknowledgement.
fn answers(mut received: &[u8]) -> Vec<i32> {
    let mut all = Vec::new();
    while received.len() >= 20 {
        let word = |at: usize| <[u8; 4]>::try_from(&received[at..at + 4]).expect("four bytes");
        let length = u32::from_ne_bytes(word(0)) as usize;
        if u16::from_ne_bytes([received[4], received[5]]) == ERROR {
            all.push(i32::from_ne_bytes(word(16)));
        }
        received = received.get(length.next_multiple_of(4).max(20)..).unwrap_or_default();
    }
    all
}
