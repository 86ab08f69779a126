//! `cargo xtask bench rdp`: our desktop beside xrdp's, in guests of the same image, through the
//! same researcher's tunnel, with the same client.
//!
//! - **ours**: the shipped template, whose desktop the hypervisor draws;
//! - **xrdp**: the same image, started so that its own server serves RDP.
//!
//! All that a researcher meets is measured at the pixels of the client's screen, in turn: the first
//! frame (of a new and of a kept session; ours knows only kept ones, since the desktop is the
//! machine's), a key until its letter, a terminal that scrolls and a window that is dragged, near and over
//! a thin line. Then, with eighteen more desktops running, again.

mod host;
mod look;
pub(super) mod pixels;
mod side;

use super::{
    Comparison,
    images::{copy_images, images},
    look as outside, median, millis, percentile, steps,
    templates::{RAW, SHIPPED, with_templates},
};
use crate::{install, stages::Stages, workspace};
use anyhow::Result;
use host::Memory;
use look::{Drawn, First, Flow, Viewer};
use nonstop_testkit::{interrupt, lab::Lab, pc::Pc, ssh};
use side::Side;
use std::{
    path::Path,
    thread,
    time::{Duration, Instant, SystemTime},
};

const ROUNDS: usize = 5;
/// New sessions of xrdp; each needs its guest started anew.
const NEW_SESSIONS: usize = 3;
const KEYS: usize = 30;
const DESKTOPS: usize = 20;

const PATIENCE: Duration = Duration::from_secs(240);

/// From approval to a drawn desktop with libvirt's and QEMU's own choices, as it was measured by hand
/// with two vcpus on two cores without KVM.
const UNTUNED: Duration = Duration::from_secs(12);

/// A time of a first frame.
type Pick = fn(&First) -> Duration;

/// From when a first frame is waited for.
const FIRSTS: [(&str, Pick); 2] =
    [("client's start", |first| first.since_start), ("connection", |first| first.since_connect)];

/// Measures all of it and prints a line a comparison.
pub(super) fn rdp() -> Result<()> {
    let mut stages = Stages::new();
    stages.stage("packages", || install::install_with(&[]))?;
    stages.stage("building", workspace::build)?;
    let images = stages.stage("images", images)?;
    let bench = stages.stage("starting a lab", || Bench::start(&images))?;
    stages.stage("approve to first picture", || bench.approvals())?;
    let mut two = stages.stage("two desktops", || bench.two())?;
    let drawn = stages.stage("first frames", || bench.first_frames(&mut two))?;
    stages.stage("at 2 desktops", || bench.compare("", &two, &drawn))?;
    stages.stage("eighteen more", || bench.crowd())?;
    let crowd = format!(", at {DESKTOPS} desktops");
    stages.stage("at 20 desktops", || bench.compare(&crowd, &two, &drawn))?;
    stages.print();
    Ok(())
}

/// A lab with alice.
struct Bench {
    lab: Lab,
    alice: Pc,
    host_key: String,
}

/// One of ours and one of the peer's.
struct Two<T> {
    ours: T,
    xrdp: T,
}

impl Bench {
    fn start(images: &Path) -> Result<Bench> {
        let lab = Lab::temporary("bench-rdp")?.yaml("grace_seconds: 1").capacity(22_000, 100);
        let mut lab = with_templates(lab)?;
        copy_images(images, &lab.state().join("images"))?;
        lab.start()?;
        let alice = lab.researcher("alice", 10)?;
        let host_key = ssh::host_key(&lab.inside()?)?;
        Ok(Bench { lab, alice, host_key })
    }

    fn init(&self) -> Result<u32> {
        Ok(self.lab.lab_box()?.init())
    }

    fn side(&self, name: &'static str, environment: String) -> Result<Side> {
        Side::open(name, (&self.lab, &self.alice, &self.host_key), environment)
    }

    /// From the approval to whatever the machine shows first, in a client that connects as soon as
    /// it may.
    fn approvals(&self) -> Result<()> {
        let (mut gates, mut tunnels, mut pictures) = (Vec::new(), Vec::new(), Vec::new());
        let mut desktops = Vec::new();
        let mut logged = Vec::new();
        for n in 0..=ROUNDS {
            interrupt::check()?;
            let request = side::apply(&self.lab, SHIPPED)?;
            let log = self.lab.log("nonstopd").len();
            let (clock, start) = (SystemTime::now(), Instant::now());
            let environment = side::approve(&self.lab, &request)?;
            let address = side::served(&self.lab, &environment)?.address;
            let gate = outside::gate_opens(self.init()?, address, start, PATIENCE)?;
            let side = self.side("first", environment)?;
            let screen = side.screen(&self.alice)?;
            let tunnel = start.elapsed();
            let client = side.connect(&self.alice, &screen, false)?;
            let picture = look::anything(&screen, start)?;
            let desktop = look::desktop(&side, &screen, start)?;
            drop(client);
            let log = self.lab.log("nonstopd").get(log..).unwrap_or_default().to_owned();
            self.lab.cli(&["environment", "end", &side.environment])?;
            outside::none_left(self.init()?, PATIENCE)?;
            eprintln!(
                "    round {n}{}: gate {} ms, tunnel and screen {} ms, picture {} ms, desktop {} ms",
                if n == 0 { " (not counted)" } else { "" },
                gate.as_millis(),
                tunnel.as_millis(),
                picture.as_millis(),
                desktop.as_millis()
            );
            if n > 0 {
                gates.push(gate);
                tunnels.push(tunnel);
                pictures.push(picture);
                desktops.push(desktop);
                logged.push(steps::steps(&log, clock));
            }
        }
        let goal = Duration::from_millis(1500);
        let what = "approve to the first picture in a client";
        Comparison::times(what, median(pictures)?, goal, "goal").print()?;
        let what = "approve to a drawn desktop, cold";
        Comparison::times(what, median(desktops)?, UNTUNED, "by hand, untuned").print()?;
        eprintln!(
            "    medians: the gate opens after {} ms, ssh and an empty screen are there after {} ms; \
             steps by the daemon's log:",
            millis(median(gates)?),
            millis(median(tunnels)?)
        );
        for line in steps::table(&logged)? {
            eprintln!("      {line}");
        }
        Ok(())
    }

    /// Approves `count` of `template`.
    fn grant(&self, template: &str, count: usize) -> Result<Vec<String>> {
        let grant = |_| side::approve(&self.lab, &side::apply(&self.lab, template)?);
        (0..count).map(grant).collect()
    }

    fn two(&self) -> Result<Two<Side>> {
        let (ours, xrdp) = (self.grant(SHIPPED, 1)?.remove(0), self.grant(RAW, 1)?.remove(0));
        side::ready(&self.lab, &[&ours, &xrdp])?;
        Ok(Two { ours: self.side("ours", ours)?, xrdp: self.side("xrdp", xrdp)? })
    }

    /// Eighteen more, half of them of either kind, left to themselves.
    fn crowd(&self) -> Result<()> {
        let each = (DESKTOPS - 2) / 2;
        let start = Instant::now();
        let all = [self.grant(SHIPPED, each)?, self.grant(RAW, each)?].concat();
        side::ready(&self.lab, &all.iter().map(String::as_str).collect::<Vec<_>>())?;
        eprintln!("    all ready after {:.0} s", start.elapsed().as_secs_f32());
        // Their guests go on starting for a while.
        thread::sleep(Duration::from_secs(30));
        Ok(())
    }

    /// The first frame: of a new session of xrdp's, and of one that was left.
    fn first_frames(&self, two: &mut Two<Side>) -> Result<Two<Drawn>> {
        let screen = two.ours.screen(&self.alice)?;
        let ours = look::drawn(&two.ours, &self.alice, &screen)?;
        drop(screen);
        let screen = two.xrdp.screen(&self.alice)?;
        let xrdp = look::drawn(&two.xrdp, &self.alice, &screen)?;
        drop(screen);
        let drawn = Two { ours, xrdp };
        let mut new = Vec::new();
        for _ in 0..NEW_SESSIONS {
            two.xrdp.start_anew(&self.lab)?;
            let near = Some(two.xrdp.near());
            outside::rdp_answers(self.alice.holder(), Instant::now(), PATIENCE, || near)?;
            // What else starts with the guest is not the session's fault.
            thread::sleep(Duration::from_secs(5));
            let screen = two.xrdp.screen(&self.alice)?;
            new.push(look::first_frame(&two.xrdp, &self.alice, &screen, &drawn.xrdp)?);
        }
        let ours = self.kept(&two.ours, &drawn.ours)?;
        for (what, pick) in FIRSTS {
            let what = format!("{what} to the desktop, beside a new session (goal 5)");
            let (ours, xrdp) = (median(ours.iter().map(pick))?, median(new.iter().map(pick))?);
            Comparison::times(&what, ours, xrdp, "xrdp").print()?;
        }
        Ok(drawn)
    }

    /// The first frames of a desktop that was left.
    fn kept(&self, side: &Side, drawn: &Drawn) -> Result<Vec<First>> {
        let screen = side.screen(&self.alice)?;
        (0..ROUNDS).map(|_| look::first_frame(side, &self.alice, &screen, drawn)).collect()
    }

    /// Everything that can be repeated, at as many desktops as there are: `when`.
    fn compare(&self, when: &str, two: &Two<Side>, drawn: &Two<Drawn>) -> Result<()> {
        let ours = self.measure(&two.ours, &drawn.ours)?;
        let xrdp = self.measure(&two.xrdp, &drawn.xrdp)?;
        let name = |what: &str| format!("{what}{when}");
        let times = |what: &str, pick: &dyn Fn(&Measured) -> Result<Duration>| {
            Comparison::times(&name(what), pick(&ours)?, pick(&xrdp)?, "xrdp").print()
        };
        for (what, first) in FIRSTS {
            let what = format!("{what} to the desktop, of a kept session (goal 2)");
            times(&what, &|m| median(m.kept.iter().map(first)))?;
        }
        times("key to letter, median (goal 1)", &|m| median(m.keys.iter().copied()))?;
        times("key to letter, p95", &|m| percentile(m.keys.iter().copied(), 95))?;
        let higher = |what: &str, pick: fn(&Measured) -> f64| {
            let (ours, xrdp) = (tenth(pick(&ours)), tenth(pick(&xrdp)));
            Comparison::higher(&name(what), "frames/s", ours, xrdp, "xrdp").print()
        };
        higher("frames while a terminal scrolls (goal 1)", |m| m.scroll.rate())?;
        higher("frames while a window is dragged (goal 1)", |m| m.drag.rate())?;
        higher("frames while a terminal scrolls, thin line (goal 1)", |m| m.thin.rate())?;
        let lower = |what: &str, unit: &str, pick: fn(&Measured) -> f64| {
            let (ours, xrdp) = (tenth(pick(&ours)), tenth(pick(&xrdp)));
            Comparison::lower(&name(what), unit, ours, xrdp, "xrdp").print()
        };
        lower("bytes a frame, scrolling", "KiB", |m| m.scroll.kib_a_frame())?;
        lower("bytes a frame, dragging", "KiB", |m| m.drag.kib_a_frame())?;
        lower("bytes a frame, scrolling over the thin line", "KiB", |m| m.thin.kib_a_frame())?;
        lower("host's processors, scrolling", "% of one", |m| m.scroll.percent())?;
        lower("host's processors a frame, scrolling", "ms", |m| m.scroll.millis_a_frame())?;
        lower("host's processors a frame, dragging", "ms", |m| m.drag.millis_a_frame())?;
        for (side, measured) in [("ours", &ours), ("xrdp", &xrdp)] {
            eprintln!("    {side}: {}", measured.costs());
        }
        Ok(())
    }

    fn measure(&self, side: &Side, drawn: &Drawn) -> Result<Measured> {
        let kept = self.kept(side, drawn)?;
        let screen = side.screen(&self.alice)?;
        let init = self.init()?;
        let settle = |thin| Viewer::settle(side, (&self.alice, &screen), init, drawn, thin);
        let mut viewer = settle(false)?;
        let keys = viewer.latency(KEYS)?;
        let memory = host::memory(init, &side.served.guest)?;
        let (drag, scroll) = (viewer.drag()?, viewer.scroll()?);
        drop(viewer);
        look::blank(&screen)?;
        let thin = settle(true)?.scroll()?;
        Ok(Measured { kept, keys, scroll, drag, thin, memory })
    }
}

/// What was measured of one side.
struct Measured {
    kept: Vec<First>,
    keys: Vec<Duration>,
    scroll: Flow,
    drag: Flow,
    thin: Flow,
    memory: Memory,
}

impl Measured {
    fn costs(&self) -> String {
        let Memory { qemu, brokers, desktops, workers } = self.memory;
        format!(
            "QEMU {} MiB; {desktops} brokers {} MiB, worker {} MiB; outside QEMU {:.0} % of a processor \
             scrolling, {:.0} % dragging",
            qemu >> 10,
            brokers >> 10,
            workers >> 10,
            self.scroll.percent_outside(),
            self.drag.percent_outside(),
        )
    }
}

/// Rounded to a tenth.
fn tenth(amount: f64) -> f64 {
    (amount * 10.0).round() / 10.0
}
