//! What viewers typed and QEMU has not taken yet: a bounded queue that never loses a release.

use nonstop_display::link::{Button, Input};
use std::collections::{BTreeSet, VecDeque};

/// Events that wait. A release may go past it: there is at most one for each key that is down.
const MOST: usize = 256;

/// A key or a button.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Held {
    Key(u8),
    Button(Button),
}

/// The queue, and what is down at its end.
#[derive(Debug, Default)]
pub struct Typing {
    waiting: VecDeque<Input>,
    held: BTreeSet<Held>,
}

impl Typing {
    /// Nothing waits, nothing is down.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `input`. The pointer's moves are merged; of a full queue moves are dropped first, then
    /// what is pressed; a release never, unless its press never came. A notch of the wheel becomes
    /// a press and a release.
    pub fn push(&mut self, input: Input) {
        match input {
            Input::Pointer { .. } => {
                if let Some(last @ Input::Pointer { .. }) = self.waiting.back_mut() {
                    *last = input;
                } else if self.waiting.len() < MOST {
                    self.waiting.push_back(input);
                }
            }
            Input::Button { button: button @ (Button::WheelUp | Button::WheelDown), down } => {
                if down && self.room() {
                    self.waiting.push_back(input);
                    self.waiting.push_back(Input::Button { button, down: false });
                }
            }
            Input::Key { qnum, down } => self.press(Held::Key(qnum), down, input),
            Input::Button { button, down } => self.press(Held::Button(button), down, input),
        }
    }

    /// The next for QEMU.
    #[expect(clippy::should_implement_trait, reason = "what it gives may borrow or fail")]
    pub fn next(&mut self) -> Option<Input> {
        self.waiting.pop_front()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Releases whatever is down: whoever held it is gone.
    pub fn release_all(&mut self) {
        for held in std::mem::take(&mut self.held) {
            self.waiting.push_back(match held {
                Held::Key(qnum) => Input::Key { qnum, down: false },
                Held::Button(button) => Input::Button { button, down: false },
            });
        }
    }

    fn press(&mut self, held: Held, down: bool, input: Input) {
        if !down {
            if self.held.remove(&held) {
                self.waiting.push_back(input);
            }
        } else if self.room() {
            // A key that is down already repeats.
            self.held.insert(held);
            self.waiting.push_back(input);
        }
    }

    /// Makes room by dropping the oldest move. False if there is none.
    fn room(&mut self) -> bool {
        if self.waiting.len() < MOST {
            return true;
        }
        let a_move = self.waiting.iter().position(|i| matches!(i, Input::Pointer { .. }));
        a_move.is_some_and(|at| self.waiting.remove(at).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn input() -> impl Strategy<Value = Input> {
        prop_oneof![
            (any::<u8>(), any::<bool>()).prop_map(|(qnum, down)| Input::Key { qnum, down }),
            (0usize..7, any::<bool>()).prop_map(|(at, down)| {
                use Button::{Extra, Left, Middle, Right, Side, WheelDown, WheelUp};
                let all = [Left, Middle, Right, Side, Extra, WheelUp, WheelDown];
                Input::Button { button: all[at], down }
            }),
            (0u16..4096, 0u16..4096).prop_map(|(x, y)| Input::Pointer { x, y }),
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_typed_nothing_stays_down_and_the_queue_is_bounded(
            inputs in proptest::collection::vec(input(), 0..2000), take in 0usize..100
        ) {
            let mut typing = Typing::new();
            let mut down = BTreeSet::new();
            let mut see = |input: Input| match input {
                Input::Key { qnum, down: true } => { down.insert((qnum as usize, 0)); }
                Input::Key { qnum, down: false } => { down.remove(&(qnum as usize, 0)); }
                Input::Button { button, down: true } => { down.insert((button as usize, 1)); }
                Input::Button { button, down: false } => { down.remove(&(button as usize, 1)); }
                Input::Pointer { .. } => {}
            };
            for (at, input) in inputs.into_iter().enumerate() {
                typing.push(input);
                prop_assert!(typing.waiting.len() <= MOST + 256 + 8);
                if at % 100 < take {
                    typing.next().into_iter().for_each(&mut see);
                }
            }
            typing.release_all();
            while let Some(input) = typing.next() {
                see(input);
            }
            prop_assert!(down.is_empty());
        }
    }

    #[test]
    fn moves_in_a_row_are_one() {
        let mut typing = Typing::new();
        for x in 0..1000 {
            typing.push(Input::Pointer { x, y: 1 });
        }
        assert_eq!(typing.next(), Some(Input::Pointer { x: 999, y: 1 }));
        assert!(typing.is_empty());
    }
}
