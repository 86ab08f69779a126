//! `cargo xtask bench pixels`: how fast a program reads data off the pictures of a desktop, with and
//! without the budget. It is a stated limit: whoever sees a picture can decode it.
//!
//! The researcher, who is root in the machine, takes the fast way: stops the desktop and copies noise
//! into the card's picture buffer, whole pictures of it. At the other end, behind the tunnel and
//! FreeRDP, a program reads the client's screen, and counts what it finds to be that noise, to the
//! byte. Both know the noise by its seed; a thief's program would know a checksum.
//!
//! The budget is changed while the machine goes on painting, by a daemon that is started anew.

mod stream;
mod taken;

use super::{
    super::{
        Comparison,
        images::{copy_images, images},
        look as outside,
        templates::{SHIPPED, with_templates},
    },
    host,
    look::{self, Viewer},
    side::{self, Side},
};
use crate::{install, stages::Stages, workspace};
use anyhow::{Context, Result, bail};
use nonstop_model::lab::DesktopLimits;
use nonstop_testkit::{interrupt, lab::Lab, pc::Pc, screen::Screen, ssh};
use std::{
    fs,
    path::Path,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};
use stream::{Decoder, HEIGHT, SEED, Stream};
use taken::Taken;

/// Pictures that are painted, round and round: as many as fit into the machine's memory.
const PICTURES: u8 = 64;

/// Characters typed at once. A keyboard of a machine that stalls holds about as many.
const TYPED: usize = 12;

/// A budget so small that its bound is met at once.
const SMALL_MIB: u32 = 64;

const PATIENCE: Duration = Duration::from_secs(240);

/// How long it is watched without a budget, and with one that is used up.
const WATCHED: Duration = Duration::from_secs(20);
const WATCHED_SLOW: Duration = Duration::from_secs(50);

/// How long using up a budget may take.
const USED_UP: Duration = Duration::from_secs(170);

const MOMENT: Duration = Duration::from_millis(10);

/// Measures it and prints a line a comparison.
pub(in crate::bench) fn pixels() -> Result<()> {
    let mut stages = Stages::new();
    stages.stage("packages", || install::install_with(&[]))?;
    stages.stage("building", workspace::build)?;
    let images = stages.stage("images", images)?;
    let bench = stages.stage("starting a lab and a desktop", || Bench::start(&images))?;
    let screen = bench.side.screen(&bench.alice)?;
    let stream = stages.stage("making it paint", || bench.paint(&screen))?;
    let reader = Reader { bench: &bench, screen: &screen, stream: &stream };
    let free = stages.stage("without a budget", || reader.free())?;
    let small = stages.stage("with a small budget", || reader.bounded(Some(SMALL_MIB)))?;
    compare(&format!("{SMALL_MIB} MiB an hour, just used up"), small, free)?;
    if let Some(rate) = stages.stage("with the default budget", || reader.default_budget(free))? {
        compare("the default budget, just used up", rate, free)?;
    }
    stages.print();
    Ok(())
}

fn compare(when: &str, ours: f64, free: f64) -> Result<()> {
    let what = format!("data read off the screen, {when}");
    Comparison::lower(&what, "bytes/s", ours.round(), free.round(), "no budget").print()
}

/// A lab with alice and her desktop.
struct Bench {
    lab: Lab,
    alice: Pc,
    side: Side,
}

impl Bench {
    fn start(images: &Path) -> Result<Bench> {
        let lab = Lab::temporary("bench-pixels")?.yaml(&budget(Some("null")));
        let mut lab = with_templates(lab)?;
        copy_images(images, &lab.state().join("images"))?;
        lab.start()?;
        let alice = lab.researcher("alice", 10)?;
        let host_key = ssh::host_key(&lab.inside()?)?;
        let environment = side::approve(&lab, &side::apply(&lab, SHIPPED)?)?;
        side::ready(&lab, &[&environment])?;
        let side = Side::open("ours", (&lab, &alice, &host_key), environment)?;
        Ok(Bench { lab, alice, side })
    }

    fn init(&self) -> Result<u32> {
        Ok(self.lab.lab_box()?.init())
    }

    /// Types the painter's program into the terminal and starts it.
    fn paint(&self, screen: &Screen) -> Result<Stream> {
        let drawn = look::drawn(&self.side, &self.alice, screen)?;
        let who = (&self.alice, screen);
        let _viewer = Viewer::settle(&self.side, who, self.init()?, &drawn, false)?;
        let eye = screen.eye()?;
        let unused = eye.part((300, 700), 1)?[3];
        let wallpaper = || eye.part((20, 620), 900);
        let (desktop, line) = (wallpaper()?, painter());
        for _ in 0..3 {
            for part in line.as_bytes().chunks(TYPED) {
                screen.tool(&["type", "--delay", "25", "--", std::str::from_utf8(part)?])?;
                thread::sleep(Duration::from_millis(150));
            }
            screen.tool(&["key", "Return"])?;
            // It begins by ending the desktop; where a key was lost, nothing happens.
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(15) {
                if wallpaper()? != desktop {
                    return Ok(Stream::new(PICTURES, unused));
                }
                interrupt::check()?;
                thread::sleep(Duration::from_millis(100));
            }
            screen.tool(&["key", "ctrl+c"])?;
        }
        bail!("what was typed into the terminal does not start")
    }

    /// A daemon with another budget; the machine does not notice.
    fn set_budget(&self, mib: Option<u32>) -> Result<()> {
        let text = fs::read_to_string(self.lab.file()).context("read lab.yaml")?;
        let (others, _) = text.split_once(DESKTOP).context("lab.yaml says nothing of desktops")?;
        let text = format!("{others}{}", budget(mib.map(|mib| mib.to_string()).as_deref()));
        fs::write(self.lab.file(), text).context("write lab.yaml")?;
        self.lab.stop_service("nonstopd")?;
        self.lab.start_service("nonstopd")?;
        let near = Some(self.side.near());
        outside::rdp_answers(self.alice.holder(), Instant::now(), PATIENCE, || near)?;
        Ok(())
    }

    /// Sessions of which staff are told that they used up their budget.
    fn told(&self) -> Result<usize> {
        let said = self.lab.cli(&["desktop", "sessions", "--over-budget"])?;
        Ok(said.as_array().context("sessions are a list")?.len())
    }
}

/// A shell's line that ends the desktop, and paints pictures of noise.
fn painter() -> String {
    let picture = usize::from(stream::WIDTH) * 4 * usize::from(HEIGHT);
    let all = picture * usize::from(PICTURES);
    format!(
        "echo 'systemctl stop nonstop-console; pkill -x Xorg; sleep 2; cd /dev/shm; \
         openssl enc -chacha20 -K {SEED:02x} -iv 0 </dev/zero | head -c {all} >d; n=0; \
         while dd if=d of=/dev/fb0 bs={picture} count=1 skip=$n; do n=$(((n+1)%{PICTURES})); done' >p; \
         sudo systemd-run sh $PWD/p"
    )
}

/// Begins what `lab.yaml` says of desktops, its last lines.
const DESKTOP: &str = "# Desktops";

/// Lines of `lab.yaml`; None for the default.
fn budget(mib: Option<&str>) -> String {
    let line = mib.map(|mib| format!("\ndesktop:\n  budget_mib_per_hour: {mib}"));
    format!("{DESKTOP}{}\n", line.unwrap_or_default())
}

/// Reads the client's screen.
struct Reader<'a> {
    bench: &'a Bench,
    screen: &'a Screen,
    stream: &'a Stream,
}

impl Reader<'_> {
    /// Connects a client, and looks until `enough` of the time and the bytes since its first row.
    /// Gives what was read, and by how many bytes to the client.
    fn read(&self, mut enough: impl FnMut(Duration, u64) -> Result<bool>) -> Result<(u64, u64)> {
        let side = &self.bench.side;
        look::blank(self.screen)?;
        let down = side.down(false);
        let _client = side.connect(&self.bench.alice, self.screen, false)?;
        let eye = self.screen.eye()?;
        let mut decoder = Decoder::new(self.stream);
        let mut start: Option<(Instant, u64)> = None;
        let waiting = Instant::now();
        loop {
            interrupt::check()?;
            decoder.look(|y, pixels| eye.part((0, y), pixels))?;
            let carried = down.load(Ordering::Relaxed);
            if let Some((start, before)) = start {
                if enough(start.elapsed(), decoder.bytes())? {
                    return Ok((decoder.bytes(), carried - before));
                }
            } else if decoder.rows >= HEIGHT.into() {
                // A whole picture: the client is there.
                decoder.rows = 0;
                start = Some((Instant::now(), carried));
            } else if waiting.elapsed() > PATIENCE {
                bail!("nothing of what the machine paints is on the client's screen");
            }
            thread::sleep(MOMENT);
        }
    }

    /// Bytes a second without a budget.
    fn free(&self) -> Result<f64> {
        let bench = self.bench;
        let used = || host::used(bench.init()?, &bench.side.served.guest);
        let mut before = None;
        let mut time = WATCHED;
        let (bytes, carried) = self.read(|now, _| {
            if before.is_none() {
                before = Some((used()?, busy()?));
            }
            time = now;
            Ok(now >= WATCHED)
        })?;
        let rate = bytes as f64 / time.as_secs_f64();
        let (used_before, busy_before) = before.context("no moment was watched")?;
        let (used, busy) = (used()?.since(used_before), busy()?.saturating_sub(busy_before));
        let percent = |used: Duration| 100.0 * used.as_secs_f64() / time.as_secs_f64();
        let processors = thread::available_parallelism().context("count processors")?.get();
        eprintln!(
            "    {:.1} MB/s in {:.1} pictures/s; {:.0} % of what the client got",
            rate / 1e6,
            rate / stream::PICTURE as f64,
            100.0 * bytes as f64 / carried as f64
        );
        eprintln!(
            "    processors: {:.0} % of {processors}00 % busy; {:.0} % in QEMU, {:.0} % in broker, worker and \
             gateway, the others in ssh, FreeRDP, Xvfb and here. {}",
            percent(busy),
            percent(used.qemu),
            percent(used.outside),
            if percent(busy) > 90.0 * processors as f64 {
                "They are the limit"
            } else {
                "They are not the limit: pictures go one after the other through worker and client"
            }
        );
        Ok(rate)
    }

    /// Bytes a second once the default budget is used up. None, and said, where that takes too
    /// long at the rate `free`.
    fn default_budget(&self, free: f64) -> Result<Option<f64>> {
        let hour = hour_bytes(None)?;
        let lasts = hour as f64 / free;
        eprintln!(
            "    {} MiB an hour last {lasts:.0} s at that rate; then {:.3} MB/s by the budget. In the first \
             hour at most twice that many MiB, {:.3} MB/s",
            hour >> 20,
            hour as f64 / 3600.0 / 1e6,
            hour as f64 / 1800.0 / 1e6
        );
        if lasts > 0.8 * USED_UP.as_secs_f64() {
            eprintln!("    That is more time than this measurement has: the bound is not measured");
            return Ok(None);
        }
        self.bounded(None).map(Some)
    }

    /// Bytes a second once a budget of `mib` (None: the default) is used up.
    fn bounded(&self, mib: Option<u32>) -> Result<f64> {
        let bench = self.bench;
        bench.set_budget(mib)?;
        let told = bench.told()?;
        let (mut asked, mut used_up, mut taken) = (Duration::ZERO, None, Taken::default());
        self.read(|now, bytes| {
            match used_up {
                Some((_, before)) => taken.note(now, bytes - before),
                None if now > asked + Duration::from_secs(1) => {
                    asked = now;
                    used_up = (bench.told()? > told).then_some((now, bytes));
                }
                None => {}
            }
            Ok(now >= used_up.map_or(USED_UP, |(then, _)| then + WATCHED_SLOW))
        })?;
        let (then, bytes) = used_up.context("the budget was not used up, or nobody told")?;
        let rate = taken.one_by_one().context("hardly a picture came once it was used up")?;
        let hour = hour_bytes(mib)?;
        eprintln!(
            "    {} MiB used up after {:.0} s and {} MB of data, and staff told; then {:.3} MB/s",
            hour >> 20,
            then.as_secs_f64(),
            bytes / 1_000_000,
            rate / 1e6,
        );
        eprintln!(
            "    in the long run {:.3} MB/s by the budget, but one picture in ten seconds in any case, and no \
             more while what went out beyond the budget (it is told once a second) is paid back: {:.3} MB/s",
            hour as f64 / 3600.0 / 1e6,
            stream::PICTURE as f64 / 10.0 / 1e6
        );
        Ok(rate)
    }
}

/// Bytes an hour of a budget of `mib`; None: the default.
fn hour_bytes(mib: Option<u32>) -> Result<u64> {
    let default = DesktopLimits::default().budget_mib_per_hour;
    Ok(u64::from(mib.or(default).context("there is no default budget")?) << 20)
}

/// Time that all processors of the host were busy so far, summed.
fn busy() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    // Hundredths of a second: user, nice, system, idle, waiting, interrupts (two kinds), stolen.
    let all: Vec<u64> = line.split_whitespace().skip(1).flat_map(str::parse).collect();
    let busy = [0, 1, 2, 5, 6].iter().filter_map(|n| all.get(*n)).sum::<u64>();
    Ok(Duration::from_millis(10 * busy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_painter_can_be_typed_as_one_line() {
        let line = painter();
        assert!(line.is_ascii() && !line.contains(['\n', '!', '\\']), "{line}");
        assert_eq!(line.matches('\'').count(), 2);
        assert!(line.contains(" bs=4096000 ") && line.contains(" -c 262144000 "), "{line}");
    }

    #[test]
    fn a_budget_is_the_last_of_the_labs_lines() {
        assert_eq!(budget(None), "# Desktops\n");
        assert_eq!(budget(Some("64")), "# Desktops\ndesktop:\n  budget_mib_per_hour: 64\n");
    }

    #[test]
    fn the_host_has_been_busy() {
        assert!(busy().expect("there is a /proc/stat") > Duration::ZERO);
    }
}
