//! What is left to the processes that hold a file.

use crate::{
    lab::{TestLab, USER, shown},
    made::png,
};

/// A program that tries something, and finds `could` if that worked.
fn tries(what: &str) -> String {
    format!(
        "#!/bin/sh\nexec 2>/dev/null\nif {what}; then\n\
         echo '{{\"findings\": [{{\"rule\": \"could\", \"says\": \"it could\"}}]}}'\n\
         else echo '{{\"findings\": []}}'; fi\n"
    )
}

#[test]
fn a_program_of_the_lab_reaches_no_network_no_other_file_and_no_process() {
    let lab = TestLab::new();
    let secret = lab.write("secret", b"the lab's\n");
    let secret = secret.display();
    let here = std::process::id();
    for what in [
        &format!("cat {secret}"),
        "cat /etc/shadow || cat /etc/passwd",
        "ls /var/lib || ls /home || ls /root || ls /work || ls /sys/class",
        "grep -q : /proc/net/route && [ $(wc -l < /proc/net/route) -gt 1 ]",
        "[ $(wc -l < /proc/net/dev) -gt 3 ]",
        "python3 -c 'import socket; socket.socket()' || perl -MSocket -e 'socket(S, PF_INET, SOCK_STREAM, 0) or exit 1'",
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX)' || perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0) or exit 1'",
        "touch /run/programs/x || touch /usr/x || touch /x || touch /dev/x || touch /run/x",
        &format!("[ -e /proc/{here} ] || kill -0 {here}"),
        "unshare -U true || mount -t tmpfs none /tmp || chroot / true",
        "cp /bin/true /tmp/x && chmod +x /tmp/x && /tmp/x",
        "[ $(id -u) != 64103 ] || [ $(id -g) != 64103 ] || [ \"$(id -G)\" != 64103 ]",
        "grep -q 'CapEff:.*[1-9a-f]' /proc/self/status || ! grep -q 'NoNewPrivs:.*1' /proc/self/status",
        "echo x >&0 || echo x > /proc/self/fd/0",
        "dd if=/dev/zero of=/tmp/x bs=1M count=100",
        "[ \"$(ls -A /proc/self/fd | wc -l)\" -gt 5 ]",
    ] {
        lab.program("rules/programs/tries", &tries(what));
        let screened = lab.screen("a.txt", b"hello\n");
        let failures = &screened.failures;
        assert_eq!(shown(&screened), "pass as text: ", "{what}: {failures:?}");
    }
    // The same way of trying finds what is there.
    lab.program("rules/programs/tries", &tries("[ \"$(cat)\" = hello ] && touch /tmp/x"));
    let could = lab.screen("a.txt", b"hello\n");
    assert_eq!(shown(&could), "hold as text: program.tries.could hold");
    assert_eq!(USER, (64_103, 64_103));
}

#[test]
fn memory_and_processes_of_a_program_are_bounded() {
    // Its processes are counted by user: those of other tests are not to be missed.
    let lab = TestLab::new().change(|lab| lab.screening.memory_mib = 64).looked_at_by(64_104);
    lab.program("rules/programs/eats", &tries("head -c 200000000 /dev/zero | sort > /dev/null"));
    assert_eq!(lab.shown("a.txt", b"hello\n"), "pass as text: ");
    lab.program("rules/programs/eats", &tries("for i in $(seq 600); do sleep 2 & done; false"));
    let many = lab.screen("a.txt", b"hello\n");
    assert!(many.took < std::time::Duration::from_secs(20), "{:?}", many.took);
}

/// What /proc says of the confined processes that this one has started, while they look at a file
/// that takes them a while.
fn seen(verb: &str) -> (String, String, String, String) {
    let me = std::process::id().to_string();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(120);
    while std::time::Instant::now() < until {
        for process in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let path = process.path().display().to_string();
            let read = |file: &str| {
                let bytes = std::fs::read(format!("{path}/{file}")).unwrap_or_default();
                String::from_utf8_lossy(&bytes).into_owned()
            };
            let stat = read("stat");
            let parent =
                stat.rsplit(") ").next().unwrap_or_default().split(' ').nth(1) == Some(&me);
            if !parent || !read("cmdline").contains(&format!("nonstop-screen\0{verb}\0")) {
                continue;
            }
            let (status, limits, net) = (read("status"), read("limits"), read("net/dev"));
            let fds = std::fs::read_dir(format!("{path}/fd")).into_iter().flatten().flatten();
            let fds: Vec<_> = fds.map(|fd| fd.file_name().to_string_lossy().into_owned()).collect();
            // Both filters, where there are threads: the second is the last thing that is given up.
            let confined = status.contains("Seccomp:\t2") && status.contains("Uid:\t64103");
            if confined && !net.is_empty() && !limits.is_empty() {
                return (status, limits, net, fds.join(" "));
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    panic!("no confined child");
}

#[test]
fn what_measures_and_what_applies_rules_has_given_up_everything_but_the_file() {
    let lab = TestLab::new().change(|lab| lab.screening.seconds = 300);
    lab.write(
        "rules/a.yar",
        b"rule slow { strings: $a = /[a-z]+[0-9]{2}[^x]{3,9}y/ condition: #a > 9 }",
    );
    let file = lab.write("large", &vec![b'a'; 600 << 20]);
    let screener = lab.screener();
    let fd = crate::lab::open(&file);
    let screening = std::thread::spawn(move || {
        use nonstopd::screening::Screener;
        screener.screen(fd, &crate::lab::about("a.txt"))
    });
    for verb in ["measure", "rules"] {
        let (status, limits, net, fds) = seen(verb);
        for fact in [
            "Uid:\t64103\t64103\t64103\t64103",
            "Gid:\t64103\t64103\t64103\t64103",
            "Groups:\t \n",
            "CapPrm:\t0000000000000000",
            "CapEff:\t0000000000000000",
            "NoNewPrivs:\t1",
        ] {
            assert!(status.contains(fact), "{verb}: {fact:?} is not in {status}");
        }
        assert_eq!(net.lines().count(), 3, "{verb}: loopback alone: {net}");
        let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
        assert_eq!(line.split_whitespace().nth(3), Some("3"), "{verb}");
        let mut fds: Vec<_> = fds.split(' ').collect();
        fds.sort_unstable();
        assert!(fds.iter().all(|fd| ["", "0", "1", "2"].contains(fd)), "{verb}: {fds:?}");
    }
    let screened = screening.join().expect("screened");
    assert!(screened.failures.is_empty(), "{:?}", screened.failures);
}

#[test]
fn a_small_file_is_screened_in_a_moment() {
    let lab = TestLab::new();
    let took = lab.screen("a.png", &png(100, 100)).took;
    assert!(took < std::time::Duration::from_secs(20), "{took:?}");
}
