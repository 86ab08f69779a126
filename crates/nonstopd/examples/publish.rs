//! The daemon's publisher alone, with the real programs, folders and database: publishes files that lie
//! in the inbox, one after the other, and says in a line of JSON each how long it took. What
//! `cargo xtask bench samples` measures, and how it makes its days. Needs root.
//!
//! A file is taken at once, as when somebody asks for it, instead of after it has settled.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use nonstop_model::Lab;
use nonstop_store::Db;
use nonstopd::{
    Clock, SystemClock,
    publisher::{Hand, PATIENCE, Programs, Publisher, Readers, Steady},
};
use std::{path::PathBuf, sync::Arc, time::Instant};

#[derive(Parser)]
struct Args {
    /// The lab's file.
    #[arg(long)]
    lab: PathBuf,
    /// The data domain.
    #[arg(long)]
    domain: String,
    /// User and group that files are read as.
    #[arg(long)]
    data: u32,
    /// The group that may read samples.
    #[arg(long)]
    samples: u32,
    /// Names of files in the inbox; none only makes the folders.
    files: Vec<String>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let lab = Lab::load(&args.lab)?;
    let (clock, domain): (Arc<dyn Clock>, _) = (Arc::new(SystemClock), &args.domain);
    let db = Arc::new(Db::open(&lab.database(), clock.now()).context("open the database")?);
    let programs = Programs {
        program: lab.programs.join("nonstop-data"),
        samples: lab.programs.join("nonstop-samples"),
        run: lab.run.join("data"),
        reader: (args.data, args.data),
        patience: PATIENCE,
    };
    let hand: Arc<dyn Hand> = Arc::new(Steady);
    let readers = Readers { data: Some(args.data), samples: Some(args.samples) };
    let publisher =
        Publisher::new(&lab, readers, &hand, Arc::new(programs), Arc::clone(&db), clock);
    publisher.begin_work(domain);
    for file in &args.files {
        let begun = Instant::now();
        let id = publisher.begin(domain, file, "bench")?;
        publisher.work(domain);
        let took = begun.elapsed();
        let publication = db.read(|read| read.publication(id))?.context("it has no row")?;
        let state = &publication.state;
        let trouble = publisher.trouble(id);
        ensure!(state.word() == "published", "{file} is {state:?}; {trouble:?}");
        println!("{}", serde_json::json!({ "file": file, "seconds": took.as_secs_f64() }));
    }
    Ok(())
}
