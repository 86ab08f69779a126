//! `nonstop-data swap` and `drop`: what machines see changes, in one transaction.

use super::{
    NotNow, Writer, await_reader,
    part::{Part, detach},
};
use crate::{
    say::Say,
    told::Told,
    wire::{Session, quoted},
};
use jiff::civil::Date;
use nonstop_model::PublicationId;
use std::{process::ExitCode, time::Duration};

/// Makes what `load` put beside a day that day, in place of what it was. Repeatable.
///
/// Done once machines see it. A power cut leaves the old day or the new one.
#[derive(Debug, clap::Args)]
pub struct SwapArgs {
    /// The data domain, for messages.
    #[arg(long)]
    pub domain: String,
    /// The day.
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub day: Date,
    /// The publication that was loaded.
    #[arg(long)]
    pub publication: PublicationId,
    #[command(flatten)]
    writer: Writer,
}

/// Removes a day, and what was put beside it. Repeatable.
#[derive(Debug, clap::Args)]
pub struct DropArgs {
    /// The day.
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub day: Date,
    #[command(flatten)]
    writer: Writer,
}

/// The longest time for one answer: another's lock is waited for less long.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(120));

/// The verb `swap`.
pub fn swap(args: &SwapArgs) -> ExitCode {
    let swapped = args.writer.connect(PATIENCE).and_then(|mut session| {
        let rows = swap_in(&mut session, args)?;
        await_reader(&mut session)?;
        Ok(rows)
    });
    let say = Say::new();
    match swapped {
        Ok(rows) => say.last(&Told::Done { rows }),
        Err(e) => say.failed(&format!("swap in {} of {}: {e}", args.day, args.domain)),
    }
}

fn swap_in(session: &mut Session, args: &SwapArgs) -> Result<u64, NotNow> {
    let part = Part { day: args.day, publication: args.publication };
    let (name, day) = (quoted(&part.name()), quoted(&args.day.to_string()));
    session.ask("begin; set local lock_timeout = '30s'")?;
    let there = session.ask(&format!("select part, rows from public.days where day = {day}"))?;
    let old = match there.first().map(|row| &row[..]) {
        Some([Some(old), Some(rows)]) if *old == part.name() && !is_staged(session, &name)? => {
            session.ask("commit")?;
            return Ok(rows.parse().unwrap_or(0));
        }
        Some([Some(old), _]) => Some(old),
        _ => None,
    };
    let staged = session
        .ask(&format!("select day_from, day_until, rows from parts.staged where part = {name}"))?;
    let [Some(from), Some(until), Some(rows)] = staged.first().map_or(&[][..], |row| &row[..])
    else {
        return Err(NotNow(format!("{} was not loaded, or is lost: load it", args.publication)));
    };
    if let Some(old) = old {
        session.ask(&detach(old))?;
    }
    session.ask(&part.attach(from, until))?;
    session.ask(&format!(
        "delete from public.days where day = {day};
         insert into public.days
             (day, begins, ends, rows, first, last, publication, sha256, part)
             select day, day_from, day_until, rows, first, last, publication, sha256, part
             from parts.staged where part = {name};
         delete from parts.staged where part = {name};
         commit"
    ))?;
    Ok(rows.parse().unwrap_or(0))
}

fn is_staged(session: &mut Session, name: &str) -> Result<bool, NotNow> {
    let sql = format!("select 1 from parts.staged where part = {name}");
    Ok(session.ask_one(&sql)?.is_some())
}

/// The verb `drop`.
pub fn drop_day(args: &DropArgs) -> ExitCode {
    let dropped = args.writer.connect(PATIENCE).and_then(|mut session| {
        drop_out(&mut session, args.day)?;
        await_reader(&mut session)
    });
    let say = Say::new();
    match dropped {
        Ok(()) => say.last(&Told::Done { rows: 0 }),
        Err(e) => say.failed(&format!("drop {}: {e}", args.day)),
    }
}

fn drop_out(session: &mut Session, day: Date) -> Result<(), NotNow> {
    let day = quoted(&day.to_string());
    session.ask("begin; set local lock_timeout = '30s'")?;
    for row in session.ask(&format!("select part from public.days where day = {day}"))? {
        if let [Some(part)] = &row[..] {
            session.ask(&detach(part))?;
        }
    }
    for row in session.ask(&format!("select part from parts.staged where day = {day}"))? {
        if let [Some(part)] = &row[..] {
            session.ask(&format!("drop table parts.{part}"))?;
        }
    }
    session.ask(&format!(
        "delete from public.days where day = {day}; delete from parts.staged where day = {day};
         commit"
    ))?;
    Ok(())
}
