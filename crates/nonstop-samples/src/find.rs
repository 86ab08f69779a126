//! `nonstop-samples find`: answers one question over the published days of a data domain.

use crate::{
    child::{Become, IN_MEMORY, NotDone, READS, answer, asked, chain, confined, enter},
    days::Days,
    search::{SearchError, search_readable},
};
use nonstop_api::samples::{SamplePage, SampleQuery};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

/// Finds samples: a query as JSON on standard input, a page as JSON on standard output.
///
/// Run as root; it gives that up before it reads anything.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder of published days.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    #[command(flatten)]
    who: Become,
}

const MEMORY_BYTES: u64 = 2 << 30;
/// How long a search may take.
const TIME: Duration = Duration::from_secs(4);

/// Answers. Exit code 0 if there is a page.
pub fn run(args: &Args) -> ExitCode {
    answer(found(args))
}

fn found(args: &Args) -> Result<SamplePage, NotDone> {
    if !args.data.exists() {
        // Nothing was published yet.
        return Ok(SamplePage::default());
    }
    enter(&args.data).map_err(|e| format!("open {}: {e}", args.data.display()))?;
    confined(&args.who, MEMORY_BYTES, Some(20), &[IN_MEMORY, READS])
        .map_err(|e| format!("nonstop-samples was not let go of its rights: {e}"))?;
    let query: SampleQuery = asked(SampleQuery::LONGEST)?;
    let (days, mut wrong) =
        Days::new(Path::new("/"), false).all().map_err(|e| format!("list the days: {e}"))?;
    let page = search_readable(days, &query, TIME, &mut wrong).map_err(|e| match e {
        SearchError::Query(e) => NotDone::Refused(e.to_string()),
        e => NotDone::Failed(chain(&e)),
    })?;
    // A day that cannot be read is no reason to keep back what others have, and one to doubt that
    // there is nothing.
    match wrong.first().filter(|_| page.samples.is_empty()) {
        Some(e) => Err(chain(e).into()),
        None => Ok(page),
    }
}
