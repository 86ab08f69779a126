//! Honest eyes: a real RDP client on a screen without a monitor, looked at pixel by pixel.
//!
//! FreeRDP draws on such a screen ([`crate::screen`]), and xdotool moves the pointer and types. Two pictures are kept: the desktop as it appeared, and after a command
//! was typed into its terminal.

use crate::{
    judge::{Seen, TYPED, Wallpaper, judge, typing_came_back},
    labbox::tail,
    picture::Picture,
    place::{Place, wait_for},
    screen::Screen,
};
use anyhow::{Context, Result, anyhow, bail};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Where a desktop is, and how to log in.
#[derive(Debug, Clone)]
pub struct Desktop<'a> {
    /// Port on 127.0.0.1 of the place that looks.
    pub port: u16,
    /// SHA-256 of the certificate that must be shown, in hex; None for a guest's own server,
    /// whose certificate nobody knows beforehand.
    pub fingerprint: Option<&'a str>,
    /// User of the guest, where it asks for one.
    pub user: &'a str,
    /// Password of this machine, where it asks for one.
    pub password: &'a str,
}

/// What a desktop of ours looks like.
#[derive(Debug, Clone)]
pub struct Look {
    /// Its wallpaper.
    pub wallpaper: Wallpaper,
    /// A point inside the terminal that opens with the session.
    pub terminal: (u32, u32),
}

impl Look {
    /// That of `images/desktop` at 1280x800.
    pub fn of_ours() -> Look {
        Look { wallpaper: Wallpaper::of_ours(), terminal: (300, 300) }
    }

    /// Whether the desktop is drawn: its wallpaper, and the terminal's prompt.
    pub fn is_drawn(&self, picture: &Picture) -> bool {
        matches!(judge(picture, &self.wallpaper), Seen::Desktop(_)) && self.prompt_is_there(picture)
    }

    /// Whether the terminal's prompt, in bold green, is drawn: somebody is there to be typed at.
    fn prompt_is_there(&self, picture: &Picture) -> bool {
        picture.count(|[r, g, b]| g > 170 && r < 130 && b < 150) > 300
    }
}

/// Two pictures of a desktop, judged to be one.
#[derive(Debug, Clone)]
pub struct Frames {
    /// The desktop as it appeared.
    pub first: PathBuf,
    /// After a command was typed into its terminal.
    pub second: PathBuf,
    /// From the start of the client to the desktop.
    pub appeared_after: Duration,
    /// From the first key to the command's result on the screen.
    pub answered_after: Duration,
}

const WIDTH: u16 = 1280;
const HEIGHT: u16 = 800;

/// Logs in at `desktop` from `place` and looks; pictures and the client's log go to `folder`.
///
/// Errors: no desktop within `limit` (with what was seen, and the last picture kept as
/// `last.png`), or typing did not come back.
pub fn look(
    place: &Place,
    desktop: &Desktop<'_>,
    look: &Look,
    folder: &Path,
    limit: Duration,
) -> Result<Frames> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let start = Instant::now();
    let screen = Screen::open(place, folder, (WIDTH, HEIGHT))?;
    let mut client = Client::start(place, &screen, desktop, folder)?;
    let last = folder.join("last.png");
    let before = wait_for("the desktop", limit, || {
        if let Some(status) = client.child.try_wait()? {
            let said = tail(&client.log, 12);
            return Ok(Some(Err(anyhow!("xfreerdp3 ended with {status}:\n{said}"))));
        }
        let picture = screen.picture()?;
        let seen = judge(&picture, &look.wallpaper);
        let Seen::Desktop(_) = seen else {
            picture.write_png(&last)?;
            bail!("{seen} (kept as {})", last.display());
        };
        // Windows open after the wallpaper: wait until it has been still for a moment.
        thread::sleep(Duration::from_millis(700));
        let still = screen.picture()?.difference(&picture) < 0.001;
        if !still || !look.prompt_is_there(&picture) {
            picture.write_png(&last)?;
            return Ok(None);
        }
        Ok(Some(Ok(picture)))
    })??;
    let appeared_after = start.elapsed();
    let first = folder.join("desktop.png");
    before.write_png(&first)?;

    let typed = Instant::now();
    let (x, y) = (look.terminal.0.to_string(), look.terminal.1.to_string());
    screen.tool(&["mousemove", &x, &y, "click", "1"])?;
    thread::sleep(Duration::from_millis(300));
    screen.tool(&["type", "--delay", "30", TYPED])?;
    screen.tool(&["key", "Return"])?;
    let after = wait_for("what was typed to come back", Duration::from_secs(20), || {
        let picture = screen.picture()?;
        picture.write_png(&last)?;
        Ok(typing_came_back(&before, &picture).then_some(picture))
    })
    .with_context(|| format!("the last picture is {}", last.display()))?;
    let answered_after = typed.elapsed();
    if let seen @ (Seen::Black | Seen::Blank(_) | Seen::LoginScreen | Seen::NotTheDesktop(..)) =
        judge(&after, &look.wallpaper)
    {
        bail!("after typing: {seen} (kept as {})", last.display());
    }
    let second = folder.join("desktop-after-typing.png");
    after.write_png(&second)?;
    let _no_longer_needed = fs::remove_file(last);
    Ok(Frames { first, second, appeared_after, answered_after })
}

/// A client that looks at a desktop, for as long as this is held.
pub struct Session {
    client: Client,
    screen: Screen,
}

impl Session {
    /// Starts a client at `desktop` from `place`; its log goes to `folder`.
    pub fn open(place: &Place, desktop: &Desktop<'_>, folder: &Path) -> Result<Session> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let screen = Screen::open(place, folder, (WIDTH, HEIGHT))?;
        let client = Client::start(place, &screen, desktop, folder)?;
        Ok(Session { client, screen })
    }

    /// What the client shows now.
    pub fn picture(&self) -> Result<Picture> {
        self.screen.picture()
    }

    /// Moves the pointer and types: words of xdotool.
    pub fn tool(&self, words: &[&str]) -> Result<()> {
        self.screen.tool(words).map(drop)
    }

    /// The client's last words if it has ended.
    pub fn ended(&mut self) -> Result<Option<String>> {
        let ended = self.client.child.try_wait()?;
        Ok(ended.map(|status| format!("{status}: {}", tail(&self.client.log, 40))))
    }

    /// The screen that it draws on.
    pub fn screen(&self) -> &Screen {
        &self.screen
    }

    /// The client's last words.
    pub fn said(&self) -> String {
        tail(&self.client.log, 40)
    }

    /// The client's process.
    pub fn pid(&self) -> u32 {
        self.client.child.id()
    }
}

/// A client that draws on a screen; it ends when dropped.
pub struct Client {
    child: Child,
    log: PathBuf,
}

impl Client {
    /// Starts a client at `desktop` from `place`, which draws on `screen`; its log goes to `folder`.
    pub fn start(
        place: &Place,
        screen: &Screen,
        desktop: &Desktop<'_>,
        folder: &Path,
    ) -> Result<Client> {
        let log = folder.join("freerdp.log");
        let out = fs::File::create(&log).context("open the client's log")?;
        let mut child = place
            .command("setpriv")
            .args(["--pdeathsig", "KILL", "xfreerdp3", "/args-from:stdin"])
            .env("DISPLAY", screen.display())
            .env("HOME", folder)
            .stdin(Stdio::piped())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .context("start xfreerdp3")?;
        // By stdin: a command line can be read by every user of the machine.
        let certificate = match desktop.fingerprint {
            Some(fingerprint) => format!("fingerprint:sha256:{fingerprint},deny"),
            None => "ignore".into(),
        };
        let args = format!(
            "/v:127.0.0.1:{}\n/u:{}\n/p:{}\n/cert:{certificate}\n/size:{WIDTH}x{HEIGHT}\n/bpp:32\n\
             /network:lan\n/gfx\n-clipboard\n-decorations\n/log-level:WARN\n",
            desktop.port, desktop.user, desktop.password
        );
        let mut stdin = child.stdin.take().context("talk to xfreerdp3")?;
        stdin.write_all(args.as_bytes()).context("talk to xfreerdp3")?;
        drop(stdin);
        Ok(Client { child, log })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}
