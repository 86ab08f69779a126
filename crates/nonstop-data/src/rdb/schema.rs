//! Tables, roles and rights, brought to what this version of the program wants.

use crate::{
    rdb::{DATABASE, KEEPER, cluster::SLOT},
    wire::{Session, WireError, quoted},
};
use std::{path::Path, time::Duration};

/// Steps forward; the number of a step is its place. None is ever changed once it was used.
const STEPS: &[&str] = &[include_str!("../../sql/001-packets.sql")];

/// What is said again at each start.
const RIGHTS: &str = include_str!("../../sql/rights.sql");

const PATIENCE: Duration = Duration::from_secs(30);

/// Makes the writer in `socket` hold what we want. Repeatable; each step is whole or not at all.
pub(crate) fn ensure(socket: &Path) -> Result<(), WireError> {
    let mut session = Session::open(socket, KEEPER, "postgres", Some(PATIENCE))?;
    let there = format!("select 1 from pg_database where datname = {}", quoted(DATABASE));
    if session.ask_one(&there)?.is_none() {
        session.ask(&format!("create database {DATABASE}"))?;
    }
    session.ask("revoke all on database postgres, template1 from public")?;
    let slot = format!("select 1 from pg_replication_slots where slot_name = {}", quoted(SLOT));
    if session.ask_one(&slot)?.is_none() {
        session
            .ask(&format!("select pg_create_physical_replication_slot({}, true)", quoted(SLOT)))?;
    }
    let mut session = Session::open(socket, KEEPER, DATABASE, Some(PATIENCE))?;
    session.ask(
        "create schema if not exists nonstop;
         create table if not exists nonstop.steps (step int primary key, at timestamptz default now())",
    )?;
    let done = session.ask_one("select coalesce(max(step), 0) from nonstop.steps")?;
    let done: usize = done.and_then(|n| n.parse().ok()).unwrap_or(0);
    for (n, step) in STEPS.iter().enumerate().skip(done) {
        let number = n + 1;
        // Several statements in one question are one transaction.
        session.ask(&format!("{step};\ninsert into nonstop.steps (step) values ({number})"))?;
    }
    session.ask(RIGHTS)?;
    Ok(())
}

/// Makes the role of the machines at `slot` exist on the writer. Repeatable.
pub(crate) fn ensure_role(session: &mut Session, slot: u32) -> Result<(), WireError> {
    let role = crate::rdb::role(slot);
    let there = format!("select 1 from pg_roles where rolname = {}", quoted(&role));
    if session.ask_one(&there)?.is_none() {
        session.ask(&format!("create role {role} login noinherit in role machine"))?;
    }
    Ok(())
}
