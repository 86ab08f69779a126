//! What the servers of this lab's own that speak HTTP with machines share: the door, the conversation,
//! what is told of it to staff and to `nonstopd`. What one gives, and in which words, is its own
//! ([`Site`]).
//!
//! A thread a connection: each waits for its own client and for nobody else, and the number of seats is
//! bounded ([`nonstop_http::Seats`]). What a server tells goes to descriptors that it was given: one line
//! for each fetch to standard output, requests and errors to standard error.

mod answer;
mod door;
mod fetches;
mod language;
mod log;
mod talk;

pub use answer::{Answer, Site, Source};
pub use door::{Door, listen, place, published, quiet_panics, run};
pub use language::Language;
pub use talk::Shared;
