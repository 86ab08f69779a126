//! Tests of one program run beside each other; what a test measures of the host that they share, it
//! measures alone: a machine's rate tells of its neighbour in the lab then, not of the next test.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
};

static HOST: Host = Host::new();

/// The host of one test program, and who runs on it.
#[derive(Debug)]
struct Host {
    tests: Mutex<Tests>,
    changed: Condvar,
}

#[derive(Debug)]
struct Tests {
    /// The test of each turn; a test with two labs stands here twice.
    running: Vec<ThreadId>,
    /// Tests that do nothing until they are alone.
    waiting: Vec<ThreadId>,
    alone: Option<ThreadId>,
}

/// A test runs. Ends when dropped.
#[derive(Debug)]
#[must_use = "the turn ends when it is dropped"]
pub struct Turn {
    host: &'static Host,
    test: ThreadId,
}

/// No other test runs, but those that wait for the same. Ends when dropped.
#[derive(Debug)]
#[must_use = "the test is alone until this is dropped"]
pub struct Alone {
    host: &'static Host,
}

impl Turn {
    /// Waits until no other test is alone, or waits to be. A test that has a turn gets more at once:
    /// whoever waits to be alone waits for that test's end.
    pub fn take() -> Turn {
        HOST.turn()
    }
}

impl Alone {
    /// Waits until every other test has ended, or waits for the same; none begins meanwhile.
    pub fn wait() -> Alone {
        HOST.alone()
    }
}

impl Host {
    const fn new() -> Host {
        let tests = Tests { running: Vec::new(), waiting: Vec::new(), alone: None };
        Host { tests: Mutex::new(tests), changed: Condvar::new() }
    }

    fn tests(&self) -> MutexGuard<'_, Tests> {
        self.tests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `may` holds.
    fn when(&self, may: impl Fn(&Tests) -> bool) -> MutexGuard<'_, Tests> {
        self.changed
            .wait_while(self.tests(), |tests| !may(tests))
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&'static self) -> Turn {
        let test = thread::current().id();
        let mut tests = self.when(|tests| {
            tests.running.contains(&test) || (tests.alone.is_none() && tests.waiting.is_empty())
        });
        tests.running.push(test);
        Turn { host: self, test }
    }

    fn alone(&'static self) -> Alone {
        let test = thread::current().id();
        self.tests().waiting.push(test);
        self.changed.notify_all();
        let mut tests = self.when(|tests| {
            let idle = |other: &ThreadId| *other == test || tests.waiting.contains(other);
            tests.alone.is_none() && tests.running.iter().all(idle)
        });
        tests.waiting.retain(|other| *other != test);
        tests.alone = Some(test);
        Alone { host: self }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut tests = self.host.tests();
        if let Some(at) = tests.running.iter().position(|test| *test == self.test) {
            tests.running.swap_remove(at);
        }
        self.host.changed.notify_all();
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.host.tests().alone = None;
        self.host.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{
            Barrier,
            atomic::{AtomicU32, Ordering},
            mpsc::{Receiver, RecvTimeoutError, channel},
        },
        time::Duration,
    };

    const BRIEFLY: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(10);

    /// A test of its own, which takes what `take` takes, says so, and keeps it until told.
    fn test<T>(take: impl FnOnce() -> T + Send + 'static) -> (Receiver<()>, impl FnOnce()) {
        let ((say, said), (tell, told)) = (channel(), channel());
        let thread = thread::spawn(move || {
            let _taken = take();
            say.send(()).expect("somebody listens");
            told.recv().expect("somebody tells");
        });
        let end = move || {
            tell.send(()).expect("it listens");
            thread.join().expect("it ends");
        };
        (said, end)
    }

    fn waits(said: &Receiver<()>) -> bool {
        said.recv_timeout(BRIEFLY) == Err(RecvTimeoutError::Timeout)
    }

    #[test]
    fn whoever_is_alone_waited_for_the_others_and_lets_none_begin() {
        static HOST: Host = Host::new();
        let (first, end_first) = test(|| HOST.turn());
        first.recv_timeout(LONG).expect("the first runs");
        let (alone, end_alone) = test(|| (HOST.turn(), HOST.alone()));
        assert!(waits(&alone), "alone beside the first");
        let (next, end_next) = test(|| HOST.turn());
        assert!(waits(&next), "began while another waits to be alone");
        end_first();
        alone.recv_timeout(LONG).expect("the first has ended");
        assert!(waits(&next), "began while another is alone");
        end_alone();
        next.recv_timeout(LONG).expect("nobody is alone any more");
        end_next();
    }

    #[test]
    fn a_test_that_runs_gets_another_turn_while_another_waits_to_be_alone() {
        static HOST: Host = Host::new();
        let (go, gone) = channel::<()>();
        let (twice, end_twice) = test(move || {
            let first = HOST.turn();
            gone.recv().expect("somebody tells");
            (first, HOST.turn())
        });
        while HOST.tests().running.is_empty() {
            thread::yield_now();
        }
        let (alone, end_alone) = test(|| HOST.alone());
        assert!(waits(&alone), "alone beside one that runs");
        go.send(()).expect("it listens");
        twice.recv_timeout(LONG).expect("its second lab");
        assert!(waits(&alone), "alone beside one that runs");
        end_twice();
        alone.recv_timeout(LONG).expect("both labs have ended");
        end_alone();
    }

    #[test]
    fn two_that_run_are_alone_one_after_the_other() {
        static HOST: Host = Host::new();
        static BEGUN: Barrier = Barrier::new(2);
        static ALONE: AtomicU32 = AtomicU32::new(0);
        let both = [(); 2].map(|()| {
            test(|| {
                let _turn = HOST.turn();
                BEGUN.wait();
                let _alone = HOST.alone();
                assert_eq!(ALONE.fetch_add(1, Ordering::Relaxed), 0, "two are alone at once");
                thread::sleep(BRIEFLY);
                ALONE.fetch_sub(1, Ordering::Relaxed);
            })
        });
        for (said, end) in both {
            said.recv_timeout(LONG).expect("it was alone");
            end();
        }
    }
}
