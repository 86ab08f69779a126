//! What the daemon answers to people, over the real store and a simulated host.

mod cards;
mod exports;
mod injections;
mod lab;
