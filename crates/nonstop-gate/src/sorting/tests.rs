use super::*;

const KEY: &str = "SHA256:RONkWasqQZIbLsFH2SPpztv3RH+KZZ0SaYIsspPH1LM";

struct Ear(Sorting, Instant);

impl Ear {
    fn new() -> Ear {
        Ear(Sorting::default(), Instant::now())
    }

    /// Root's process `pid` says `messages` after its connection has come.
    fn says(&mut self, pid: u32, messages: &[&str]) -> &mut Ear {
        self.0.hear(pid, 0, "Connection from 198.51.100.7 port 5 on 192.0.2.1 port 22", self.1);
        for message in messages {
            self.0.hear(pid, 0, message, self.1);
        }
        self
    }

    fn refused(&mut self) -> Vec<(RefusedFor, Option<String>, Option<String>)> {
        let told = self.0.take(1000, self.1).into_iter();
        let refused = told.filter_map(|heard| match heard {
            Heard::Refused(r) => {
                assert_eq!(r.source, Some(Ipv4Addr::new(198, 51, 100, 7)), "{r:?}");
                Some((r.why, r.user, r.key))
            }
            _ => None,
        });
        refused.collect()
    }
}

#[test]
fn each_login_that_fails_is_told_once_with_the_reason_that_tells_most() {
    let failed = format!("Failed publickey for alice from 198.51.100.7 port 5 ssh2: ED25519 {KEY}");
    let closed = "Connection closed by authenticating user alice 198.51.100.7 port 5 [preauth]";
    let expired = "debug1: a.c:auth_authorise_keyopts():69 (bin=x, pid=1): k:2: entry expired at 2";
    let source = "a.c:auth_authorise_keyopts():1 (bin=x, pid=1): k:2: Authentication tried for a";
    let too_many = "maximum authentication attempts exceeded for alice from x [preauth]";
    let invalid = "Invalid user bob from 198.51.100.7 port 5";
    let mut ear = Ear::new();
    let alice = || Some("alice".to_string());
    let key = || Some(KEY.to_string());
    for (messages, expected) in [
        (vec![failed.as_str(), closed, closed], (RefusedFor::UnknownKey, alice(), key())),
        (vec![expired, &failed, too_many, closed], (RefusedFor::Expired, alice(), key())),
        (vec![source, &failed, closed], (RefusedFor::Source, alice(), key())),
        (vec![&failed, &failed, too_many, closed], (RefusedFor::TooManyTries, alice(), key())),
        (vec![invalid, too_many, closed], (RefusedFor::UnknownAccount, Some("bob".into()), None)),
        (vec!["Connection reset by 198.51.100.7 port 5"], (RefusedFor::NoKey, None, None)),
        (
            vec!["Unable to negotiate with x: no [preauth]", "Connection closed by x"],
            (RefusedFor::NoAlgorithms, None, None),
        ),
    ] {
        assert_eq!(ear.says(9, &messages).refused(), [expected], "{messages:?}");
    }
}

#[test]
fn a_login_that_succeeds_with_its_second_key_is_no_failure() {
    let failed = format!("Failed publickey for alice from 198.51.100.7 port 5 ssh2: ED25519 {KEY}");
    let mut ear = Ear::new();
    let version = "debug1: k.c:kex_exchange_identification():1 (bin=x, pid=9): Remote protocol version 2.0, remote software version OpenSSH_9";
    let accepted = format!("Accepted publickey for alice from x port 5 ssh2: ED25519 {KEY}");
    ear.says(9, &[version, &failed, &accepted, "User child is on pid 10"]);
    assert_eq!(ear.0.take(10, ear.1), [Heard::Client { pid: 9, client: "OpenSSH_9".into() }]);
    let denied =
        "Received request from x to connect to host 127.0.0.1 port 22, but the request was denied.";
    ear.0.hear(10, 70_001, denied, ear.1);
    ear.0.hear(10, 70_001, denied, ear.1);
    ear.0.hear(10, 70_001, "Received disconnect from x port 5:11: disconnected by user", ear.1);
    let target = "127.0.0.1:22".to_string();
    assert_eq!(
        ear.0.take(10, ear.1),
        [
            Heard::Ended { pid: 9, how: nonstop_api::heard::EndedBy::Client },
            Heard::Denied { child: 10, pid: Some(9), count: 2, what: Wanted::Forward, target },
        ]
    );
}

/// sshd's own process says whose a session's is a moment after it has begun, and on a host under load
/// later than what that one says.
#[test]
fn what_a_process_was_denied_before_root_said_whose_it_is_is_told_of_its_session() {
    let mut ear = Ear::new();
    let tunnel = "debug1: serverloop.c:server_input_channel_open():1 (bin=x, pid=10): failure tun@openssh.com";
    let denied = |pid| Heard::Denied {
        child: 10,
        pid,
        count: 1,
        what: Wanted::Tunnel,
        target: String::new(),
    };
    ear.says(9, &[&format!("Accepted publickey for alice from x port 5 ssh2: ED25519 {KEY}")]);
    ear.0.hear(10, 70_001, tunnel, ear.1);
    assert_eq!(ear.0.take(10, ear.1), []);
    ear.0.hear(9, 0, "User child is on pid 10", ear.1);
    assert_eq!(ear.0.take(10, ear.1), [denied(Some(9))]);
    let mut ear = Ear::new();
    ear.0.hear(10, 70_001, tunnel, ear.1);
    assert_eq!(ear.0.take(10, ear.1), []);
    assert_eq!(ear.0.take(10, ear.1 + UNCLAIMED), [denied(None)]);
}

#[test]
fn an_accounts_process_speaks_for_nobody_else() {
    let mut ear = Ear::new();
    ear.says(9, &[]);
    for message in [
        "Connection from 10.0.0.1 port 5 on 192.0.2.1 port 22",
        "Invalid user root from 10.0.0.1 port 5",
        "Timeout before authentication for connection from 10.0.0.1 to 192.0.2.1, pid = 9",
        "Connection closed by 198.51.100.7 port 5",
        "User child is on pid 9",
        "drop connection #0 from [10.0.0.1]:4 on [192.0.2.1]:22 penalty: x",
    ] {
        ear.0.hear(10, 70_001, message, ear.1);
    }
    assert_eq!(ear.0.take(10, ear.1), []);
}

#[test]
fn a_flood_is_bounded_and_what_is_lost_is_counted() {
    let mut ear = Ear::new();
    for pid in 0..20_000 {
        ear.says(pid, &["Connection closed by 198.51.100.7 port 5 [preauth]"]);
        let denied = format!(
            "Received request from x to connect to host h{pid} port 2, but the request was denied."
        );
        ear.0.hear(7, 70_001, &denied, ear.1);
    }
    assert!(ear.0.connections.len() <= REMEMBERED && ear.0.denied.len() <= 2 * COUNTED);
    let told = ear.0.take(usize::MAX, ear.1 + UNCLAIMED);
    let Heard::Lost { words } = told[0] else { panic!("{:?}", told[0]) };
    let refused = told.iter().filter(|heard| matches!(heard, Heard::Refused(_))).count() as u64;
    let denied: u64 = told
        .iter()
        .map(|heard| if let Heard::Denied { count, .. } = heard { (*count).into() } else { 0 })
        .sum();
    assert_eq!(words + refused + denied, 40_000);
}

/// Pieces of sshd's messages and of a stranger's, in any order: nothing panics, whatever is told is
/// short and plain, and no source but the connection's is ever told.
#[test]
fn whatever_is_said_nothing_false_is_told() {
    let pieces = [
        "Connection from ",
        "198.51.100.7",
        "10.0.0.1",
        " port 22",
        " on 192.0.2.1",
        "Invalid user ",
        "alice",
        " from ",
        " ssh2",
        ": ED25519 ",
        KEY,
        " [preauth]",
        "Failed publickey for ",
        "invalid user ",
        "debug1: ",
        "kex.c:kex_exchange_identification():1 (bin=sshd, pid=9): ",
        "Remote protocol version 2.0, remote software version ",
        "User child is on pid ",
        "9",
        "Accepted publickey for ",
        "Received request from ",
        " to connect to host ",
        ", but the request was denied.",
        "Connection closed by ",
        "Unable to negotiate with ",
        "a.c:auth_authorise_keyopts():1 (bin=x, pid=1): ",
        "k:1: entry expired at ",
        "\\r\\n",
        "\u{1b}",
        "漢字",
        "maximum authentication attempts exceeded for ",
        "\0",
        "Disconnected from ",
        "port ",
        "channels.c:channel_post_connecting():1 (bin=x, pid=1): channel 0: connected to ",
        "no more sessions",
        "refused streamlocal port forward: originator ",
        ", target ",
        "4294967296",
        "-1",
        ":",
        "[",
        "]",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut dice = move |sides: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % sides
    };
    let mut ear = Ear::new();
    for round in 0..60_000 {
        let pid = 1 + dice(20) as u32;
        if round % 3 == 0 {
            ear.says(pid, &[]);
        }
        let mut message: String = (0..dice(12)).map(|_| pieces[dice(pieces.len())]).collect();
        // Where a connection comes from is the first thing that its own process says of it.
        if message.contains("Connection from ") || message.starts_with("drop connection") {
            message.insert(0, '-');
        }
        let uid = if dice(4) == 0 { 70_001 } else { 0 };
        ear.0.hear(pid, uid, &message, ear.1);
        if round % 50 != 0 {
            continue;
        }
        for heard in ear.0.take(1000, ear.1 + UNCLAIMED) {
            let json = serde_json::to_string(&heard).expect("JSON");
            assert!(json.len() < 600 && json.is_ascii(), "{json}");
            if let Heard::Refused(refusal) = heard {
                assert_eq!(refusal.source, Some(Ipv4Addr::new(198, 51, 100, 7)), "{json}");
            }
        }
    }
}
