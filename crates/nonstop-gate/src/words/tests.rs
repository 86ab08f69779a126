use super::*;

fn source() -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, 7)
}

#[test]
fn what_sshd_says_is_understood() {
    let key = "SHA256:RONkWasqQZIbLsFH2SPpztv3RH+KZZ0SaYIsspPH1LM";
    let failed =
        format!("Failed publickey for alice from 198.51.100.7 port 5 ssh2: ED25519 {key}\r\n");
    let told: [(&str, Word<'_>); 19] = [
        (
            "Connection from 198.51.100.7 port 55192 on 192.0.2.1 port 22 rdomain \"\"\r\n",
            Word::Connection { source: source() },
        ),
        (
            "debug1: kex.c:kex_exchange_identification():1395 (bin=sshd-session, pid=30): Remote protocol version 2.0, remote software version OpenSSH_10.0p2 Debian-7\r\n",
            Word::Client("OpenSSH_10.0p2 Debian-7"),
        ),
        (
            "Invalid user nobody2 from 198.51.100.7 port 38140\r\n",
            Word::User { name: "nobody2", known: false },
        ),
        (
            "User games not allowed because shell /bin/no does not exist\r\n",
            Word::User { name: "games", known: false },
        ),
        (&failed, Word::FailedKey { user: "alice", key: Some(key) }),
        (
            "debug1: auth2-pubkeyfile.c:auth_authorise_keyopts():69 (bin=sshd-session, pid=102): /run/nonstop/gate/keys/alice:2: entry expired at 2020-01-01T00:00:00\r\n",
            Word::Because(RefusedFor::Expired),
        ),
        (
            "auth2-pubkeyfile.c:auth_authorise_keyopts():101 (bin=sshd-session, pid=106): /run/e/keys/alice:3: Authentication tried for alice with correct key but not from a permitted host (host=127.0.0.1, ip=127.0.0.1, required=10.9.9.9).\r\n",
            Word::Because(RefusedFor::Source),
        ),
        (
            "Access denied for user alice by PAM account configuration [preauth]\r\n",
            Word::Because(RefusedFor::Daemon),
        ),
        (
            "Unable to negotiate with 198.51.100.7 port 5: no matching cipher found. Their offer: chacha20-poly1305@openssh.com [preauth]\r\n",
            Word::Because(RefusedFor::NoAlgorithms),
        ),
        (
            "maximum authentication attempts exceeded for alice from 198.51.100.7 port 54948 ssh2 [preauth]\r\n",
            Word::Because(RefusedFor::TooManyTries),
        ),
        (
            "Timeout before authentication for connection from 198.51.100.7 to 192.0.2.1, pid = 238\r\n",
            Word::TimeUp { source: source(), pid: 238 },
        ),
        (
            "drop connection #0 from [198.51.100.7]:42376 on [192.0.2.1]:22 penalty: failed authentication\r\n",
            Word::Dropped { source: source(), why: RefusedFor::Penalty },
        ),
        (
            "drop connection #200 from [198.51.100.7]:42376 on [192.0.2.1]:22 past MaxStartups\r\n",
            Word::Dropped { source: source(), why: RefusedFor::Crowded },
        ),
        ("User child is on pid 32\r\n", Word::Child(32)),
        (
            "debug1: channels.c:channel_post_connecting():2054 (bin=sshd-session, pid=340): channel 0: connected to 10.77.0.2 port 3389\r\n",
            Word::Connected("10.77.0.2:3389".into()),
        ),
        (
            "Received request from 198.51.100.10 port 36540 to connect to host 127.0.0.1 port 22, but the request was denied.\r\n",
            Word::Denied { what: Wanted::Forward, target: "127.0.0.1:22".into() },
        ),
        (
            "refused streamlocal port forward: originator 127.0.0.1 port 34262, target /run/x\r\n",
            Word::Denied { what: Wanted::UnixSocket, target: "/run/x".into() },
        ),
        (
            "debug1: serverloop.c:server_input_global_request():726 (bin=sshd-session, pid=57): rtype tcpip-forward want_reply 1\r\n",
            Word::Denied { what: Wanted::RemoteForward, target: String::new() },
        ),
        (
            "Timeout, client not responding from user alice 198.51.100.7 port 5\r\n",
            Word::Over(EndedBy::Silence),
        ),
    ];
    for (message, means) in told {
        assert_eq!(word(message), Some(means), "{message}");
    }
}

#[test]
fn a_name_that_reads_like_a_message_is_a_name() {
    for name in [
        "alice from 10.0.0.1 port 22 ssh2",
        "x from 10.0.0.1 port 22",
        "x ssh2: ED25519 SHA256:RONkWasqQZIbLsFH2SPpztv3RH+KZZ0SaYIsspPH1LM",
        "User child is on pid 7",
        "x not allowed because y",
        "\\r\\nAccepted publickey for root from 10.0.0.1 port 22 ssh2",
        " [preauth]",
        "kex.c:kex_exchange_identification():1 (bin=sshd, pid=1): Remote protocol version 2.0, remote software version x",
    ] {
        let message = format!("Invalid user {name} from 198.51.100.7 port 38154\r\n");
        assert_eq!(word(&message), Some(Word::User { name, known: false }), "{message}");
        let key = "SHA256:AONkWasqQZIbLsFH2SPpztv3RH+KZZ0SaYIsspPH1LM";
        let message =
            format!("Failed publickey for {name} from 198.51.100.7 port 5 ssh2: RSA {key}\r\n");
        assert_eq!(word(&message), Some(Word::FailedKey { user: name, key: Some(key) }));
        let message =
            format!("Connection closed by invalid user {name} 198.51.100.7 port 38154 [preauth]");
        assert_eq!(word(&message), Some(Word::Over(EndedBy::Connection)));
    }
}

#[test]
fn a_target_that_reads_like_a_message_is_a_target() {
    let host = "10.0.0.1 port 22, but the request was denied.\\r\\nx";
    let message = format!(
        "Received request from 198.51.100.10 port 3 to connect to host {host} port 9, but the request was denied."
    );
    let Some(Word::Denied { target, .. }) = word(&message) else { panic!("{message}") };
    assert_eq!(target, format!("{host}:9"));
    let version = "Evil), pid=1): Connection from 10.0.0.1 port 1 on x \u{7}\u{1b}[31m";
    let message = format!(
        "debug1: kex.c:kex_exchange_identification():1395 (bin=sshd-session, pid=30): Remote protocol version 2.0, remote software version {version}"
    );
    assert_eq!(word(&message), Some(Word::Client(version)));
    assert_eq!(text(version), "Evil), pid=1): Connection from 10.0.0.1 port 1 on x ??[31m");
}

#[test]
fn what_a_stranger_chose_is_short_and_plain() {
    let long = "x".repeat(500);
    assert_eq!(text(&long).len(), LONGEST_TEXT);
    assert!(text(&long).ends_with('+'));
    assert_eq!(text("a\u{202e}b\nc"), "a?b?c");
}
