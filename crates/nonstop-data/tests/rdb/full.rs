//! A disk that is full, by a load, by queries, by somebody else.

use crate::{
    loading::done,
    world::{World, eventually, told},
};
use std::{fs, process::Stdio};

impl World {
    /// One that runs on a disk of its own, of 800 MiB.
    fn on_a_small_disk(limits: &str) -> World {
        let mut world = World::new(limits);
        let state = world.path("state");
        fs::create_dir(&state).expect("a folder");
        let mut mount = world.inside();
        mount.args(["mount", "-t", "tmpfs", "-o", "size=800m,mode=0755", "tmpfs"]).arg(&state);
        assert!(mount.status().expect("mount").success());
        world.start();
        world.settle();
        world
    }
}

#[test]
fn queries_that_fill_the_disk_are_ended_before_it_is_full() {
    let mut world = World::on_a_small_disk("{ temporary_mib: 4096 }");
    let (alice, bob) = (world.machine(), world.machine());
    let mut least = u64::MAX;
    let mut sorting = alice.session();
    sorting.say(
        "select count(*) from (select n from generate_series(1, 300000000) n order by n desc \
         offset 1) x;",
    );
    eventually(60, "the query is ended", || {
        least = least.min(free_mib(&world));
        world.reader("select count(*) from pg_stat_activity where usename like 'machine%' and state = 'active'") == "0"
            && least < 300
    });
    assert!(least > 50, "{least} MiB were left");
    assert!(sorting.end().contains("canceling statement"));
    assert_eq!(bob.ask("select 1"), "1");
    eventually(10, "its room is free again", || free_mib(&world) > 300);
}

#[test]
fn a_full_disk_refuses_the_day_and_postgresql_goes_on() {
    let mut world = World::on_a_small_disk("{}");
    let state = world.path("state");
    let alice = world.machine();
    let file = world.day(1_000_000, 1);
    let small = world.day(1000, 2);
    world.load(&small, "p1");
    assert_eq!(world.swap("p1"), done(1000));
    let filler = |mib: u64| {
        let mut command = world.inside();
        command.args(["fallocate", "-l", &format!("{mib}M")]).arg(state.join("filler"));
        command.status().expect("fallocate")
    };
    // PostgreSQL's log grows and shrinks meanwhile: what is left is measured anew each time.
    let leave = |left: u64, filled: u64| {
        let mut size = filled;
        eventually(30, "somebody else fills the disk", || {
            size = filled + free_mib(&world).saturating_sub(left);
            filler(size).success()
        });
        size
    };
    // Nearly full, and then full: refused with the reason, before PostgreSQL is harmed.
    let filled = leave(300, 0);
    let told = world.load(&file, "p2");
    assert!(told.contains("failed") && told.contains("MiB free"), "{told}");
    let filled = leave(20, filled);
    let told = world.load(&small, "p2");
    assert!(told.contains("failed") && told.contains("MiB free"), "{told}");
    assert_eq!(alice.ask("select count(*) from packets"), "1000");
    // Somebody else fills it to the last block.
    let _ = filler(filled + 400);
    let mut dd = world.inside();
    let out = format!("of={}", state.join("filler2").display());
    let _ = dd.args(["dd", "if=/dev/zero", &out, "bs=64k"]).stderr(Stdio::null()).status();
    world.writer("create table full_disk as select generate_series(1, 3000000)");
    assert!(world.load(&file, "p2").contains("failed"));
    for name in ["filler", "filler2"] {
        let mut rm = world.inside();
        assert!(rm.args(["rm", "-f"]).arg(state.join(name)).status().expect("rm").success());
    }
    world.settle();
    world.writer("drop table if exists full_disk");
    eventually(60, "machines are answered", || alice.ask("select count(*) from packets") == "1000");
    let small_again = world.load(&small, "p3");
    assert_eq!(small_again, done(1000));
    eventually(60, "it is swapped in", || world.swap("p3") == done(1000));
    let left = world.writer("select count(*) from pg_class where relname like 'd2030%p2'");
    assert_eq!(left, "0");
}

fn free_mib(world: &World) -> u64 {
    let output = world
        .inside()
        .args(["df", "--output=avail", "-m"])
        .arg(world.path("state"))
        .output()
        .expect("df");
    told(&output).lines().last().expect("a number").trim().parse().expect("a number")
}
