//! Stages with their times, on stderr.

use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// What was done so far and how long each took.
pub(crate) struct Stages {
    start: Instant,
    done: Vec<(String, Duration)>,
}

impl Stages {
    pub(crate) fn new() -> Stages {
        Stages { start: Instant::now(), done: Vec::new() }
    }

    /// Does `act`, which is called `name`, and says when it begins.
    pub(crate) fn stage<T>(&mut self, name: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        eprintln!("==> {name}");
        let done = act().with_context(|| name.to_owned())?;
        self.note(name, start.elapsed());
        Ok(done)
    }

    /// Notes a stage that was timed elsewhere.
    pub(crate) fn note(&mut self, name: &str, took: Duration) {
        self.done.push((name.into(), took));
    }

    /// Prints all stages with their times.
    pub(crate) fn print(&self) {
        for (name, took) in &self.done {
            eprintln!("    {:7.1} s  {name}", took.as_secs_f64());
        }
        eprintln!("    {:7.1} s  in all", self.start.elapsed().as_secs_f64());
    }
}
