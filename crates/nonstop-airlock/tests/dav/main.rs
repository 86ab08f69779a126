//! The two programs, as root starts them, before a daemon of these tests; asked over real sockets.
//! Needs root.

mod daemon;
mod http;
mod listings;
mod rules;
mod uploads;

use daemon::Daemon;
use nonstop_airlock::target::Side;
use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A program with its daemon; both end when it is dropped.
pub(crate) struct Ground {
    pub(crate) daemon: Daemon,
    pub(crate) address: SocketAddrV4,
    pub(crate) side: Side,
    pub(crate) program: Child,
    _folder: TempDir,
}

/// The user of the programs here, whom nobody else is.
pub(crate) const UID: u32 = 63_811;

impl Ground {
    pub(crate) fn new(side: Side) -> Ground {
        let folder = tempfile::Builder::new().prefix("airlock").tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let below = |name: &str| folder.path().join(name);
        for name in ["run", "state", "contents"] {
            fs::create_dir(below(name)).expect("a folder");
        }
        // Free a moment ago, on the address that is asked for.
        let ip = match side {
            Side::Outside => Ipv4Addr::new(127, 64, 0, 9),
            Side::Inside => Ipv4Addr::LOCALHOST,
        };
        let free = TcpListener::bind((ip, 0)).expect("a port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let ports = match side {
            Side::Inside => format!("port: {port}"),
            Side::Outside => format!("outside_port: {port}"),
        };
        let lab = format!(
            "version: 1\nname: lab\nstate: {}\nrun: {}\nsoftware_keys: true\nairlock: {{ {ports} }}\n",
            below("state").display(),
            below("run").display()
        );
        fs::write(below("lab.yaml"), lab).expect("written");
        let socket = below("run").join(format!("{}.sock", side.as_str()));
        let daemon = Daemon::start(&socket, &below("contents"));
        let program = Command::new(env!("CARGO_BIN_EXE_nonstop-airlock"))
            .arg(side.as_str())
            .arg("--lab")
            .arg(below("lab.yaml"))
            .arg(format!("--user={UID}:{UID}"))
            .spawn()
            .expect("start");
        let address = SocketAddrV4::new(ip, port);
        let ground = Ground { daemon, address, side, program, _folder: folder };
        let begun = Instant::now();
        while TcpStream::connect(ground.address).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the program does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        ground
    }

    /// The path of what this side may write to.
    pub(crate) fn writable(&self) -> &'static str {
        match self.side {
            Side::Inside => "/export",
            Side::Outside => "/dav/e7/import",
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _gone_already = self.program.kill();
        let _ended = self.program.wait();
    }
}
