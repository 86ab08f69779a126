//! The data of a data domain: what arrives is checked, a day is published in one step, and its
//! servers give it to machines.
//!
//! One program, `nonstop-data`, of several short or long lives, each confined to what it does:
//! `nonstopd` starts those that read an arrived file or load it; `serve` keeps the servers running,
//! each in the network namespace of its data domain and under a user of its own.

pub mod capture;
pub mod check;
pub mod days;
pub mod generate;
mod lines;
pub mod packet;
pub mod pcap;
pub mod rdb;
pub mod say;
pub mod serve;
pub mod user;
pub mod web;
pub mod wire;

/// What is said to `nonstopd`; it stands where `nonstopd` can read it without what reads packets.
pub use nonstop_api::told;
