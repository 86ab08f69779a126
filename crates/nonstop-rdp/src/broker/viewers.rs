//! The viewers of a desktop: what each is owed, and when it gets it.
//!
//! A viewer has at most one update and one picture on their way. What changes meanwhile is gathered
//! into few rectangles; of pictures and pointers only the newest waits. So a viewer that is slow,
//! because its client is, costs nothing and holds up nobody.

use super::{budget::Budget, damage::Damage, picture::Picture};
use nonstop_display::{
    control::{Report, ViewerId, ViewerKind},
    link::{Cursor, Input, MOST_RECTS, Meter, Show, Told},
    wire::{self, WireError},
};
use std::{
    collections::VecDeque,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

/// Typed input that a recorder has not taken; more is lost to it.
const MOST_TYPED: usize = 1024;

/// Between two pointers. They count against the budget as updates do.
const POINTER_PACE: Duration = Duration::from_millis(30);

/// Messages that are looked at in one turn.
const MOST_MESSAGES: usize = 64;

/// What a viewer waits to confirm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taking {
    Nothing,
    Picture,
    Update(u64),
}

/// A viewer that broke the rules or is gone.
#[derive(Debug)]
pub struct Bad;

/// What a viewer told in a turn.
#[derive(Debug, Default)]
pub struct Words {
    /// What was typed, in order.
    pub typed: Vec<Input>,
    /// The last size of its window.
    pub resize: Option<(u16, u16)>,
    /// Its session began or ended: nothing of the old is held down.
    pub session_changed: bool,
    /// What `nonstopd` is to know now.
    pub reports: Vec<Report>,
    /// There may be more.
    pub more: bool,
}

/// One viewer.
#[derive(Debug)]
pub struct Viewer {
    /// Which.
    pub id: ViewerId,
    /// What it may do.
    pub kind: ViewerKind,
    /// Its bytes.
    pub budget: Budget,
    link: OwnedFd,
    taking: Taking,
    serial: u64,
    owes_picture: bool,
    owes_pointer: bool,
    damage: Damage,
    last_update: Option<Instant>,
    last_pointer: Option<Instant>,
    typed: VecDeque<Input>,
    full: bool,
    open: bool,
    meter: Meter,
    metered: bool,
}

impl Viewer {
    /// A viewer at the other end of `link`.
    pub fn new(id: ViewerId, kind: ViewerKind, link: OwnedFd, budget: Budget) -> Self {
        Self {
            id,
            kind,
            budget,
            link,
            taking: Taking::Nothing,
            serial: 0,
            owes_picture: true,
            owes_pointer: true,
            damage: Damage::new(),
            last_update: None,
            last_pointer: None,
            typed: VecDeque::new(),
            full: false,
            open: false,
            meter: Meter::default(),
            metered: false,
        }
    }

    /// The link, to wait on, and whether to wait for room in it.
    pub fn socket(&self) -> (&OwnedFd, bool) {
        (&self.link, self.full)
    }

    /// The picture is another.
    pub fn picture_changed(&mut self) {
        self.owes_picture = true;
        self.damage = Damage::new();
    }

    /// Parts of the picture changed.
    pub fn damage(&mut self, damage: &Damage) {
        if !self.owes_picture {
            self.damage.add_all(damage);
        }
    }

    /// The pointer looks otherwise.
    pub fn pointer_changed(&mut self) {
        self.owes_pointer = true;
    }

    /// Somebody typed.
    pub fn typed(&mut self, input: Input) {
        if self.kind == ViewerKind::Recorder && self.typed.len() < MOST_TYPED {
            self.typed.push_back(input);
        }
    }

    /// When it may be shown something new: None while it has not taken the last, a time that is
    /// not after `now` for at once.
    pub fn ready_at(&mut self, now: Instant) -> Option<Instant> {
        if self.full || self.taking != Taking::Nothing {
            return None;
        }
        if self.owes_picture && self.last_update.is_none() {
            return Some(now);
        }
        Some(self.budget.next(self.last_update, now).unwrap_or(now))
    }

    /// When a pointer that it is owed may be shown; as [`Viewer::ready_at`].
    pub fn pointer_at(&mut self, now: Instant) -> Option<Instant> {
        // A pointer means nothing before the first picture.
        if self.full || !self.owes_pointer || self.last_update.is_none() {
            return None;
        }
        let Some(last) = self.last_pointer else { return Some(now) };
        let budgeted = self.budget.next(self.last_pointer, now).unwrap_or(now);
        Some(budgeted.max(last + POINTER_PACE))
    }

    /// Whether something of the picture waits for it.
    pub fn is_owed(&self) -> bool {
        self.owes_picture || !self.damage.is_empty()
    }

    /// Shows what it is owed and may be shown.
    pub fn show(
        &mut self,
        picture: Option<&Picture>,
        pointer: Option<&Cursor>,
        now: Instant,
    ) -> Result<(), Bad> {
        self.full = false;
        let Some(picture) = picture else { return Ok(()) };
        let may = self.ready_at(now).is_some_and(|at| at <= now);
        if may && self.owes_picture {
            let (width, height) = (picture.width, picture.height);
            let shown = Show::Picture { width, height, stride: u32::from(width) * 4 };
            if self.send(&shown, Some(picture))? {
                self.owes_picture = false;
                self.taking = Taking::Picture;
                self.last_update = Some(now);
            }
        } else if may && !self.damage.is_empty() {
            let rects = self.damage.rects().iter().take(MOST_RECTS).copied().collect();
            if self.send(&Show::Damage { serial: self.serial + 1, rects }, None)? {
                self.serial += 1;
                self.damage = Damage::new();
                self.taking = Taking::Update(self.serial);
                self.last_update = Some(now);
            }
        }
        if self.pointer_at(now).is_some_and(|at| at <= now)
            && self.send(&Show::Cursor(pointer.cloned()), None)?
        {
            self.owes_pointer = false;
            self.last_pointer = Some(now);
        }
        while let Some(input) = self.typed.front().copied().filter(|_| !self.full) {
            if self.send(&Show::Typed(input), None)? {
                self.typed.pop_front();
            }
        }
        Ok(())
    }

    /// Hears what it told, in one bounded turn.
    pub fn hear(&mut self, now: Instant) -> Result<Words, Bad> {
        let mut words = Words::default();
        for _ in 0..MOST_MESSAGES {
            let told = match wire::receive::<Told>(&self.link) {
                Ok((told, None)) => told,
                Err(WireError::Empty) => return Ok(words),
                Ok((_, Some(_))) | Err(_) => return Err(Bad),
            };
            self.take(told, &mut words, now)?;
        }
        words.more = true;
        Ok(words)
    }

    /// The session's figures, if they changed since they were last asked for.
    pub fn metered(&mut self) -> Option<Report> {
        let changed = std::mem::take(&mut self.metered);
        changed.then_some(Report::Metered { viewer: self.id, meter: self.meter })
    }

    /// The end of an open session, when the viewer itself ends.
    pub fn closed(&self) -> Option<Report> {
        self.open.then_some(Report::Closed { viewer: self.id, meter: self.meter })
    }

    fn take(&mut self, told: Told, words: &mut Words, now: Instant) -> Result<(), Bad> {
        match told {
            Told::Ready { serial } => match (self.taking, serial) {
                (Taking::Picture, 0) => self.taking = Taking::Nothing,
                (Taking::Update(waits), told) if waits == told => self.taking = Taking::Nothing,
                // Said twice, or after a newer picture.
                (_, told) if told <= self.serial => {}
                _ => return Err(Bad),
            },
            Told::Input(input) => self.input(input, words),
            Told::Pointer { x, y } => self.input(Input::Pointer { x, y }, words),
            Told::Resize { width, height } if self.kind == ViewerKind::Owner => {
                words.resize = Some((width, height));
            }
            Told::Resize { .. } => {}
            Told::Opened => {
                words.reports.extend(self.closed());
                words.reports.push(Report::Opened { viewer: self.id });
                words.session_changed = true;
                self.open = true;
                self.meter = Meter::default();
                self.metered = false;
            }
            Told::Metered(meter) => self.count(meter, words, now)?,
            Told::Closed(meter) => {
                self.count(meter, words, now)?;
                words.reports.extend(self.closed());
                words.session_changed = true;
                self.open = false;
                self.metered = false;
            }
        }
        Ok(())
    }

    fn input(&self, input: Input, words: &mut Words) {
        if self.kind == ViewerKind::Owner {
            words.typed.push(input);
        }
    }

    /// Figures only grow.
    fn count(&mut self, meter: Meter, words: &mut Words, now: Instant) -> Result<(), Bad> {
        let bytes = meter.bytes_out.checked_sub(self.meter.bytes_out).ok_or(Bad)?;
        if meter.frames < self.meter.frames || meter.keys_in < self.meter.keys_in {
            return Err(Bad);
        }
        self.metered |= meter != self.meter && self.open;
        self.meter = meter;
        if self.budget.spend(bytes, now) {
            words.reports.push(Report::OverBudget { viewer: self.id, meter });
        }
        Ok(())
    }

    /// False if there is no room now.
    fn send(&mut self, show: &Show, picture: Option<&Picture>) -> Result<bool, Bad> {
        match wire::send(&self.link, show, picture.map(|picture| picture.memory.as_fd())) {
            Ok(()) => Ok(true),
            Err(WireError::Full) => {
                self.full = true;
                Ok(false)
            }
            Err(_) => Err(Bad),
        }
    }
}
