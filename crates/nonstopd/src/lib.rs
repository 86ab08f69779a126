//! The daemon: it alone opens the database and changes the host.
//!
//! A request commits what is wanted and wakes the reconciler; the reconciler brings the host to
//! it. `service` answers requests, `reconciler` runs passes, `desired` reads what is wanted, `prover`
//! holds the kernel against it, `canaries` try it out. `publisher` does the same for days of data as
//! the reconciler for machines.

pub mod caller;
pub mod canaries;
pub mod desired;
pub mod displays;
pub mod fetches;
pub mod gateway;
pub mod login;
pub mod person;
pub mod prover;
pub mod publisher;
pub mod reconciler;
pub mod render;
pub mod server;
pub mod service;
pub mod status;
pub mod sums;
pub mod templates;
pub mod wanted;

use jiff::Timestamp;
use std::time::Duration;

/// Where the time comes from; tests bring their own.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// Lets `time` pass.
    fn pause(&self, time: Duration);
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
