//! The portal over real sockets, with a daemon of canned answers behind it: its own checks, and
//! every page as it is sent. End-to-end tests with the real daemon stand in `tests/`.

mod browser;
mod canned;
mod exports;
mod guard;
mod pages;
mod samples;
mod style;

use browser::Browser;
use canned::{Canned, NOW};
use jiff::tz::{TimeZone, offset};
use nonstop_model::Lab;
use nonstop_portal::{App, keep_listening};
use std::{
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant},
};

/// A portal and its daemon, for one test.
pub(crate) struct World {
    /// The daemon.
    pub(crate) daemon: Canned,
    /// Where accounts find the portal.
    pub(crate) net: [u8; 3],
    /// The portal's port.
    pub(crate) port: u16,
    _folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl World {
    /// A portal with its listeners open.
    pub(crate) fn new() -> World {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let net = [127, 100, NEXT.fetch_add(1, Ordering::SeqCst)];
        let free = TcpListener::bind((Ipv4Addr::new(net[0], net[1], net[2], 1), 0));
        let port = free.expect("an address").local_addr().expect("bound").port();
        let folder = tempfile::tempdir().expect("a folder");
        let yaml = format!(
            "version: 1\nname: Kasuga lab\nsoftware_keys: true\nrun: {}\nportal:\n  port: {port}\n",
            folder.path().display()
        );
        let lab = Lab::parse("lab.yaml", &yaml).expect("a good lab");
        let daemon = Canned::start(&lab.portal_socket(), net);
        let app = App::new(lab, TimeZone::fixed(offset(9)), || NOW.parse().expect("a time"));
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.spawn(keep_listening(app));
        let world = World { daemon, net, port, _folder: folder, _runtime: runtime };
        let started = Instant::now();
        while TcpStream::connect(world.address(2)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "the portal does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        world
    }

    fn address(&self, last: u8) -> SocketAddrV4 {
        let [a, b, c] = self.net;
        SocketAddrV4::new(Ipv4Addr::new(a, b, c, last), self.port)
    }

    /// A researcher's browser.
    pub(crate) fn alice(&self) -> Browser {
        Browser::new(self.address(1))
    }

    /// A browser of the staff.
    pub(crate) fn sato(&self) -> Browser {
        Browser::new(self.address(2))
    }
}
