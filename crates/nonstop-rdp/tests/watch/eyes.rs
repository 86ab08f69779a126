//! FreeRDP on a screen without a monitor.

use super::{PATIENCE, Watch};
use nonstop_testkit::{picture::Picture, place::Place, screen::Screen};
use std::{
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A screen, and the client that draws on it.
pub struct Eyes {
    client: Option<Child>,
    trace: String,
    screen: Screen,
    folder: tempfile::TempDir,
}

impl Eyes {
    /// A screen of this size, without a client.
    pub fn screen(width: u16, height: u16) -> Eyes {
        let folder = tempfile::tempdir().expect("a folder");
        let screen = Screen::open(&Place::here(), folder.path(), (width, height));
        Eyes { client: None, trace: String::new(), screen: screen.expect("a screen"), folder }
    }

    /// A screen with a client that looks at `watch`.
    pub fn open(watch: &Watch, words: &[&str]) -> Eyes {
        let mut eyes = Eyes::screen(1400, 1050);
        eyes.connect(watch, watch.address, words);
        eyes
    }

    /// Starts a client that connects to `address`; before that, one that runs is ended.
    pub fn connect(&mut self, watch: &Watch, address: SocketAddr, words: &[&str]) {
        self.close();
        let log = File::create(self.log()).expect("a log");
        let mut client = Command::new("setpriv");
        if !self.trace.is_empty() {
            client.env("WLOG_FILTER", &self.trace);
        }
        // Line by line: its threads, and what it says elsewhere, share one log.
        let client = client
            .args(["--pdeathsig", "KILL", "stdbuf", "-oL", "xfreerdp3"])
            .args([&format!("/v:{address}"), "/u:x", "/p:y"])
            .arg(format!("/cert:fingerprint:sha256:{},deny", watch.fingerprint()))
            .args(["/bpp:32", "-decorations"])
            .args(words)
            .env("DISPLAY", self.screen.display())
            .env("HOME", self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("xfreerdp3");
        self.client = Some(client);
    }

    /// What the next client is to say of itself, in the words of its log.
    pub fn trace(&mut self, filter: &str) {
        self.trace = filter.to_owned();
    }

    pub fn close(&mut self) {
        if let Some(mut client) = self.client.take() {
            let _ended = client.kill();
            let _reaped = client.wait();
        }
    }

    pub fn pid(&self) -> u32 {
        self.client.as_ref().expect("a client").id()
    }

    pub fn has_ended(&mut self) -> bool {
        self.client.as_mut().is_none_or(|client| client.try_wait().expect("a child").is_some())
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("client.log")
    }

    /// What the client said.
    pub fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    pub fn picture(&self) -> Picture {
        self.screen.picture().expect("a picture")
    }

    pub fn pixel(&self, x: u16, y: u16) -> [u8; 3] {
        self.screen.pixel(x, y).expect("a pixel")
    }

    /// Waits until a pixel has this colour; how long that took.
    pub fn await_pixel(&mut self, watch: &mut Watch, x: u16, y: u16, colour: [u8; 3]) -> Duration {
        let start = Instant::now();
        while self.pixel(x, y) != colour {
            watch.listen();
            let in_time = start.elapsed() < PATIENCE;
            assert!(in_time, "{x},{y} is {:?}: {}", self.pixel(x, y), self.said());
            std::thread::sleep(Duration::from_micros(500));
        }
        start.elapsed()
    }

    /// Moves the pointer and types: words of xdotool.
    pub fn tool(&self, words: &[&str]) {
        self.screen.tool(words).expect("done");
    }

    /// The client's window, by its number.
    pub fn window(&self) -> String {
        let found = self.screen.tool(&["search", "--onlyvisible", "--name", "FreeRDP"]);
        found.expect("a search").lines().next().expect("a window").to_owned()
    }

    /// How many pixels differ from what `watch` shows, in its size.
    pub fn wrong(&self, watch: &Watch) -> usize {
        let picture = self.picture();
        let (width, height) = (usize::from(watch.width), usize::from(watch.height));
        let mut wrong = 0;
        for y in 0..height {
            for x in 0..width {
                let at = (y * width + x) * 4;
                let [blue, green, red] = [0, 1, 2].map(|n| watch.pixels[at + n]);
                wrong += usize::from(picture.get(x, y) != Some([red, green, blue]));
            }
        }
        wrong
    }

    /// Waits until the client shows what `watch` shows, pixel for pixel.
    pub fn await_same(&mut self, watch: &mut Watch) {
        let start = Instant::now();
        loop {
            watch.listen();
            let wrong = self.wrong(watch);
            if wrong == 0 {
                return;
            }
            if start.elapsed() > PATIENCE || self.has_ended() {
                let seen = std::env::temp_dir().join("nonstop-rdp-seen.png");
                let _kept = self.picture().write_png(&seen);
                let (said, seen) = (self.said(), seen.display());
                panic!("{wrong} pixels are wrong, see {seen}\n{said}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Eyes {
    fn drop(&mut self) {
        self.close();
    }
}
