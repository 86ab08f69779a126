//! The broker of a desktop: it alone speaks with QEMU, and shows what QEMU shows to the viewers.
//!
//! One thread, one loop, no waiting but in `poll`: `nonstopd`'s orders, QEMU's two connections, the
//! viewers' links. Each turn takes a bounded share of each. Nothing is held that grows: of QEMU's
//! words one message, of a viewer's debts few rectangles. What QEMU says that no display would say
//! ends QEMU's connections and shows the card "the machine is off", until `nonstopd` brings another
//! connection; the viewers stay.
//!
//! Pixels are copied when a viewer is about to be shown them, at most about thirty times a second,
//! and only where they changed. Without a viewer that waits nothing is copied; while nothing
//! changes there are two turns a second.

pub mod budget;
pub mod card;
pub mod damage;
pub mod dbus;
#[cfg(any(test, feature = "harm"))]
pub mod harm;
pub mod memory;
pub mod picture;
pub mod pixels;
pub mod qemu;
pub mod typing;
pub mod viewers;

use budget::Budget;
use dbus::Lost;
use nonstop_confine::{ConfineError, Left, MESSAGES, confine};
use nonstop_display::{
    control::{Order, Report, ViewerId, ViewerKind},
    link::Input,
    wire::{self, WireError},
};
use picture::Screen;
use qemu::Display;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use std::{
    collections::{BTreeMap, VecDeque},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};
use typing::Typing;
use viewers::{Viewer, Words};

/// Between two copies of what changed. QEMU itself looks at its screen every 30 ms.
const COPY_PACE: Duration = Duration::from_millis(30);

/// Between two signs of life, half of what is promised for each second.
const ALIVE_PACE: Duration = Duration::from_millis(500);

/// Between two reports of a session's figures.
const METER_PACE: Duration = Duration::from_secs(1);

/// Of a processor, in hundredths, what a desktop in a flood may take; the rest is others'.
const SHARE: i64 = 70;

/// What may be saved up for a burst.
const BURST: Duration = Duration::from_millis(70);

/// The longest rest, so that signs of life are not late.
const LONGEST_REST: Duration = Duration::from_millis(300);

/// Reports that wait for `nonstopd`; above this viewers are not heard.
const MOST_REPORTS: usize = 128;

/// Viewers at a time.
const MOST_VIEWERS: usize = 16;

/// Room for our picture, for one message of QEMU that holds one (and the growth of its buffer), and
/// for the program.
const MEMORY_BYTES: u64 = 512 << 20;

/// The largest picture.
const FILE_BYTES: u64 = 4 * 4096 * 4096;

/// Descriptors: ours, two of QEMU and its memory, the picture, the viewers, and files on their way.
const FILES: u64 = 48;

/// System calls beside [`nonstop_confine::ALWAYS`].
const CALLS: &[i64] = &[
    5,   // fstat: whether QEMU's file is one
    17,  // pread64: its memory
    53,  // socketpair: the listener's connection
    72,  // fcntl: seals
    77,  // ftruncate: the picture's size
    319, // memfd_create: the picture
];

/// A broker that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// It could not be confined.
    #[error("confine the broker")]
    Confine(#[from] ConfineError),
    /// `nonstopd` cannot be heard or told.
    #[error("speak with nonstopd")]
    Control(#[source] WireError),
    /// `nonstopd` ordered what makes no sense here.
    #[error("carry out an order of nonstopd")]
    Order,
    /// The kernel refused.
    #[error("wait for words")]
    Wait(#[source] Errno),
    /// There is no memory for a picture.
    #[error("draw the card")]
    Card(#[source] Lost),
}

/// Serves the desktop whose `nonstopd` speaks on descriptor 0, as the user `uid`, until that ends.
pub fn run(uid: u32) -> Result<(), BrokerError> {
    confine(Left {
        uid,
        gid: uid,
        memory_bytes: MEMORY_BYTES,
        file_bytes: FILE_BYTES,
        files: FILES,
        threads: 0,
        cpu_seconds: None,
        calls: &[MESSAGES, CALLS],
    })?;
    let control = rustix::stdio::stdin();
    let mut broker = Broker::new(uid, Instant::now());
    loop {
        match broker.turn(control) {
            Ok(()) => {}
            Err(BrokerError::Control(WireError::Gone)) => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}

/// A desktop.
#[derive(Debug)]
struct Broker {
    uid: u32,
    budget: Option<u64>,
    /// By viewer, kept when a worker is begun anew: else a client could make its worker end to
    /// fill its bucket.
    budgets: BTreeMap<ViewerId, Budget>,
    screen: Screen,
    display: Option<Display>,
    attached: bool,
    viewers: Vec<Viewer>,
    typing: Typing,
    /// Of the owner's client, if it has said.
    window_size: Option<(u16, u16)>,
    reports: VecDeque<Report>,
    next_copy: Instant,
    next_alive: Instant,
    next_meter: Instant,
    /// The share of the processor that is left, in nanoseconds, at a time.
    credit: i64,
    credited: Instant,
    more: bool,
}

impl Broker {
    fn new(uid: u32, now: Instant) -> Self {
        Self {
            uid,
            budget: None,
            budgets: BTreeMap::new(),
            screen: Screen::new(),
            display: None,
            attached: false,
            viewers: Vec::new(),
            typing: Typing::new(),
            window_size: None,
            reports: VecDeque::new(),
            next_copy: now,
            next_alive: now,
            next_meter: now,
            credit: nanoseconds(BURST),
            credited: now,
            more: false,
        }
    }

    /// Waits until there is something to do, and does it.
    fn turn(&mut self, control: BorrowedFd<'_>) -> Result<(), BrokerError> {
        let wait = if self.more { Duration::ZERO } else { self.wait(Instant::now()) };
        self.poll(control, wait)?;
        let began = Instant::now();
        self.obey(control, began)?;
        self.more = self.hear_qemu(began);
        self.more |= self.hear_viewers(began);
        self.ask_qemu(began);
        self.show(Instant::now())?;
        self.report(control, began)?;
        self.rest(control, began)
    }

    /// How long nothing is due.
    fn wait(&mut self, now: Instant) -> Duration {
        let mut until = self.next_alive;
        let stale = self.screen.is_stale();
        for viewer in &mut self.viewers {
            until = until.min(viewer.pointer_at(now).unwrap_or(until));
            if !stale && !viewer.is_owed() {
                continue;
            }
            if let Some(at) = viewer.ready_at(now) {
                let copied = viewer.is_owed() && !stale;
                until = until.min(if copied { at } else { at.max(self.next_copy) });
            }
        }
        until.saturating_duration_since(now)
    }

    fn poll(&self, control: BorrowedFd<'_>, wait: Duration) -> Result<(), BrokerError> {
        let flags = |read: bool, write: bool| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, read);
            flags.set(PollFlags::OUT, write);
            flags
        };
        let mut fds = vec![PollFd::from_borrowed_fd(control, PollFlags::IN)];
        if let Some(display) = &self.display {
            fds.extend(
                display.sockets().map(|(fd, read, write)| PollFd::new(fd, flags(read, write))),
            );
        }
        let hear = self.hears_viewers();
        for viewer in &self.viewers {
            let (fd, full) = viewer.socket();
            fds.push(PollFd::new(fd, flags(hear, full)));
        }
        let wait = Timespec {
            tv_sec: wait.as_secs().try_into().unwrap_or(1),
            tv_nsec: wait.subsec_nanos().into(),
        };
        match poll(&mut fds, Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(e) => Err(BrokerError::Wait(e)),
        }
    }

    /// Carries out what `nonstopd` ordered.
    fn obey(&mut self, control: BorrowedFd<'_>, now: Instant) -> Result<(), BrokerError> {
        loop {
            let (order, file) = match wire::receive::<Order>(control) {
                Ok(order) => order,
                Err(WireError::Empty) => return Ok(()),
                Err(e) => return Err(BrokerError::Control(e)),
            };
            match (order, file) {
                (Order::Begin { budget }, None) => self.budget = budget,
                (Order::Attach, Some(socket)) => self.attach(socket, now),
                (Order::AddViewer { viewer, kind }, Some(link)) => {
                    self.add_viewer(viewer, kind, link, now)?;
                }
                (Order::RemoveViewer { viewer }, None) => self.remove_viewer(viewer),
                _ => return Err(BrokerError::Order),
            }
        }
    }

    fn attach(&mut self, socket: OwnedFd, now: Instant) {
        if self.display.take().is_some() {
            self.screen.off();
        }
        self.attached = false;
        // A machine that has just started holds no key down.
        self.typing = Typing::new();
        let mut display = Display::new(socket, self.uid, now);
        if let Some((width, height)) = self.window_size {
            display.resize(width, height);
        }
        self.display = Some(display);
        self.more = true;
    }

    fn add_viewer(
        &mut self,
        id: ViewerId,
        kind: ViewerKind,
        link: OwnedFd,
        now: Instant,
    ) -> Result<(), BrokerError> {
        self.remove_viewer(id);
        if self.viewers.len() == MOST_VIEWERS {
            return Err(BrokerError::Order);
        }
        let an_hour = self.budget.filter(|_| kind != ViewerKind::Recorder);
        let budget = self.budgets.remove(&id).unwrap_or_else(|| Budget::new(an_hour, now));
        self.viewers.push(Viewer::new(id, kind, link, budget));
        Ok(())
    }

    /// Ends a viewer, and the session that it served.
    fn remove_viewer(&mut self, id: ViewerId) {
        let Some(at) = self.viewers.iter().position(|viewer| viewer.id == id) else { return };
        let viewer = self.viewers.swap_remove(at);
        self.reports.extend(viewer.closed());
        if viewer.kind == ViewerKind::Owner {
            self.release_all();
        }
        if viewer.kind != ViewerKind::Recorder {
            self.budgets.insert(id, viewer.budget);
        }
    }

    /// Hears what QEMU says. True if there may be more.
    fn hear_qemu(&mut self, now: Instant) -> bool {
        let Some(display) = &mut self.display else { return false };
        match display.turn(&mut self.screen, now).and_then(|heard| {
            display.check_time(now)?;
            Ok(heard)
        }) {
            Ok(heard) => {
                if heard.scanout && !self.attached {
                    self.attached = true;
                    self.reports.push_back(Report::Attached);
                }
                if heard.pointer || heard.scanout {
                    self.viewers.iter_mut().for_each(Viewer::pointer_changed);
                }
                heard.more
            }
            Err(e) => {
                self.lose(&e);
                false
            }
        }
    }

    /// The machine's display is gone: the card is shown in its place.
    fn lose(&mut self, why: &Lost) {
        if !matches!(why, Lost::Closed) {
            eprintln!("nonstop-rdp broker: {why}");
        }
        self.display = None;
        self.attached = false;
        self.typing = Typing::new();
        self.screen.off();
        self.viewers.iter_mut().for_each(Viewer::pointer_changed);
        self.reports.push_back(Report::Lost);
    }

    fn hears_viewers(&self) -> bool {
        self.reports.len() < MOST_REPORTS
    }

    /// Hears what viewers told. True if there may be more.
    fn hear_viewers(&mut self, now: Instant) -> bool {
        if !self.hears_viewers() {
            return false;
        }
        let heard: Vec<_> = self.viewers.iter_mut().map(|v| (v.id, v.hear(now))).collect();
        let mut more = false;
        for (id, words) in heard {
            match words {
                Ok(words) => {
                    more |= words.more;
                    self.follow(words);
                }
                Err(viewers::Bad) => self.give_up(id),
            }
        }
        more
    }

    fn follow(&mut self, words: Words) {
        for input in words.typed {
            self.type_in(input);
        }
        if words.session_changed {
            self.release_all();
        }
        if let Some((width, height)) = words.resize {
            self.window_size = words.resize;
            self.display.iter_mut().for_each(|display| display.resize(width, height));
        }
        self.reports.extend(words.reports);
    }

    fn type_in(&mut self, input: Input) {
        if self.display.is_some() {
            self.typing.push(input);
        }
        for viewer in &mut self.viewers {
            viewer.typed(input);
        }
    }

    fn release_all(&mut self) {
        self.typing.release_all();
    }

    /// A viewer that broke the rules or is gone.
    fn give_up(&mut self, id: ViewerId) {
        self.remove_viewer(id);
        self.reports.push_back(Report::Bad { viewer: id });
    }

    /// Types what waits.
    fn ask_qemu(&mut self, now: Instant) {
        let Some(display) = &mut self.display else { return };
        if let Err(e) = display.ask(&mut self.typing, self.screen.size(), now) {
            self.lose(&e);
        }
    }

    /// Brings over what changed, if somebody waits for it, and shows each viewer what it is owed.
    fn show(&mut self, now: Instant) -> Result<(), BrokerError> {
        let waits = |viewer: &mut Viewer| viewer.ready_at(now).is_some_and(|at| at <= now);
        if self.screen.is_stale() && now >= self.next_copy && self.viewers.iter_mut().any(waits) {
            self.next_copy = now + COPY_PACE;
            match self.screen.copy() {
                Ok(Some(damage)) => self.viewers.iter_mut().for_each(|v| v.damage(&damage)),
                Ok(None) => self.viewers.iter_mut().for_each(Viewer::picture_changed),
                // QEMU's memory: it is what cannot be read. Without a QEMU it is ours.
                Err(e) if self.display.is_none() => return Err(BrokerError::Card(e)),
                Err(e) => self.lose(&e),
            }
        }
        let (picture, pointer) = (self.screen.picture(), self.screen.pointer());
        let shown = |v: &mut Viewer| v.show(picture, pointer, now).err().map(|_| v.id);
        let bad: Vec<ViewerId> = self.viewers.iter_mut().filter_map(shown).collect();
        for id in bad {
            self.give_up(id);
        }
        Ok(())
    }

    /// Tells `nonstopd` what is due.
    fn report(&mut self, control: BorrowedFd<'_>, now: Instant) -> Result<(), BrokerError> {
        if now >= self.next_meter && self.hears_viewers() {
            self.next_meter = now + METER_PACE;
            self.reports.extend(self.viewers.iter_mut().filter_map(Viewer::metered));
        }
        if now >= self.next_alive {
            self.next_alive = now + ALIVE_PACE;
            if self.reports.is_empty() {
                self.reports.push_back(Report::Alive);
            }
        }
        while let Some(report) = self.reports.front() {
            match wire::send(control, report, None) {
                Ok(()) => _ = self.reports.pop_front(),
                Err(WireError::Full) => break,
                Err(e) => return Err(BrokerError::Control(e)),
            }
        }
        Ok(())
    }

    /// Leaves the processor to others when the share of it is spent; orders still wake this.
    fn rest(&mut self, control: BorrowedFd<'_>, began: Instant) -> Result<(), BrokerError> {
        let now = Instant::now();
        let gained = nanoseconds(now.saturating_duration_since(self.credited)) / 100 * SHARE;
        let spent = nanoseconds(now.saturating_duration_since(began));
        self.credit = self.credit.saturating_add(gained).min(nanoseconds(BURST)) - spent;
        self.credited = now;
        if self.credit >= 0 {
            return Ok(());
        }
        let wait = Duration::from_nanos((-self.credit / SHARE).unsigned_abs() * 100);
        let wait = wait.min(LONGEST_REST);
        let wait = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
        let mut fds = [PollFd::from_borrowed_fd(control.as_fd(), PollFlags::IN)];
        match poll(&mut fds, Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(e) => Err(BrokerError::Wait(e)),
        }
    }
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX / 1000)
}
