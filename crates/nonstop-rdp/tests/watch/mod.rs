//! A worker as it runs, confined, with this test in the place of `nonstopd` and of the broker.

#![allow(unreachable_pub, dead_code, reason = "each test takes what it needs")]

pub mod eyes;
pub mod iron;
pub mod terminal;

use base64::{Engine, prelude::BASE64_STANDARD};
use nonstop_display::{
    link::{Cursor, Input, Meter, Rect, Show, Told},
    setup::WorkerSetup,
    wire::{self, WireError},
};
use nonstop_testkit::process;
use std::{
    fs::File,
    io::Write,
    net::{SocketAddr, TcpListener},
    os::{fd::OwnedFd, unix::fs::FileExt},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// For whatever a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Each worker has a user of its own, as it counts its threads.
static UID: AtomicU32 = AtomicU32::new(72_001);

/// A running worker.
pub struct Watch {
    child: Child,
    link: Option<OwnedFd>,
    pub address: SocketAddr,
    /// What it shows, as DER.
    pub certificate: Vec<u8>,
    memory: File,
    pub width: u16,
    pub height: u16,
    /// The picture: blue, green, red, unused.
    pub pixels: Vec<u8>,
    serial: u64,
    /// A damage that the worker has not taken.
    waits: bool,
    /// What it told and no test has taken, without [`Told::Ready`].
    pub told: Vec<Told>,
    pub meter: Meter,
    /// How many damages it has taken.
    pub taken: u64,
}

impl Watch {
    /// A worker that shows a picture of this size.
    pub fn new(width: u16, height: u16) -> Watch {
        let mut watch = Watch::without_picture();
        watch.picture(width, height, |_, _| [90, 60, 30]);
        watch
    }

    pub fn without_picture() -> Watch {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (link, theirs) = wire::pair().expect("a pair");
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = rcgen::CertificateParams::new(vec!["desktop".into()])
            .and_then(|params| params.self_signed(&key))
            .expect("a certificate");
        let certificate = certificate.der().to_vec();
        let setup = WorkerSetup {
            certificates: vec![BASE64_STANDARD.encode(&certificate)],
            key: BASE64_STANDARD.encode(key.serialize_der()),
        };
        let (reads, mut writes) = std::io::pipe().expect("a pipe");
        let uid = UID.fetch_add(1, Ordering::Relaxed);
        let child = Command::new(env!("CARGO_BIN_EXE_nonstop-rdp"))
            .args(["worker", &uid.to_string()])
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(OwnedFd::from(listener)))
            .stderr(Stdio::from(reads))
            .spawn()
            .expect("a worker");
        let text = serde_json::to_vec(&setup).expect("a setup");
        writes.write_all(&text).expect("a setup is read");
        drop(writes);
        let memory = memory(4);
        Watch {
            child,
            link: Some(link),
            address,
            certificate,
            memory,
            width: 0,
            height: 0,
            pixels: Vec::new(),
            serial: 0,
            waits: false,
            told: Vec::new(),
            meter: Meter::default(),
            taken: 0,
        }
    }

    pub fn link(&self) -> &OwnedFd {
        self.link.as_ref().expect("not let go")
    }

    /// The SHA-256 of its certificate, as FreeRDP wants it.
    pub fn fingerprint(&self) -> String {
        use sha2::Digest;
        let digest = sha2::Sha256::digest(&self.certificate);
        digest.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
    }

    /// Shows a new picture.
    pub fn picture(&mut self, width: u16, height: u16, colour: impl Fn(u16, u16) -> [u8; 3]) {
        self.pixels.clear();
        for y in 0..height {
            for x in 0..width {
                let [red, green, blue] = colour(x, y);
                self.pixels.extend([blue, green, red, 0]);
            }
        }
        (self.width, self.height) = (width, height);
        self.memory = memory(self.pixels.len() as u64);
        self.memory.write_all_at(&self.pixels, 0).expect("pixels");
        let file = self.memory.try_clone().expect("a descriptor");
        self.waits = false;
        self.show(&Show::Picture { width, height, stride: u32::from(width) * 4 }, Some(file));
    }

    /// Shows something; waits while the worker lags.
    pub fn show(&self, show: &Show, file: Option<File>) {
        let file = file.map(OwnedFd::from);
        until("a worker that listens", || {
            use std::os::fd::AsFd;
            match wire::send(self.link(), show, file.as_ref().map(AsFd::as_fd)) {
                Ok(()) => Some(()),
                Err(WireError::Full) => None,
                Err(e) => panic!("the worker is gone: {e}"),
            }
        });
    }

    pub fn cursor(&self, cursor: Option<Cursor>) {
        self.show(&Show::Cursor(cursor), None);
    }

    /// Changes a part of the picture once the worker has taken what was shown before.
    pub fn paint(&mut self, rect: Rect, colour: impl Fn(u16, u16) -> [u8; 3]) {
        self.await_taken();
        for y in rect.y..rect.y + rect.height {
            let start = (usize::from(y) * usize::from(self.width) + usize::from(rect.x)) * 4;
            for x in rect.x..rect.x + rect.width {
                let at = start + usize::from(x - rect.x) * 4;
                let [red, green, blue] = colour(x, y);
                self.pixels[at..at + 3].copy_from_slice(&[blue, green, red]);
            }
            let end = start + usize::from(rect.width) * 4;
            self.memory.write_all_at(&self.pixels[start..end], start as u64).expect("pixels");
        }
        self.damage(vec![rect]);
    }

    /// Puts a whole new picture of the same size in its place.
    pub fn replace(&mut self, pixels: &[u8]) {
        self.await_taken();
        assert_eq!(pixels.len(), self.pixels.len());
        self.pixels.copy_from_slice(pixels);
        self.memory.write_all_at(pixels, 0).expect("pixels");
        self.damage(vec![self.whole()]);
    }

    pub fn whole(&self) -> Rect {
        Rect { x: 0, y: 0, width: self.width, height: self.height }
    }

    fn damage(&mut self, rects: Vec<Rect>) {
        self.serial += 1;
        self.waits = true;
        self.show(&Show::Damage { serial: self.serial, rects }, None);
    }

    pub fn await_taken(&mut self) {
        let mut seen = self.listen();
        let start = Instant::now();
        while self.waits {
            seen |= self.listen();
            assert!(start.elapsed() < PATIENCE, "damage was not taken (heard: {seen})");
            std::thread::sleep(Duration::from_micros(300));
        }
    }

    /// Whether the worker has taken all that was shown.
    pub fn is_taken(&mut self) -> bool {
        self.listen();
        !self.waits
    }

    /// Hears what the worker told; whether it told anything.
    pub fn listen(&mut self) -> bool {
        let mut heard = false;
        loop {
            let told = match wire::receive::<Told>(self.link()) {
                Ok((told, file)) => {
                    assert!(file.is_none());
                    told
                }
                Err(WireError::Empty) => return heard,
                Err(e) => panic!("the worker is gone: {e}"),
            };
            heard = true;
            match told {
                Told::Ready { serial } => {
                    if serial == self.serial && self.waits {
                        self.waits = false;
                        self.taken += 1;
                    } else {
                        assert_eq!(serial, 0, "ready for what was not shown");
                    }
                }
                Told::Opened => {
                    self.meter = Meter::default();
                    self.told.push(told);
                }
                Told::Metered(meter) | Told::Closed(meter) => {
                    let before = self.meter;
                    assert!(meter.frames >= before.frames && meter.bytes_out >= before.bytes_out);
                    assert!(meter.keys_in >= before.keys_in);
                    self.meter = meter;
                    if matches!(told, Told::Closed(_)) {
                        self.told.push(told);
                    }
                }
                _ => self.told.push(told),
            }
        }
    }

    /// Waits until something fitting was told, and takes it and all before it.
    pub fn await_told(&mut self, what: &str, fits: impl Fn(&Told) -> bool) -> Told {
        let start = Instant::now();
        loop {
            self.listen();
            if let Some(at) = self.told.iter().position(&fits) {
                return self.told.drain(..=at).next_back().expect("it is there");
            }
            assert!(start.elapsed() < PATIENCE, "in vain for {what}; told: {:?}", self.told);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn await_opened(&mut self) {
        self.await_told("a session", |told| *told == Told::Opened);
    }

    pub fn await_closed(&mut self) {
        self.await_told("the session's end", |told| matches!(told, Told::Closed(_)));
    }

    /// Waits until the figures fit.
    pub fn await_metered(&mut self, fits: impl Fn(&Meter) -> bool) {
        let start = Instant::now();
        while !fits(&self.meter) {
            self.listen();
            assert!(start.elapsed() < PATIENCE, "the figures are {:?}", self.meter);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What was typed until `count` keys and buttons were heard; moves are left out.
    pub fn await_typed(&mut self, count: usize) -> Vec<Input> {
        let typed = |told: &[Told]| -> Vec<Input> {
            let typed = told.iter().filter_map(|told| match told {
                Told::Input(input) => Some(*input),
                _ => None,
            });
            typed.filter(|input| !matches!(input, Input::Pointer { .. })).collect()
        };
        let start = Instant::now();
        loop {
            self.listen();
            let heard = typed(&self.told);
            if heard.len() >= count {
                self.told.clear();
                return heard;
            }
            assert!(start.elapsed() < PATIENCE, "too few keys: {heard:x?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How the worker ended, if it has.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    /// Lets the link go.
    pub fn let_go(&mut self) {
        self.link = None;
    }

    /// Seconds of processor that the worker has used.
    pub fn cpu_seconds(&self) -> f64 {
        process::processor_time(self.pid()).expect("a time").as_secs_f64()
    }

    /// Kilobytes that the worker holds, its own and shared.
    pub fn rss_kb(&self) -> u64 {
        self.kilobytes("VmRSS")
    }

    /// Kilobytes of a kind, as the kernel calls it.
    pub fn kilobytes(&self, kind: &str) -> u64 {
        process::status_kib(self.pid(), kind).expect("a number")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn memory(bytes: u64) -> File {
    let memory = rustix::fs::memfd_create("picture", rustix::fs::MemfdFlags::CLOEXEC);
    let memory = File::from(memory.expect("memory"));
    memory.set_len(bytes).expect("memory");
    memory
}

/// Tries until it gives something.
pub fn until<T>(what: &str, mut tried: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(given) = tried() {
            return given;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A picture with something of everything: text, a gradient, noise and even parts.
pub fn motley(x: u16, y: u16) -> [u8; 3] {
    let noise =
        |n: u32| n.wrapping_mul(0x9e37_79b1).rotate_left(13).wrapping_mul(0x85eb_ca6b) >> 24;
    let at = u32::from(y) * 5000 + u32::from(x);
    match (x / 160 + y / 120) % 4 {
        0 => [0x30, 0x30, 0x30],
        1 => [(x % 256) as u8, (y % 256) as u8, ((x + y) % 256) as u8],
        2 if noise(u32::from(x / 2) + u32::from(y / 3) * 977) > 150 => [220, 220, 210],
        2 => [10, 20, 40],
        _ => [noise(at) as u8, noise(at + 1) as u8, noise(at + 2) as u8],
    }
}
