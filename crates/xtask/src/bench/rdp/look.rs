//! What a person at the client meets, measured at the pixels of the client's screen. They are
//! looked at about each millisecond; that is how fine the times are.

use super::{
    host::{self, Used},
    side::Side,
};
use anyhow::{Context, Result, bail};
use nonstop_testkit::{
    interrupt,
    pc::Pc,
    rdp::{Client, Look},
    screen::{Eye, Screen},
};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    process::{Child, ChildStdin, Stdio},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

/// For whatever must appear.
const PATIENCE: Duration = Duration::from_secs(240);

const MOMENT: Duration = Duration::from_millis(1);

/// How long a flow of frames is watched.
const WATCHED: Duration = Duration::from_secs(5);

/// Rows that look the same whenever the desktop is drawn: the terminal's title and its empty end, and
/// the wallpaper beside and below; each from the left, so many pixels.
const STILL: [(u16, u16, u16); 4] =
    [(48, 58, 200), (600, 541, 200), (20, 620, 900), (900, 400, 300)];

/// Rows inside the terminal.
const TERMINAL: [(u16, u16, u16); 6] = [
    (60, 120, 800),
    (60, 207, 800),
    (60, 295, 800),
    (60, 381, 800),
    (60, 455, 800),
    (60, 541, 800),
];

/// Rows that a window crosses when it is dragged.
const CROSSED: [(u16, u16, u16); 3] = [(0, 58, 1280), (0, 300, 1280), (0, 540, 1280)];

/// A flow of frames, and what it cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flow {
    /// Pictures that differed from the one before.
    frames: u32,
    /// Bytes to the client.
    bytes: u64,
    /// How long it was watched.
    time: Duration,
    /// Of the host's processors.
    used: Used,
}

impl Flow {
    /// Frames a second.
    pub(super) fn rate(&self) -> f64 {
        f64::from(self.frames) / self.time.as_secs_f64()
    }

    pub(super) fn kib_a_frame(&self) -> f64 {
        self.bytes as f64 / 1024.0 / f64::from(self.frames.max(1))
    }

    /// Of one processor.
    pub(super) fn percent(&self) -> f64 {
        100.0 * self.used.all().as_secs_f64() / self.time.as_secs_f64()
    }

    pub(super) fn millis_a_frame(&self) -> f64 {
        1000.0 * self.used.all().as_secs_f64() / f64::from(self.frames.max(1))
    }

    /// Of [`Flow::percent`], what the machine's QEMU did not use.
    pub(super) fn percent_outside(&self) -> f64 {
        100.0 * self.used.outside.as_secs_f64() / self.time.as_secs_f64()
    }
}

fn digest(eye: &Eye, parts: &[(u16, u16, u16)]) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    for (x, y, pixels) in parts {
        eye.part((*x, *y), *pixels)?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// Looks each moment until `is` says yes.
fn until(what: &str, mut is: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !is()? {
        if start.elapsed() > PATIENCE {
            bail!("waited {:.0} s for {what} in vain", PATIENCE.as_secs_f32());
        }
        interrupt::check()?;
        thread::sleep(MOMENT);
    }
    Ok(())
}

/// How the desktop looks once it is drawn: the pixels of [`STILL`].
pub(super) struct Drawn(Vec<u8>);

impl Drawn {
    fn by(eye: &Eye) -> Result<Drawn> {
        let mut all = Vec::new();
        for (x, y, pixels) in STILL {
            all.extend(eye.part((x, y), pixels)?);
        }
        Ok(Drawn(all))
    }

    /// Whether that is what `eye` sees, but for a blinking cursor and what a codec loses.
    fn is_seen(&self, eye: &Eye) -> Result<bool> {
        let seen = Drawn::by(eye)?;
        let differs = self.0.iter().zip(&seen.0).filter(|(a, b)| a.abs_diff(**b) > 40).count();
        Ok(differs * 100 < self.0.len())
    }

    fn wait(&self, side: &Side, eye: &Eye) -> Result<()> {
        until(&format!("the desktop of {}", side.name), || self.is_seen(eye))
    }
}

/// Waits until the desktop is drawn, however long its session needs to start; gives the time since
/// `start`.
pub(super) fn desktop(side: &Side, screen: &Screen, start: Instant) -> Result<Duration> {
    while !Look::of_ours().is_drawn(&screen.picture()?) {
        if start.elapsed() > PATIENCE {
            bail!("{}: no desktop within {:.0} s", side.name, PATIENCE.as_secs_f32());
        }
        interrupt::check()?;
        thread::sleep(Duration::from_millis(100));
    }
    Ok(start.elapsed())
}

/// Connects and waits until the desktop is drawn.
pub(super) fn drawn(side: &Side, alice: &Pc, screen: &Screen) -> Result<Drawn> {
    let client = side.connect(alice, screen, false)?;
    desktop(side, screen, Instant::now())?;
    // What else opens with the session.
    thread::sleep(Duration::from_secs(2));
    let seen = Drawn::by(&screen.eye()?)?;
    drop(client);
    blank(screen)?;
    Ok(seen)
}

/// Waits until the client's window is gone.
pub(super) fn blank(screen: &Screen) -> Result<()> {
    let eye = screen.eye()?;
    let start = Instant::now();
    while STILL.iter().any(|(x, y, n)| {
        eye.part((*x, *y), *n).is_ok_and(|bytes| bytes.chunks(4).any(|p| p[..3] != [0; 3]))
    }) {
        if start.elapsed() > Duration::from_secs(10) {
            bail!("the client's window stays");
        }
        thread::sleep(MOMENT);
    }
    Ok(())
}

/// How long the drawn desktop took to come.
#[derive(Debug, Clone, Copy)]
pub(super) struct First {
    /// Since the client was started; much of it is the client's own start.
    pub(super) since_start: Duration,
    /// Since it connected.
    pub(super) since_connect: Duration,
}

/// Connects and waits for the drawn desktop.
pub(super) fn first_frame(
    side: &Side,
    alice: &Pc,
    screen: &Screen,
    drawn: &Drawn,
) -> Result<First> {
    blank(screen)?;
    let eye = screen.eye()?;
    let start = Instant::now();
    let client = side.connect(alice, screen, false)?;
    drawn.wait(side, &eye)?;
    let since_start = start.elapsed();
    let connected = side.connected().context("the client came by no line")?;
    let since_connect = start + since_start - connected;
    drop(client);
    blank(screen)?;
    Ok(First { since_start, since_connect })
}

/// A hand at the client's keys and pointer, which is there already when it is needed.
pub(super) struct Hand {
    child: Child,
    words: ChildStdin,
}

impl Hand {
    pub(super) fn at(screen: &Screen) -> Result<Hand> {
        let mut child = screen
            .command("xdotool")
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start xdotool")?;
        let words = child.stdin.take().context("speak to xdotool")?;
        Ok(Hand { child, words })
    }

    pub(super) fn does(&mut self, words: &str) -> Result<()> {
        self.words.write_all(format!("{words}\n").as_bytes()).context("speak to xdotool")
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A client at a drawn desktop, whose terminal has the keyboard, and what it costs the host.
pub(super) struct Viewer<'a> {
    side: &'a Side,
    screen: &'a Screen,
    thin: bool,
    /// PID 1 of the lab's box.
    init: u32,
    hand: Hand,
    _client: Client,
}

impl<'a> Viewer<'a> {
    /// Connects, by the thin line or not.
    pub(super) fn settle(
        side: &'a Side,
        (alice, screen): (&Pc, &'a Screen),
        init: u32,
        drawn: &Drawn,
        thin: bool,
    ) -> Result<Viewer<'a>> {
        let client = side.connect(alice, screen, thin)?;
        let mut viewer =
            Viewer { side, screen, thin, init, hand: Hand::at(screen)?, _client: client };
        drawn.wait(side, &screen.eye()?)?;
        viewer.hand.does("mousemove 300 300 click 1")?;
        thread::sleep(Duration::from_millis(700));
        Ok(viewer)
    }

    /// From a key to its letter on the client's screen, so many times.
    pub(super) fn latency(&mut self, times: usize) -> Result<Vec<Duration>> {
        let eye = self.screen.eye()?;
        // The rows where the prompt may be: below the greeting, or at the top after `clear`.
        let prompt: Vec<_> = (68..400).step_by(4).map(|y| (60, y, 800)).collect();
        let mut all = Vec::new();
        for n in 0..times {
            let before = digest(&eye, &prompt)?;
            let start = Instant::now();
            self.hand.does(if n % 2 == 0 { "key x" } else { "key o" })?;
            until("a letter", || Ok(digest(&eye, &prompt)? != before))?;
            all.push(start.elapsed());
            thread::sleep(Duration::from_millis(120));
        }
        self.hand.does("key ctrl+u")?;
        thread::sleep(Duration::from_millis(300));
        Ok(all)
    }

    /// Lets the terminal scroll as fast as its guest can.
    pub(super) fn scroll(&mut self) -> Result<Flow> {
        let word = ["s", "e", "q", "space", "9", "9", "9", "9", "9", "9", "9", "9", "Return"];
        for key in word {
            self.hand.does(&format!("key {key}"))?;
            thread::sleep(Duration::from_millis(30));
        }
        thread::sleep(Duration::from_secs(2));
        let flow = self.watch(&TERMINAL, |_| Ok(()))?;
        self.hand.does("key ctrl+c")?;
        thread::sleep(Duration::from_secs(if self.thin { 4 } else { 2 }));
        self.hand.does("key ctrl+l")?;
        thread::sleep(Duration::from_secs(1));
        Ok(flow)
    }

    /// Drags the terminal's window to and fro, 60 steps a second.
    pub(super) fn drag(&mut self) -> Result<Flow> {
        self.hand.does("mousemove 400 58")?;
        thread::sleep(Duration::from_millis(300));
        self.hand.does("mousedown 1")?;
        let start = Instant::now();
        let mut last = 0;
        let flow = self.watch(&CROSSED, |hand| {
            let step = start.elapsed().as_millis() / 16;
            if step != last {
                last = step;
                // Over 300 pixels and back in two seconds.
                let at = step * 5 % 600;
                hand.does(&format!("mousemove {} 58", 400 + at.min(600 - at)))?;
            }
            Ok(())
        })?;
        self.hand.does("mousemove 400 58")?;
        thread::sleep(Duration::from_millis(500));
        self.hand.does("mouseup 1")?;
        thread::sleep(Duration::from_millis(500));
        Ok(flow)
    }

    /// Counts pictures that differ from the one before.
    fn watch(
        &mut self,
        parts: &[(u16, u16, u16)],
        mut meanwhile: impl FnMut(&mut Hand) -> Result<()>,
    ) -> Result<Flow> {
        let eye = self.screen.eye()?;
        let down = self.side.down(self.thin);
        let used = || host::used(self.init, &self.side.served.guest);
        let (before, start) = (used()?, Instant::now());
        let bytes = down.load(Ordering::Relaxed);
        let (mut frames, mut seen) = (0u32, digest(&eye, parts)?);
        while start.elapsed() < WATCHED {
            meanwhile(&mut self.hand)?;
            let now = digest(&eye, parts)?;
            frames += u32::from(now != seen);
            seen = now;
            thread::sleep(MOMENT);
        }
        let (time, bytes) = (start.elapsed(), down.load(Ordering::Relaxed) - bytes);
        Ok(Flow { frames, bytes, time, used: used()?.since(before) })
    }
}

/// Waits for the first picture that is not black; gives the time since `start`.
pub(super) fn anything(screen: &Screen, start: Instant) -> Result<Duration> {
    let eye = screen.eye()?;
    let parts: Vec<_> = (0..400).step_by(3).map(|y| (0, y, 720)).collect();
    let black = digest(&eye, &parts)?;
    until("any picture", || Ok(digest(&eye, &parts)? != black))?;
    Ok(start.elapsed())
}
