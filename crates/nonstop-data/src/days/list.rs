//! `nonstop-data days`: the days that PostgreSQL has.

use super::{NotNow, Writer};
use crate::{
    say::Say,
    told::{Days, LoadedDay},
    wire::Row,
};
use std::{process::ExitCode, time::Duration};

/// Says the days that machines can ask for, as one line of JSON.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    writer: Writer,
}

/// The verb `days`.
pub fn run(args: &Args) -> ExitCode {
    match list(args) {
        Ok(days) => match serde_json::to_string(&days) {
            Ok(line) => {
                println!("{line}");
                ExitCode::SUCCESS
            }
            Err(e) => Say::new().failed(&format!("say the days: {e}")),
        },
        Err(e) => Say::new().failed(&format!("list the days: {e}")),
    }
}

fn list(args: &Args) -> Result<Days, NotNow> {
    let mut session = args.writer.connect(Some(Duration::from_secs(30)))?;
    let rows =
        session.ask("select day, rows, publication, sha256 from public.days order by day")?;
    let days = rows.iter().map(day);
    let days: Option<Vec<_>> = days.collect();
    days.map(|days| Days { days }).ok_or(NotNow("a day makes no sense".into()))
}

fn day(row: &Row) -> Option<LoadedDay> {
    let [Some(day), Some(rows), Some(publication), Some(sha256)] = &row[..] else { return None };
    Some(LoadedDay {
        day: day.parse().ok()?,
        rows: rows.parse().ok()?,
        publication: publication.parse().ok()?,
        sha256: sha256.clone(),
    })
}
