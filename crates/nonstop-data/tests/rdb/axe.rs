//! Servers, front and keeper killed at bad moments.

use crate::world::{World, eventually, postmaster};
use std::process::Command;

pub(crate) fn kill(signal: &str, pids: &[i32]) {
    assert!(!pids.is_empty(), "there is a process to kill");
    let pids = pids.iter().map(i32::to_string);
    let status = Command::new("kill").arg(signal).args(pids).status().expect("run kill");
    assert!(status.success());
}

#[test]
fn whichever_process_is_killed_machines_are_answered_again() {
    let mut world = World::running("{}");
    let alice = world.machine();
    assert_eq!(alice.ask("select 1"), "1");
    for part in ["reader", "writer"] {
        // In the middle of a query, which goes on when only the first process is gone.
        let mut busy = alice.session();
        busy.say("select count(*) from generate_series(1, 100000000000) n;");
        eventually(10, "a query", || !world.processes("SELECT").is_empty());
        let old = postmaster(&world, part);
        kill("-KILL", &old);
        eventually(30, "it is started again", || {
            let new = postmaster(&world, part);
            !new.is_empty() && new.iter().all(|pid| !old.contains(pid))
        });
        world.settle();
        eventually(30, "a machine is answered", || alice.ask("select 1") == "1");
    }
    let old = world.processes("rdb-front");
    kill("-KILL", &old);
    eventually(10, "the front is back", || alice.ask("select 1") == "1");
    // One connection's process: PostgreSQL starts all anew.
    let mut busy = alice.session();
    busy.say("select pg_sleep(100);");
    eventually(10, "a query", || !world.processes("SELECT").is_empty());
    kill("-KILL", &world.processes("SELECT"));
    eventually(30, "a machine is answered", || alice.ask("select 1") == "1");
}

#[test]
fn killed_with_all_it_holds_it_leaves_nothing_and_starts_again() {
    let mut world = World::running("{}");
    let alice = world.machine();
    for whom in ["rdb", "rdb-keep"] {
        let mut busy = alice.session();
        busy.say("select count(*) from generate_series(1, 100000000000) n;");
        eventually(10, "a query", || !world.processes("SELECT").is_empty());
        if whom == "rdb" {
            world.rdb().kill().unwrap();
        } else {
            kill("-KILL", &world.processes("rdb-keep"));
        }
        world.rdb().wait().unwrap();
        eventually(5, "nothing goes on", || world.processes("").is_empty());
        world.start();
        world.settle();
        eventually(30, "a machine is answered", || alice.ask("select 1") == "1");
    }
}

#[test]
fn it_ends_orderly_and_starts_without_recovery() {
    let mut world = World::running("{}");
    let alice = world.machine();
    assert_eq!(alice.ask("select 1"), "1");
    let pid = world.rdb().id() as i32;
    kill("-TERM", &[pid]);
    eventually(30, "it ends", || world.rdb().try_wait().unwrap().is_some());
    assert!(world.rdb().wait().unwrap().success(), "{}", world.log());
    assert_eq!(world.processes(""), [] as [i32; 0]);
    let before = world.log().len();
    world.start();
    world.settle();
    let log = world.log()[before..].to_string();
    assert!(!log.contains("was not properly shut down"), "{log}");
    assert_eq!(alice.ask("select 1"), "1");
}

#[test]
fn a_start_that_was_cut_off_is_begun_again() {
    let mut world = World::new("{}");
    // At every moment of the first start, as far as a test can choose them.
    for ms in [50, 200, 400, 700, 1000, 1300, 1700, 2200] {
        world.start();
        std::thread::sleep(std::time::Duration::from_millis(ms));
        world.rdb().kill().unwrap();
        world.rdb().wait().unwrap();
        eventually(5, "nothing goes on", || world.processes("").is_empty());
    }
    world.start();
    world.settle();
    let alice = world.machine();
    assert_eq!(alice.ask("select count(*) from packets"), "0");
}

#[test]
fn a_reader_that_was_away_too_long_or_is_lost_is_made_anew() {
    let mut world = World::running("{}");
    let alice = world.machine();
    assert_eq!(alice.ask("select 1"), "1");
    let folder = world.path("state/data").join(crate::world::DOMAIN).join("rdb/reader");
    kill("-KILL", &postmaster(&world, "reader"));
    std::fs::rename(&folder, folder.with_extension("lost")).unwrap();
    eventually(60, "a machine is answered by a new one", || alice.ask("select 1") == "1");
    // A reader that has its files, and a writer that no longer knows it.
    world.settle();
    kill("-STOP", &world.processes("rdb-keep"));
    kill("-KILL", &postmaster(&world, "reader"));
    eventually(10, "the writer forgets it", || {
        world.writer("select pg_drop_replication_slot('reader')");
        world.writer("select count(*) from pg_replication_slots") == "0"
    });
    kill("-CONT", &world.processes("rdb-keep"));
    world.settle();
    eventually(60, "a machine is answered", || alice.ask("select 1") == "1");
}
