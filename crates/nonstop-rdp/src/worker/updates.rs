//! What one client is still to be shown.
//!
//! A slow client gets fewer and newer pictures: the broker copies the next part when the last has
//! gone out, by the graphics pipeline (when the client has drawn what came before) or, to a client
//! without it, as bitmaps.

use super::{
    changes::Copy,
    graphics::{Pictures, Pipeline},
    pointer,
    screen::PIXEL,
    server::Session,
};
use bytes::Bytes;
use ironrdp_server::{
    BitmapUpdate, DesktopSize, DisplayUpdate, PixelFormat, RdpServerDisplayUpdates,
};
use nonstop_display::link::{Rect, Told};
use std::{
    collections::VecDeque,
    num::{NonZeroU16, NonZeroUsize},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// How long a client may take to say that it knows the graphics pipeline, if it may.
const UNDECIDED: Duration = Duration::from_millis(500);

/// A window is hidden once it has been for so long: some clients say so in passing.
const HIDDEN: Duration = Duration::from_secs(1);

/// What one client is still to be shown.
pub(super) struct Updates {
    session: Arc<Session>,
    pipeline: Arc<Pipeline>,
    pictures: Pictures,
    /// What the client has of the picture, by bitmaps. The library (ironrdp-server 0.13) would
    /// compare too, once it has seen the whole picture at once; of the parts that it then cuts out
    /// it loses a row.
    copy: Copy,
    /// Until then the client may still say that it knows the graphics pipeline.
    decided: Instant,
    /// Pictures go by the pipeline.
    piped: bool,
    /// Of the client's desktop.
    size: Option<(u16, u16)>,
    /// All of the picture is to be shown.
    fresh: bool,
    /// The client has been shown something.
    shown: bool,
    hidden_since: Option<Instant>,
    /// What was given out last: once it is asked for more, the client has taken it.
    taken: Option<u64>,
    /// The last picture and pointer that were looked at.
    seen: u64,
    cursors: u64,
    queue: VecDeque<DisplayUpdate>,
}

impl Updates {
    pub(super) fn new(
        session: Arc<Session>,
        pipeline: Arc<Pipeline>,
        size: Option<(u16, u16)>,
    ) -> Updates {
        Updates {
            session,
            pictures: Pictures::new(Arc::clone(&pipeline)),
            pipeline,
            copy: Copy::default(),
            decided: Instant::now() + UNDECIDED,
            piped: false,
            size,
            fresh: true,
            shown: false,
            hidden_since: None,
            taken: None,
            seen: 0,
            cursors: 0,
            queue: VecDeque::new(),
        }
    }

    /// Whether the client's window has been hidden for a while.
    fn is_hidden(&mut self) -> bool {
        if !self.shown || !self.session.hidden.load(Ordering::Relaxed) {
            self.hidden_since = None;
            return false;
        }
        self.hidden_since.get_or_insert_with(Instant::now).elapsed() > HIDDEN
    }

    /// Sends what has changed by the graphics pipeline, as far as the client keeps up.
    fn pipe(&mut self) -> anyhow::Result<()> {
        let session = Arc::clone(&self.session);
        let mut screen = session.shared.screen();
        if screen.width == 0 || !self.pictures.may_send() {
            return Ok(());
        }
        if !std::mem::replace(&mut self.piped, true) {
            self.fresh = true;
        }
        self.fresh |= self.pictures.resize(screen.width, screen.height)?;
        self.fresh |= std::mem::replace(&mut self.seen, screen.pictures) != screen.pictures;
        if screen.cursors != self.cursors && self.pictures.is_settled() {
            self.cursors = screen.cursors;
            self.queue.push_back(pointer::update(screen.cursor.as_ref()));
        }
        let all = std::mem::take(&mut self.fresh);
        let damage = screen.damage.take();
        let rects = match &damage {
            _ if all => vec![screen.whole()],
            Some((_, rects)) => rects.clone(),
            None => return Ok(()),
        };
        let parts: Vec<_> = rects.into_iter().map(|rect| (rect, screen.pixels(rect))).collect();
        drop(screen);
        if self.pictures.show(&parts, all)? {
            session.figures.frames.fetch_add(1, Ordering::Relaxed);
            self.shown = true;
        }
        if let Some((serial, _)) = damage {
            session.outbox.tell(Told::Ready { serial });
        }
        Ok(())
    }

    /// Puts what has changed into the queue.
    fn fill(&mut self) {
        let session = Arc::clone(&self.session);
        let screen = session.shared.screen();
        if screen.width == 0 {
            return;
        }
        self.fresh |= std::mem::replace(&mut self.seen, screen.pictures) != screen.pictures;
        let size = (screen.width, screen.height);
        if self.size.replace(size).is_some_and(|before| before != size) {
            self.copy = Copy::default();
            let size = DesktopSize { width: screen.width, height: screen.height };
            self.queue.push_back(DisplayUpdate::Resize(size));
            return;
        }
        if screen.cursors != self.cursors {
            self.cursors = screen.cursors;
            self.queue.push_back(pointer::update(screen.cursor.as_ref()));
        }
        let damage = screen.damage.as_ref();
        let rects = match (std::mem::take(&mut self.fresh), damage) {
            (true, _) => vec![screen.whole()],
            (false, Some((_, rects))) => rects.clone(),
            (false, None) => Vec::new(),
        };
        if !rects.is_empty() {
            self.taken = Some(damage.map_or(0, |(serial, _)| *serial));
            self.shown = true;
        }
        let all = self.copy.width == 0;
        if all {
            self.copy = Copy::new(screen.width, screen.height);
        }
        for rect in rects.into_iter().filter_map(|rect| even(rect, screen.width)) {
            for part in self.copy.take(rect, &screen.pixels(rect), all) {
                self.queue.extend(bitmap(part, self.copy.pixels(part)));
            }
        }
        drop(screen);
        if self.queue.is_empty() {
            // Painted anew as it was.
            self.confirm();
        } else if self.taken.is_some() {
            session.figures.frames.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The client has taken what it was given: the broker may go on.
    fn confirm(&mut self) {
        let Some(serial) = self.taken.take() else { return };
        let session = &self.session;
        let mut screen = session.shared.screen();
        if screen.damage.as_ref().is_some_and(|(pending, _)| *pending == serial) {
            screen.damage = None;
            session.outbox.tell(Told::Ready { serial });
        }
    }
}

#[async_trait::async_trait]
impl RdpServerDisplayUpdates for Updates {
    async fn next_update(&mut self) -> anyhow::Result<Option<DisplayUpdate>> {
        loop {
            if let Some(update) = self.queue.pop_front() {
                return Ok(Some(update));
            }
            let session = Arc::clone(&self.session);
            let (changed, rung) = (session.shared.changed.notified(), session.flow.rung.notified());
            tokio::pin!(changed, rung);
            changed.as_mut().enable();
            rung.as_mut().enable();
            if !session.looks() {
                return Ok(None);
            }
            self.confirm();
            // A hidden window is asked for now and then: nothing tells when it is back.
            let mut again = self
                .session
                .hidden
                .load(Ordering::Relaxed)
                .then_some(Instant::now() + Duration::from_millis(100));
            if self.is_hidden() {
            } else if self.pipeline.is_ready() {
                self.pipe()?;
            } else if !session.flow.has_no_pipeline() && Instant::now() < self.decided {
                again = Some(self.decided);
            } else {
                self.fill();
            }
            if !self.queue.is_empty() {
                continue;
            }
            tokio::select! {
                () = changed => {}
                () = rung => {}
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
            }
        }
    }
}

/// `rect` with edges at every fourth column, as bitmaps want it (and ironrdp-server 0.13 enforces,
/// by the end of the session). Of a picture of another width the last columns are not shown.
fn even(rect: Rect, width: u16) -> Option<Rect> {
    let left = rect.x / 4 * 4;
    let right = (rect.x + rect.width).div_ceil(4) * 4;
    let right = right.min(width / 4 * 4);
    (left < right).then(|| Rect { x: left, width: right - left, ..rect })
}

fn bitmap(rect: Rect, pixels: Vec<u8>) -> Option<DisplayUpdate> {
    let stride = NonZeroUsize::new(usize::from(rect.width) * PIXEL)?;
    Some(DisplayUpdate::Bitmap(BitmapUpdate {
        x: rect.x,
        y: rect.y,
        width: NonZeroU16::new(rect.width)?,
        height: NonZeroU16::new(rect.height)?,
        format: PixelFormat::BgrX32,
        data: Bytes::from(pixels),
        stride,
    }))
}
