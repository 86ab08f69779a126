//! The thread that keeps a connection for events, and takes them in.

use super::{
    ends::Ends,
    ffi::{self, RawEvent},
    mark::LabMark,
    pool::{Pool, is_alive},
};
use nonstop_model::MachineId;
use nonstop_plan::EndReason;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// Called at every event in the life of a guest of ours, and when libvirtd went or came.
pub type Wake = Box<dyn Fn() + Send + Sync>;

/// How often to look whether the connection still stands.
const LOOK: Duration = Duration::from_millis(500);

/// How soon to try again to connect.
const AGAIN: Duration = Duration::from_millis(100);

/// How long an event may come after its guest has left the listing.
const LATE: Duration = Duration::from_secs(2);

/// Events of this lab's guests.
pub(super) struct Watch {
    lab: LabMark,
    wake: Wake,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    ends: Ends,
    listening: bool,
}

impl Watch {
    /// Starts the thread; it ends when the watch is dropped.
    pub(super) fn start(lab: LabMark, pool: &Arc<Pool>, wake: Wake) -> std::io::Result<Arc<Watch>> {
        let watch = Arc::new(Watch { lab, wake, state: Mutex::default(), changed: Condvar::new() });
        let (weak, pool) = (Arc::downgrade(&watch), Arc::clone(pool));
        thread::Builder::new().name("libvirt-watch".into()).spawn(move || keep(&weak, &pool))?;
        Ok(watch)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known of ends.
    pub(super) fn ends<T>(&self, change: impl FnOnce(&mut Ends) -> T) -> T {
        let changed = change(&mut self.state().ends);
        self.changed.notify_all();
        changed
    }

    /// How guests ended since the last call, where `now` run. Waits a moment for events that
    /// are still on their way.
    pub(super) fn take(&self, now: BTreeSet<MachineId>) -> BTreeMap<MachineId, EndReason> {
        let until = Instant::now() + LATE;
        let mut state = self.state();
        while !state.ends.unexplained(&now).is_empty() {
            let Some(left) = until.checked_duration_since(Instant::now()) else { break };
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.ends.take(now)
    }

    /// Waits until events are listened to, so that no end of a guest started now is missed.
    pub(super) fn wait_until_listening(&self, at_most: Duration) {
        let state = self.state();
        let waited = self.changed.wait_timeout_while(state, at_most, |state| !state.listening);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn happened(&self, event: &RawEvent) {
        let Some(machine) = self.lab.machine_of(&event.name, event.uuid) else { return };
        tracing::debug!(%machine, event.event, event.detail, "an event of a guest");
        self.ends(|ends| ends.happened(machine, event));
        (self.wake)();
    }

    fn listening(&self, listening: bool) {
        {
            let mut state = self.state();
            state.listening = listening;
            if !listening {
                state.ends.connection_lost();
            }
        }
        self.changed.notify_all();
        (self.wake)();
    }
}

/// Keeps a connection with a listener on it for as long as the watch is held elsewhere.
fn keep(watch: &Weak<Watch>, pool: &Arc<Pool>) {
    let mut was_there = true;
    while watch.strong_count() > 0 {
        let listener = {
            let watch = watch.clone();
            Box::new(move |event| {
                if let Some(watch) = watch.upgrade() {
                    watch.happened(&event);
                }
            })
        };
        let listening = pool.open().map_err(|e| e.to_string()).and_then(|link| {
            let registration = ffi::listen(&link.connect, listener);
            registration.map(|held| (link, held)).map_err(|e| e.to_string())
        });
        match listening {
            Err(e) => {
                if was_there {
                    warn!("events of guests are not heard: {e}");
                    was_there = false;
                }
                thread::sleep(AGAIN);
            }
            Ok((link, held)) => {
                if !was_there {
                    info!("libvirtd is back");
                    was_there = true;
                }
                tell(watch, true);
                while is_alive(&link.connect) && watch.strong_count() > 0 {
                    thread::sleep(LOOK);
                }
                drop(held);
                tell(watch, false);
            }
        }
    }
}

fn tell(watch: &Weak<Watch>, listening: bool) {
    if let Some(watch) = watch.upgrade() {
        watch.listening(listening);
    }
}
