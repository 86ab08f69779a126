//! A channel that remains, measured: what one machine has read lies in the server's memory, and
//! another can see that. `ARCHITECTURE.md`, "Stated limits", says what this prints.

use crate::{
    loading::done,
    world::{World, eventually, postmaster},
};
use std::{fmt::Write as _, time::Instant};

/// Bits of one message: one page of the table each.
const BITS: u32 = 900;

#[test]
fn what_one_machine_has_read_is_seen_by_another_and_how_fast() {
    let mut world = World::running("{}");
    let (alice, bob) = (world.machine(), world.machine());
    let file = world.day(200_000, 1);
    assert_eq!(world.load(&file, "p1"), done(200_000));
    assert_eq!(world.swap("p1"), done(200_000));
    // As on a day that nobody has asked for lately.
    world.writer("checkpoint");
    world.reader("checkpoint");
    let old = postmaster(&world, "reader");
    crate::axe::kill("-KILL", &old);
    eventually(30, "a new reader", || {
        let new = postmaster(&world, "reader");
        !new.is_empty() && new.iter().all(|pid| !old.contains(pid))
    });
    world.settle();
    let pages = alice.ask("select relpages from pg_class where relname = 'd20300131_p1'");
    assert!(pages.parse::<u32>().expect("a number") > 2 * BITS, "{pages} pages");

    let message = |n: u32| n.wrapping_mul(2_654_435_761) >> 31 == 1;
    let page = |n: u32| format!("select count(*) from packets where ctid = '({},1)'", 2 * n);
    let since = Instant::now();
    let ones: Vec<String> = (0..BITS).filter(|n| message(*n)).map(page).collect();
    let sent = alice.ask(&ones.join(";"));
    assert!(!sent.contains("ERROR"), "{sent}");
    let mut questions = String::new();
    for n in 0..BITS {
        let _ = write!(questions, "explain (analyze, buffers, costs off, timing off) {};", page(n));
    }
    let seen = bob.ask(&questions);
    let took = since.elapsed();
    // One answer each, of several lines; a page that had to be read was not read by alice. Plans
    // tell of pages of the catalog too, in a part of their own.
    let answers: Vec<&str> = seen.split("Execution Time").collect();
    let read: Vec<bool> = answers[..BITS as usize]
        .iter()
        .map(|answer| {
            let plan = answer.find("Aggregate").map_or(*answer, |at| &answer[at..]);
            let plan = plan.split("Planning").next().unwrap_or(plan);
            !plan.contains("read=")
        })
        .collect();
    let right = read.iter().zip(0..).filter(|(bit, n)| **bit == message(*n)).count();
    let rate = f64::from(BITS) / took.as_secs_f64();
    println!("{right} of {BITS} bits arrived, {rate:.0} bits a second");
    assert!(right as u32 > BITS * 9 / 10, "{right} of {BITS} bits: the stated limit is gone");
}
