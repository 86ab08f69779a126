//! Network namespaces of a test's own, entered by threads: real nft, real bridges, real sockets
//! of any uid. Needs root.

use std::{
    fs::File,
    os::fd::AsFd,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A network namespace; gone when dropped.
pub(crate) struct Net {
    holder: Child,
}

impl Net {
    /// An empty one with its loopback up.
    pub(crate) fn new() -> Net {
        let holder = Command::new("unshare")
            .args(["--net", "--", "sleep", "900"])
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare runs");
        let net = Net { holder };
        let here = std::fs::read_link("/proc/thread-self/ns/net").expect("our namespace");
        let begun = Instant::now();
        while std::fs::read_link(net.path()).is_ok_and(|there| there == here) {
            assert!(begun.elapsed() < Duration::from_secs(5), "no namespace: is this root?");
            thread::sleep(Duration::from_millis(2));
        }
        net.sh("ip link set lo up");
        net
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// The number by which `ip link … netns` knows it.
    pub(crate) fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// Does `act` inside, as root.
    pub(crate) fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        self.inside_as(0, act)
    }

    /// Does `act` inside as `uid`: sockets that it opens are of that uid for as long as they live.
    pub(crate) fn inside_as<T: Send>(&self, uid: u32, act: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(self.path()).expect("the namespace is there");
        let run = move || {
            rustix::thread::move_into_link_name_space(namespace.as_fd(), None).expect("entered");
            if uid != 0 {
                rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(uid)).expect("uid set");
            }
            act()
        };
        thread::scope(|scope| scope.spawn(run).join().expect("no panic inside"))
    }

    /// Runs shell commands inside, which must succeed.
    pub(crate) fn sh(&self, script: &str) -> String {
        let output =
            self.inside(|| Command::new("sh").args(["-ec", script]).output().expect("sh runs"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{script}: {}{text}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}
