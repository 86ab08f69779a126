//! A broker as it runs, confined, with this test in the place of `nonstopd` and of the workers.

#![allow(unreachable_pub, dead_code, reason = "each test takes what it needs")]

pub mod fake;

use nonstop_display::{
    control::{Order, Report, ViewerId, ViewerKind},
    link::{Rect, Show, Told},
    wire::{self, WireError},
};
use nonstop_testkit::process;
use std::{
    os::fd::{AsFd, OwnedFd},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// For whatever a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The broker's user.
pub const UID: u32 = 71_001;

/// A running broker.
pub struct Desk {
    child: Option<Child>,
    control: Option<OwnedFd>,
    pub reports: Vec<Report>,
}

impl Desk {
    pub fn new(budget: Option<u64>) -> Self {
        let (control, theirs) = wire::pair().expect("a pair");
        let child = Command::new(env!("CARGO_BIN_EXE_nonstop-rdp"))
            .args(["broker", &UID.to_string()])
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .expect("a broker");
        let desk = Self { child: Some(child), control: Some(control), reports: Vec::new() };
        desk.order(&Order::Begin { budget }, None);
        desk
    }

    pub fn order(&self, order: &Order, file: Option<&OwnedFd>) {
        wire::send(self.control(), order, file.map(AsFd::as_fd)).expect("ordered");
    }

    pub fn attach(&self, display: &OwnedFd) {
        self.order(&Order::Attach, Some(display));
    }

    pub fn viewer(&self, number: u8, kind: ViewerKind) -> Viewer {
        let (link, theirs) = wire::pair().expect("a pair");
        self.order(&Order::AddViewer { viewer: ViewerId(number), kind }, Some(&theirs));
        Viewer::new(link)
    }

    /// Takes in what was reported.
    pub fn listen(&mut self) {
        loop {
            match wire::receive::<Report>(self.control()) {
                Ok((report, _)) => self.reports.push(report),
                Err(WireError::Empty) => return,
                Err(e) => panic!("the broker is gone: {e}"),
            }
        }
    }

    /// Waits for a report that fits, and takes it and those before it.
    pub fn await_report(&mut self, fits: impl Fn(&Report) -> bool) -> Report {
        until("a report", || {
            self.listen();
            let at = self.reports.iter().position(&fits)?;
            self.reports.drain(..=at).next_back()
        })
    }

    /// Ends `nonstopd`'s side; the broker's process.
    pub fn release(mut self) -> Child {
        self.control = None;
        self.child.take().expect("a broker")
    }

    fn control(&self) -> &OwnedFd {
        self.control.as_ref().expect("not released")
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("not released").id()
    }

    /// Seconds of processor that the broker has used.
    pub fn cpu_seconds(&self) -> f64 {
        process::processor_time(self.pid()).expect("a time").as_secs_f64()
    }

    /// Kilobytes that the broker holds, its own and shared.
    pub fn rss_kb(&self) -> u64 {
        process::status_kib(self.pid(), "VmRSS").expect("a number")
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A worker's end of its link.
pub struct Viewer {
    pub link: OwnedFd,
    pub picture: Option<(OwnedFd, u16, u16)>,
    pub shows: Vec<Show>,
    /// Confirms what it is shown.
    pub quick: bool,
    pub pictures: u64,
    pub updates: u64,
}

impl Viewer {
    fn new(link: OwnedFd) -> Self {
        Self { link, picture: None, shows: Vec::new(), quick: true, pictures: 0, updates: 0 }
    }

    pub fn tell(&self, told: &Told) {
        wire::send(&self.link, told, None).expect("told");
    }

    /// Takes in what is shown, until there is no more.
    pub fn look(&mut self) {
        loop {
            let (show, file) = match wire::receive::<Show>(&self.link) {
                Ok(shown) => shown,
                Err(WireError::Empty) => return,
                Err(e) => panic!("the broker is gone: {e}"),
            };
            match &show {
                Show::Picture { width, height, stride } => {
                    assert_eq!(*stride, u32::from(*width) * 4);
                    self.picture = Some((file.expect("a picture"), *width, *height));
                    self.pictures += 1;
                    if self.quick {
                        self.tell(&Told::Ready { serial: 0 });
                    }
                }
                Show::Damage { serial, rects } => {
                    let (_, width, height) = self.picture.as_ref().expect("a picture before");
                    assert!(!rects.is_empty());
                    for r in rects {
                        assert!(r.x + r.width <= *width && r.y + r.height <= *height, "{r:?}");
                    }
                    self.updates += 1;
                    if self.quick {
                        self.tell(&Told::Ready { serial: *serial });
                    }
                }
                _ => assert!(file.is_none()),
            }
            self.shows.push(show);
        }
    }

    /// Waits until a picture of this size is shown.
    pub fn await_size(&mut self, width: u16, height: u16) {
        until(&format!("a picture of {width}x{height}"), || {
            self.look();
            self.picture.as_ref().is_some_and(|p| (p.1, p.2) == (width, height)).then_some(())
        });
    }

    /// Waits until the picture's pixel is this colour.
    pub fn await_pixel(&mut self, x: u16, y: u16, colour: [u8; 3]) {
        until(&format!("colour {colour:?} at {x},{y}"), || {
            self.look();
            (self.pixel(x, y) == Some(colour)).then_some(())
        });
    }

    pub fn pixel(&self, x: u16, y: u16) -> Option<[u8; 3]> {
        let (file, width, _) = self.picture.as_ref()?;
        let mut pixel = [0; 3];
        let at = (u64::from(y) * u64::from(*width) + u64::from(x)) * 4;
        (rustix::io::pread(file, &mut pixel, at) == Ok(3)).then_some(pixel)
    }

    /// The pixels of a part, blue, green, red, unused.
    pub fn part(&self, rect: Rect) -> Vec<u8> {
        let Some((file, width, _)) = &self.picture else { return Vec::new() };
        let mut all = Vec::new();
        for y in rect.y..rect.y + rect.height {
            let mut row = vec![0; usize::from(rect.width) * 4];
            let at = (u64::from(y) * u64::from(*width) + u64::from(rect.x)) * 4;
            rustix::io::pread(file, &mut row, at).expect("pixels");
            all.extend(row);
        }
        all
    }

    /// Whether the card "the machine is off" is shown: its paper in the corner, its ink inside.
    pub fn sees_card(&self) -> bool {
        let Some((_, width, height)) = self.picture else { return false };
        let (wide, high) = (width.min(300), height.min(80));
        let (x, y) = ((width - wide) / 2, (height - high) / 2);
        let words = self.part(Rect { x, y, width: wide, height: high });
        let ink = words.chunks_exact(4).filter(|p| p[..3] == [0xc8, 0xc0, 0xb8]).count();
        let paper = words.chunks_exact(4).filter(|p| p[..3] == [0x22, 0x1c, 0x18]).count();
        ink * 50 > paper && ink + paper == usize::from(wide) * usize::from(high)
    }

    pub fn await_card(&mut self) {
        until("the card", || {
            self.look();
            self.sees_card().then_some(())
        });
    }
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
