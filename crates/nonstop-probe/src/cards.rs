//! The cards that send. One frame of each is under way at a time: a frame is one write here and one
//! read in the canary, and two writes at once could be one read.

use crate::{gun::Gun, marker::Marker};
use anyhow::{Context, Result};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

/// A canary and its card, by their numbers in the order.
pub type At = (usize, usize);

/// A card that does not send a frame within this time will not.
pub const SENDING: Duration = Duration::from_secs(3);

/// The cards that send.
#[derive(Debug, Default)]
pub struct Cards {
    cards: BTreeMap<At, Card>,
    /// By the tap behind which each is.
    taps: BTreeMap<String, At>,
}

#[derive(Debug)]
struct Card {
    gun: Gun,
    /// The frame that was handed over and not yet seen on the tap, and since when.
    under_way: Option<(Marker, Instant)>,
    waiting: VecDeque<(Marker, Vec<u8>)>,
}

impl Cards {
    /// Adds the card at `at`, which sends by `gun` and is seen at `tap`.
    pub fn add(&mut self, at: At, tap: &str, gun: Gun) {
        self.cards.insert(at, Card { gun, under_way: None, waiting: VecDeque::new() });
        self.taps.insert(tap.into(), at);
    }

    /// The card behind `tap`.
    pub fn behind(&self, tap: &str) -> Option<At> {
        self.taps.get(tap).copied()
    }

    /// The taps behind which they are.
    pub fn taps(&self) -> BTreeSet<String> {
        self.taps.keys().cloned().collect()
    }

    /// All of them.
    pub fn all(&self) -> Vec<At> {
        self.cards.keys().copied().collect()
    }

    /// Sends `frame`, which bears `marker`, once those before it have left.
    ///
    /// Errors: there is no such card, or its gun is broken.
    pub fn send(&mut self, at: At, marker: Marker, frame: Vec<u8>) -> Result<()> {
        let card = self.cards.get_mut(&at).context("a card without a way to it")?;
        card.waiting.push_back((marker, frame));
        if card.under_way.is_some_and(|(_, since)| since.elapsed() < SENDING) {
            return Ok(());
        }
        card.next()
    }

    /// Something with `marker` was seen leaving the card at `at`.
    pub fn left(&mut self, at: At, marker: Marker) -> Result<()> {
        match self.cards.get_mut(&at) {
            Some(card) if card.under_way.is_some_and(|(sent, _)| sent == marker) => card.next(),
            _ => Ok(()),
        }
    }
}

impl Card {
    fn next(&mut self) -> Result<()> {
        self.under_way = None;
        if let Some((marker, frame)) = self.waiting.pop_front() {
            self.gun.send(&frame)?;
            self.under_way = Some((marker, Instant::now()));
        }
        Ok(())
    }
}
