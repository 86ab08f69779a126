//! A screen without a monitor: an X server (Xvfb) whose framebuffer is a file that we read, and
//! xdotool as the hand at its pointer and keys.

use crate::{
    labbox::tail,
    picture::{Picture, Rgb},
    place::Place,
};
use anyhow::{Context, Result, bail};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

/// A screen; it is gone when dropped.
pub struct Screen {
    server: Child,
    display: String,
    file: PathBuf,
    place: Place,
}

impl Screen {
    /// A screen of this size in pixels; its file and log lie in `folder`.
    pub fn open(place: &Place, folder: &Path, (width, height): (u16, u16)) -> Result<Screen> {
        let log = File::create(folder.join("xvfb.log")).context("open Xvfb's log")?;
        let geometry = format!("{width}x{height}x24");
        let mut server = place
            .command("setpriv")
            .args(["--pdeathsig", "TERM", "Xvfb", "-displayfd", "1", "-nolisten", "tcp"])
            .args(["-noreset", "-screen", "0", &geometry, "-fbdir"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("start Xvfb")?;
        let mut line = String::new();
        let said = server.stdout.take().context("hear Xvfb")?;
        BufReader::new(said).read_line(&mut line).context("hear Xvfb")?;
        let number = line.trim();
        let file = folder.join("Xvfb_screen0");
        let screen = Screen { server, display: format!(":{number}"), file, place: place.clone() };
        if number.is_empty() {
            bail!("Xvfb did not start: {}", tail(&folder.join("xvfb.log"), 5));
        }
        Ok(screen)
    }

    /// What programs that draw on it find in `DISPLAY`.
    pub fn display(&self) -> &str {
        &self.display
    }

    /// All of it.
    pub fn picture(&self) -> Result<Picture> {
        Picture::from_xwd(&fs::read(&self.file).context("read the screen")?)
    }

    /// A way to read parts of it again and again, cheaply.
    pub fn eye(&self) -> Result<Eye> {
        let file = File::open(&self.file).context("open the screen")?;
        let mut head = [0; 80];
        file.read_exact_at(&mut head, 0).context("read the screen's header")?;
        let word = |n: usize| -> u64 {
            u32::from_be_bytes([head[4 * n], head[4 * n + 1], head[4 * n + 2], head[4 * n + 3]])
                .into()
        };
        // The length of the header, how many colours follow it, and the bytes of a row.
        Ok(Eye { start: word(0) + word(19) * 12, stride: word(12), file })
    }

    /// One pixel.
    pub fn pixel(&self, x: u16, y: u16) -> Result<Rgb> {
        let bytes = self.eye()?.part((x, y), 1)?;
        Ok([bytes[2], bytes[1], bytes[0]])
    }

    /// A command that draws on it or works at it.
    pub fn command(&self, program: &str) -> std::process::Command {
        let mut command = self.place.command(program);
        command.env("DISPLAY", &self.display);
        command
    }

    /// Moves the pointer and types: words of xdotool. Gives what it said.
    pub fn tool(&self, words: &[&str]) -> Result<String> {
        let output = self.command("xdotool").args(words).output().context("run xdotool")?;
        if !output.status.success() {
            bail!("xdotool {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // TERM, so that it removes its lock and socket under /tmp.
        if let Some(pid) = crate::init::pid(self.server.id()) {
            let _ended_already = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _reaped = self.server.wait();
        let _with_the_screen = fs::remove_file(&self.file);
    }
}

/// Reads parts of a screen.
#[derive(Debug)]
pub struct Eye {
    file: File,
    start: u64,
    stride: u64,
}

impl Eye {
    /// The bytes of `pixels` pixels from this one on to the right: blue, green, red, unused.
    pub fn part(&self, (x, y): (u16, u16), pixels: u16) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::from(pixels) * 4];
        let at = self.start + u64::from(y) * self.stride + u64::from(x) * 4;
        self.file.read_exact_at(&mut bytes, at).context("read the screen")?;
        Ok(bytes)
    }
}
