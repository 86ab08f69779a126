//! Clients that people use, each the real one, on both programs before the daemon's real core. Needs
//! root, and the clients.

mod habits;
#[path = "../dav/http.rs"]
mod http;
mod lab;
mod programs;
mod secrets;
