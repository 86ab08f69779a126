//! The pages, one module a noun.

pub(crate) mod about;
pub(crate) mod accounts;
pub(crate) mod cards;
pub(crate) mod data;
pub(crate) mod displays;
pub(crate) mod environments;
pub(crate) mod exports;
pub(crate) mod home;
pub(crate) mod injections;
pub(crate) mod language;
pub(crate) mod reach;
pub(crate) mod recordings;
pub(crate) mod requests;
pub(crate) mod samples;
pub(crate) mod sessions;
pub(crate) mod snapshots;
pub(crate) mod trace;
pub(crate) mod transfers;
