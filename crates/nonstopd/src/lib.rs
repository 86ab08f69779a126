//! The daemon: it alone opens the database and changes the host.
//!
//! A request commits what is wanted and wakes the reconciler; the reconciler brings the host to
//! it. `service` answers requests, `reconciler` runs passes, `desired` reads what is wanted, `prover`
//! holds the kernel against it, `canaries` try it out. `publisher` does the same for days of data as
//! the reconciler for machines.

pub mod caller;
pub mod canaries;
pub mod clock;
mod descriptors;
pub mod desired;
pub mod displays;
pub mod fetches;
pub mod fitting;
pub mod flows;
pub mod gateway;
pub mod heads;
pub mod injector;
pub mod login;
pub mod person;
pub mod prover;
pub mod publisher;
pub mod reconciler;
pub mod render;
pub mod samples;
pub mod screening;
pub mod sealing;
pub mod server;
pub mod service;
pub mod status;
pub mod sums;
pub mod templates;
pub mod transfers;
pub mod wanted;

use jiff::Timestamp;
use std::time::Duration;

/// Where the time comes from; tests bring their own.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// Lets `time` pass.
    fn pause(&self, time: Duration);

    /// What it says beside the wall clock, and whether it believes that.
    fn standing(&self) -> Standing {
        let now = self.now();
        Standing { trusted: now, wall: now, held: None }
    }

    /// Believes the wall clock from now on.
    fn confirm(&self) {}
}

/// How a clock stands to the host's wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The time that everything goes by.
    pub trusted: Timestamp,
    /// What the wall clock says.
    pub wall: Timestamp,
    /// Why the wall clock is not believed, and since when.
    pub held: Option<(clock::steady::Why, Timestamp)>,
}

impl Standing {
    /// By how much the wall clock is ahead of the time that is trusted.
    pub fn ahead(&self) -> jiff::SignedDuration {
        self.wall.duration_since(self.trusted)
    }
}

/// The host's clock.
#[derive(Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }
}
