//! The recorder: a viewer without a client, that keeps what is shown and typed, encrypted.
//!
//! It holds no key that decrypts. At most two pictures a second are kept, of each the tiles that
//! changed; what was typed is kept with its time, the mouse's way thinned out. What it has is
//! written at least each two seconds: so much is lost when it is killed. At its bound it says so
//! in the recording, and ends.

mod chunks;
mod player;
mod tiles;

pub use chunks::ChunkError;
pub use player::play;

use crate::given::{GivenError, read_setup};
use chunks::Chunks;
use nonstop_confine::{ConfineError, Left, MESSAGES, confine};
use nonstop_display::{
    link::{Cursor, Input, Show, Told},
    recording::Record,
    setup::RecorderSetup,
    wire::{self, WireError},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tiles::Tiles;

/// Between two pictures.
const PICTURE_PACE: Duration = Duration::from_millis(500);

/// How long records may wait to be written.
const WRITE_PACE: Duration = Duration::from_secs(2);

/// Between two places of the pointer.
const POINTER_PACE: Duration = Duration::from_millis(100);

/// Messages that are looked at in one turn.
const MOST_MESSAGES: usize = 64;

/// Room for the largest picture as it was recorded, a band of it, and a chunk.
const MEMORY_BYTES: u64 = 256 << 20;

/// System calls beside [`nonstop_confine::ALWAYS`].
const CALLS: &[i64] = &[
    5,   // fstat: how long the recording is already
    17,  // pread64: the picture
    72,  // fcntl: std's look at a descriptor before it is closed, in debug builds
    75,  // fdatasync: the recording
    262, // newfstatat: fstat, as the C library makes it
];

/// A recorder that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// It was started with nonsense.
    #[error(transparent)]
    Given(#[from] GivenError),
    /// It cannot give up its rights.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// The kernel refused.
    #[error("take what is on the descriptors")]
    Io(#[from] io::Error),
    /// The broker broke the rules.
    #[error("the broker shows what makes no sense")]
    Broker,
    /// The link broke.
    #[error("speak with the broker")]
    Link(#[source] WireError),
    /// The file.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
}

/// Records as the user `uid` what comes over descriptor 0 into descriptor 1, until the broker is
/// gone or the recording is full.
pub fn run(uid: u32) -> Result<(), RecorderError> {
    let setup: RecorderSetup = read_setup()?;
    let file = duplicate(io::stdout())?;
    let link = duplicate(io::stdin())?;
    confine(Left {
        uid,
        gid: uid,
        memory_bytes: MEMORY_BYTES,
        file_bytes: setup.max_bytes,
        files: 16,
        threads: 0,
        cpu_seconds: None,
        calls: &[MESSAGES, CALLS],
    })?;
    let recorded = match Chunks::new(file, &setup.recipient, setup.max_bytes) {
        Ok(chunks) => {
            let mut recorder = Recorder::new(link, chunks);
            let worked = recorder.work();
            // Whatever ended it: what was recorded before stays.
            let written = recorder.chunks.flush();
            worked.and(written.map_err(RecorderError::from))
        }
        Err(e) => Err(e.into()),
    };
    match recorded {
        Err(RecorderError::Chunk(ChunkError::Full)) => Ok(()),
        other => other,
    }
}

pub(super) fn duplicate(of: impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(of, 3)?)
}

struct Recorder {
    link: OwnedFd,
    chunks: Chunks,
    /// When the oldest record that waits came.
    waiting_since: Option<Instant>,
    tiles: Option<Tiles>,
    /// The picture that was taken, and when the next may come.
    taken: Option<(u64, Instant)>,
    pointer: Option<Cursor>,
    moved: Option<(u64, Input)>,
    moved_at: Option<Instant>,
}

impl Recorder {
    fn new(link: OwnedFd, chunks: Chunks) -> Self {
        Self {
            link,
            chunks,
            waiting_since: None,
            tiles: None,
            taken: None,
            pointer: None,
            moved: None,
            moved_at: None,
        }
    }

    fn work(&mut self) -> Result<(), RecorderError> {
        if self.chunks.goes_on() {
            // Whatever was shown since the recorder before this one ended.
            self.chunks.add(&Record::Lost)?;
        }
        loop {
            self.wait()?;
            let gone = !self.hear()?;
            let now = Instant::now();
            if gone || self.moved_at.is_some_and(|at| now >= at + POINTER_PACE) {
                self.keep_moved()?;
            }
            if gone || self.waiting_since.is_some_and(|since| now >= since + WRITE_PACE) {
                self.chunks.flush()?;
                self.waiting_since = None;
            }
            if gone {
                return Ok(());
            }
            if let Some((serial, at)) = self.taken
                && now >= at
            {
                match wire::send(&self.link, &Told::Ready { serial }, None) {
                    Ok(()) => self.taken = None,
                    // Soon again: the broker takes little at a time.
                    Err(WireError::Full) => self.taken = Some((serial, now + PICTURE_PACE)),
                    Err(WireError::Gone) => {}
                    Err(e) => return Err(RecorderError::Link(e)),
                }
            }
        }
    }

    /// Until the broker shows something, or something is due.
    fn wait(&self) -> Result<(), RecorderError> {
        let due = [
            self.taken.map(|(_, at)| at),
            self.waiting_since.map(|since| since + WRITE_PACE),
            self.moved.as_ref().and(self.moved_at).map(|at| at + POINTER_PACE),
        ];
        let wait = due.into_iter().flatten().min();
        let wait = wait.map(|at| {
            let wait = at.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(1),
                // Rounded up: a moment too early would be a turn for nothing.
                tv_nsec: i64::from(wait.subsec_nanos()),
            }
        });
        let mut fds = [PollFd::from_borrowed_fd(self.socket(), PollFlags::IN)];
        match poll(&mut fds, wait.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(e) => Err(io::Error::from(e).into()),
        }
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }

    /// Takes in what is shown; false when the broker is gone.
    fn hear(&mut self) -> Result<bool, RecorderError> {
        for _ in 0..MOST_MESSAGES {
            match wire::receive::<Show>(&self.link) {
                Ok((show, file)) => self.take(show, file)?,
                Err(WireError::Empty) => return Ok(true),
                Err(WireError::Gone) => return Ok(false),
                Err(e) => return Err(RecorderError::Link(e)),
            }
        }
        Ok(true)
    }

    fn take(&mut self, show: Show, file: Option<OwnedFd>) -> Result<(), RecorderError> {
        match (show, file) {
            (Show::Picture { width, height, stride }, Some(file)) => {
                let tiles = Tiles::new(file, width, height, stride)?;
                let whole = tiles.whole();
                self.tiles = Some(tiles);
                self.keep(&Record::Picture { width, height })?;
                self.picture(&[whole], true)?;
                self.taken = Some((0, Instant::now() + PICTURE_PACE));
            }
            (Show::Damage { serial, rects }, None) => {
                self.picture(&rects, false)?;
                self.taken = Some((serial, Instant::now() + PICTURE_PACE));
            }
            (Show::Cursor(pointer), None) => {
                if pointer != self.pointer {
                    self.keep(&Record::Pointer(pointer.clone()))?;
                    self.pointer = pointer;
                }
            }
            (Show::Typed(input @ Input::Pointer { .. }), None) => {
                self.moved = Some((now_ms(), input));
                self.moved_at.get_or_insert_with(Instant::now);
            }
            (Show::Typed(input), None) => {
                self.keep_moved()?;
                self.keep(&Record::Typed { at_ms: now_ms(), input })?;
            }
            _ => return Err(RecorderError::Broker),
        }
        Ok(())
    }

    /// Keeps what of the picture is new.
    fn picture(
        &mut self,
        rects: &[nonstop_display::link::Rect],
        first: bool,
    ) -> Result<(), RecorderError> {
        self.keep_moved()?;
        let mut tiles = self.tiles.take().ok_or(RecorderError::Broker)?;
        let changed = tiles.changed(rects, &mut |record| self.keep(&record));
        self.tiles = Some(tiles);
        if changed? || first {
            self.keep(&Record::Shown { at_ms: now_ms() })?;
        }
        Ok(())
    }

    /// Keeps where the pointer went last.
    fn keep_moved(&mut self) -> Result<(), RecorderError> {
        self.moved_at = None;
        match self.moved.take() {
            Some((at_ms, input)) => self.keep(&Record::Typed { at_ms, input }),
            None => Ok(()),
        }
    }

    fn keep(&mut self, record: &Record) -> Result<(), RecorderError> {
        self.chunks.add(record)?;
        match self.chunks.is_empty() {
            true => self.waiting_since = None,
            false => _ = self.waiting_since.get_or_insert_with(Instant::now),
        }
        Ok(())
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
