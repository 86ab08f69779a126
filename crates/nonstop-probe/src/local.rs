//! What the host itself takes in: raw sockets get a copy of every packet that has passed the rules
//! on its way to the host's own programs, whether one of them listens or not.

use crate::marker::Marker;
use anyhow::{Context, Result};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    net::{
        AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with, sockopt,
    },
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use std::{
    fs::File,
    net::Ipv4Addr,
    num::NonZeroU32,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, channel},
    },
    thread::{self, JoinHandle},
};

/// A packet that the host took in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// To which of its addresses; None for IPv6.
    pub to: Option<Ipv4Addr>,
    /// Which of ours it was.
    pub marker: Marker,
}

/// Listens in one network namespace until it is dropped.
#[derive(Debug)]
pub struct Local {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// ICMP, IGMP, TCP, UDP, GRE, ESP, SCTP, experiments.
const IPV4: [u32; 8] = [1, 2, 6, 17, 47, 50, 132, 253];
/// TCP, UDP, ICMPv6.
const IPV6: [u32; 3] = [6, 17, 58];

impl Local {
    /// Listens in the namespace `net` (a path) for markers of `run`. Needs root.
    pub fn start(net: &str, run: u32, to: Sender<Taken>) -> Result<Local> {
        let namespace = File::open(net).with_context(|| format!("open the network {net}"))?;
        let over = Arc::new(AtomicBool::new(false));
        let (ready, is_ready) = channel();
        let end = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let sockets = enter(&namespace).and_then(|()| sockets());
            match sockets {
                Ok(sockets) => {
                    let _nobody_waits = ready.send(Ok(()));
                    listen(&sockets, run, &to, &end);
                }
                Err(e) => _ = ready.send(Err(e)),
            }
        });
        is_ready.recv().context("hear the listener")??;
        Ok(Local { over, thread: Some(thread) })
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _its_end = thread.join();
        }
    }
}

fn enter(namespace: &File) -> Result<()> {
    let network = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(namespace.as_fd(), network).context("enter the network")
}

fn sockets() -> Result<Vec<(OwnedFd, bool)>> {
    let open = |family, number: u32| {
        let protocol = NonZeroU32::new(number).map(Protocol::from_raw);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::RAW, flags, protocol)?;
        sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20)?;
        Ok::<OwnedFd, rustix::io::Errno>(socket)
    };
    let mut sockets = Vec::new();
    for number in IPV4 {
        sockets.push((open(AddressFamily::INET, number).context("open a raw socket")?, true));
    }
    for number in IPV6 {
        // A kernel without IPv6 takes none in.
        if let Ok(socket) = open(AddressFamily::INET6, number) {
            sockets.push((socket, false));
        }
    }
    Ok(sockets)
}

fn listen(sockets: &[(OwnedFd, bool)], run: u32, to: &Sender<Taken>, over: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    let wait = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    while !over.load(Ordering::Relaxed) {
        let mut polled: Vec<PollFd<'_>> =
            sockets.iter().map(|(socket, _)| PollFd::new(socket, PollFlags::IN)).collect();
        if !poll(&mut polled, Some(&wait)).is_ok_and(|ready| ready > 0) {
            continue;
        }
        for (socket, is_v4) in sockets {
            while let Ok((length, _)) = recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                let packet = &buffer[..length];
                let Some(marker) = Marker::find(run, packet) else { continue };
                let target = packet.get(16..20).filter(|_| *is_v4);
                let target = target.map(|b| Ipv4Addr::new(b[0], b[1], b[2], b[3]));
                if to.send(Taken { to: target, marker }).is_err() {
                    return;
                }
            }
        }
    }
}
