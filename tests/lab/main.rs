//! The product as its users and its attackers meet it.

mod arrival;
mod bad_input;
mod cards;
mod connect;
mod crashes;
mod data;
mod data_external;
mod data_servers;
mod displays;
mod editions;
mod firmware;
mod flood;
mod images;
mod isolation;
mod pair;
mod portal;
mod probe;
mod prove;
mod publication;
mod publication_rdb;
mod recordings;
mod refusals;
mod sessions;
mod snapshots;
mod sources;
