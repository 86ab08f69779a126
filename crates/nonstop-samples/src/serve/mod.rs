//! Samples and reports over HTTP/1.1: `nonstop-samples serve`, as `nonstop-data serve` starts it in the
//! network of its data domain.
//!
//! ```text
//! GET / HEAD  /  /search?q=           a search: a page, or JSON by Accept
//!             /samples/HASH           what is known of a sample; HASH.json the same for programs
//!             /samples/HASH/plain     its bytes, with ranges and conditions
//!             /samples/HASH/zip       the same in a zip with the password `infected`
//!             /reports/HASH           its reports
//!             /reports/HASH/DAY[/RUN] one of them as it came
//! ```
//!
//! A begin of a hash of at least 8 digits leads to the sample that alone begins so. Which of it a server
//! has is for the lab's file to say: `reports` has reports and no bytes, `samples` has bytes and no
//! reports, and one that says `bytes: false` has neither. A server that gives no bytes runs as a user
//! who cannot read them.

mod answer;
mod open;
mod page;

use crate::{
    child::{Become, IN_MEMORY, READS, confined_with_threads, enter},
    days::Days,
};
use answer::{Gives, Site};
use anyhow::{Context, Result, bail};
use nonstop_confine::{TCP, THREADS, refuse_clone3};
use nonstop_data::{
    user::User,
    web::{self, Door, Shared},
};
use nonstop_model::{Lab, Resource};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Gives samples or reports of a data domain to machines; started by `nonstop-data serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The lab's file.
    #[arg(long)]
    lab: PathBuf,
    /// The data domain.
    #[arg(long)]
    domain: String,
    /// The server's name in it.
    #[arg(long)]
    server: String,
}

const DOOR: Door = Door { seats: (16, 256), stack: 1 << 20 };
const MEMORY_BYTES: u64 = 4 << 30;

/// Serves until it is killed.
pub fn run(args: &Args) -> ExitCode {
    web::run(|| serve(args))
}

fn serve(args: &Args) -> Result<()> {
    let lab = Lab::load(&args.lab)?;
    let (name, server) = (&args.domain, &args.server);
    let at = web::place(&lab, name)?.servers.get(server);
    let at = at.with_context(|| format!("data domain {name} has no server {server}"))?;
    let gives = match at.resource(server) {
        Some(Resource::Samples) if at.bytes => Gives::Samples,
        Some(Resource::Samples) => Gives::Words,
        Some(Resource::Reports) => Gives::Reports,
        _ => bail!("{name}/{server} is of another resource"),
    };
    let (listener, host) = web::listen(name, server, at)?;
    let reader = User::named("nonstop-data")?;
    let published = web::published(&lab.data(name), "samples", reader.gid)?;
    let who = match gives {
        Gives::Samples => {
            let keeper = User::named("nonstop-samples")?;
            Become { uid: keeper.uid, gid: keeper.gid, groups: vec![reader.gid] }
        }
        Gives::Words | Gives::Reports => {
            Become { uid: reader.uid, gid: reader.gid, groups: vec![] }
        }
    };
    let days = Days::new(Path::new("/"), gives == Gives::Samples);
    let site = Site { days, gives, domain: name.clone(), host };
    let shared = Shared::new(name, server, site)?;
    enter(&published).with_context(|| format!("open {}", published.display()))?;
    refuse_clone3()?;
    confined_with_threads(&who, MEMORY_BYTES, &[IN_MEMORY, READS, THREADS, TCP])?;
    web::quiet_panics();
    DOOR.open(&listener, shared)
}
