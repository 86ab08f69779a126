//! The portal: pages for researchers and staff, made on the server, without scripts.
//!
//! It runs as a user without rights. It listens on one loopback address for each account
//! ([`keep_listening`]), where the kernel lets only that account's tunnels connect, and hands
//! the accepted connection to `nonstopd` with every question: so the daemon, not the portal,
//! finds out who is asking. What a foreign page could do with that connection through the
//! person's browser is refused in one place, the guard.
//!
//! A handler takes proof of role, asks `nonstopd`, and shows the answer or redirects.

mod app;
mod desktop;
mod error;
mod form;
mod guard;
mod injected;
mod lang;
mod listen;
mod page;
mod person;
mod playback;
mod preview;
mod record;
mod routes;
mod texts;
mod token;
mod transfer;

pub use app::App;
pub use listen::keep_listening;
