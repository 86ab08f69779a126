//! What is to be told to the broker: bounded, in order, and never without what it waits for.

use nonstop_display::link::{Input, Told};
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// Words that wait. What ends something may go past it: there is one for each that was begun.
const MOST: usize = 1024;

/// The queue to the broker.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<VecDeque<Told>>,
    rung: Notify,
}

impl Outbox {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Told>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts `told` at the end. Moves of the pointer are merged; false if the queue is full.
    pub(super) fn tell(&self, told: Told) -> bool {
        let mut waiting = self.waiting();
        let must = match &told {
            Told::Ready { .. } | Told::Opened | Told::Closed(_) => true,
            Told::Input(Input::Key { down, .. } | Input::Button { down, .. }) => !down,
            Told::Input(Input::Pointer { .. }) => {
                if let Some(last @ Told::Input(Input::Pointer { .. })) = waiting.back_mut() {
                    *last = told;
                    return true;
                }
                false
            }
            Told::Pointer { .. } | Told::Resize { .. } | Told::Metered(_) => false,
        };
        if !must && waiting.len() >= MOST {
            return false;
        }
        waiting.push_back(told);
        drop(waiting);
        self.rung.notify_one();
        true
    }

    /// The next word, when there is one. It stays until [`Outbox::told`].
    pub(super) async fn next(&self) -> Told {
        loop {
            if let Some(told) = self.waiting().front() {
                return told.clone();
            }
            self.rung.notified().await;
        }
    }

    /// All words that wait.
    #[cfg(any(test, feature = "harm"))]
    pub(super) fn all(&self) -> VecDeque<Told> {
        self.waiting().clone()
    }

    /// The broker has taken the first word, which was `told`.
    pub(super) fn told(&self, told: &Told) {
        let mut waiting = self.waiting();
        if waiting.front() == Some(told) {
            waiting.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_takes_what_ends_something_alone() {
        let outbox = Outbox::default();
        let key = |down| Told::Input(Input::Key { qnum: 30, down });
        while outbox.tell(key(true)) {}
        assert!(!outbox.tell(Told::Resize { width: 640, height: 480 }));
        assert!(outbox.tell(key(false)) && outbox.tell(Told::Ready { serial: 3 }));
        assert_eq!(outbox.waiting().len(), MOST + 2);
    }

    #[test]
    fn moves_that_nobody_has_taken_are_one() {
        let outbox = Outbox::default();
        for x in 0..5000 {
            assert!(outbox.tell(Told::Input(Input::Pointer { x, y: 1 })));
        }
        assert_eq!(outbox.waiting().len(), 1);
    }
}
