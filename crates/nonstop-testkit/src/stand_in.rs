//! Plain listeners in place of servers that are not built yet: one for each of those of a data
//! domain, in that domain's network namespace.
//!
//! Each says its name to whoever connects. What they stand in for is written into
//! `RUN/stand-ins.json`, so that nobody takes them for the real thing.

use anyhow::{Context, Result, bail};
use nonstop_model::{Lab, Protocol, ReachTarget, Resource};
use std::{
    fs::{self, File},
    io::Write,
    net::{TcpListener, UdpSocket},
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// Where the names of what is stood in for are found, in the lab whose `run` folder this is.
pub fn marker(run: &Path) -> PathBuf {
    run.join("stand-ins.json")
}

/// How long the daemon may take to make a data domain.
const MADE: Duration = Duration::from_secs(60);

/// Runs until it is killed. Arguments: `--lab FILE`.
pub fn main(args: &[String]) -> Result<()> {
    let [flag, file] = args else { bail!("usage: nonstop-stand-in --lab FILE") };
    if flag != "--lab" {
        bail!("usage: nonstop-stand-in --lab FILE");
    }
    let lab = Lab::load(Path::new(file))?;
    let (tell, told) = mpsc::channel();
    let (mut names, mut expected) = (Vec::new(), 0);
    for (name, domain) in lab.data_domains.iter().filter(|(_, domain)| domain.here) {
        let namespace = PathBuf::from(format!("/run/netns/nonstop-{name}"));
        for (server, found) in &domain.servers {
            if found.resource(server).is_some_and(Resource::is_ours) {
                continue;
            }
            names.push(format!("{name}/{server}"));
            for target in domain.targets(server).unwrap_or_default() {
                serve(namespace.clone(), target, tell.clone());
                expected += 1;
            }
        }
    }
    drop(tell);
    for _ in 0..expected {
        told.recv().context("a listener ended")??;
    }
    let marker = marker(&lab.run);
    let text = serde_json::json!({ "pid": std::process::id(), "servers": names }).to_string();
    fs::write(&marker, text).with_context(|| format!("write {}", marker.display()))?;
    loop {
        thread::park();
    }
}

/// Listens at `target` in `namespace` on a thread of its own; tells when it does.
fn serve(namespace: PathBuf, target: ReachTarget, tell: mpsc::Sender<Result<()>>) {
    thread::spawn(move || {
        let entered = enter(&namespace);
        let at = (target.address, target.port);
        let bound = entered.and_then(|()| match target.protocol {
            Protocol::Tcp => {
                let listener = TcpListener::bind(at).with_context(|| format!("bind {target}"))?;
                Ok((Some(listener), None))
            }
            Protocol::Udp => {
                let socket = UdpSocket::bind(at).with_context(|| format!("bind {target}"))?;
                Ok((None, Some(socket)))
            }
        });
        let (tcp, udp) = match bound {
            Ok(bound) => bound,
            Err(e) => {
                drop(tell.send(Err(e)));
                return;
            }
        };
        drop(tell.send(Ok(())));
        let says = format!("stand-in for {}\n", target.server);
        for mut stream in tcp.iter().flat_map(TcpListener::incoming).flatten() {
            drop(stream.write_all(says.as_bytes()));
        }
        while let Some(socket) = &udp {
            if let Ok((_, from)) = socket.recv_from(&mut [0; 2048]) {
                drop(socket.send_to(says.as_bytes(), from));
            }
        }
    });
}

/// Moves this thread into `namespace`, which the daemon may still be making.
fn enter(namespace: &Path) -> Result<()> {
    let begun = Instant::now();
    loop {
        let entered = File::open(namespace)
            .map_err(anyhow::Error::from)
            .and_then(|file| Ok(rustix::thread::move_into_link_name_space(file.as_fd(), None)?));
        match entered {
            Ok(()) => return Ok(()),
            Err(_) if begun.elapsed() < MADE => thread::sleep(Duration::from_millis(100)),
            Err(e) => return Err(e).with_context(|| format!("enter {}", namespace.display())),
        }
    }
}
