//! What a foreign page, a foreign name or a careless client cannot do.

use crate::World;
use nonstop_api::Request;
use std::{
    io::Write,
    net::{Ipv4Addr, TcpListener, TcpStream},
    time::Duration,
};

const APPLY: [(&str, &str); 3] = [("template", "macro"), ("hours", "8"), ("purpose", "scans")];

#[test]
fn a_form_of_ours_is_done_once_and_as_the_person_of_the_connection() {
    let world = World::new();
    let answer = world.alice().post("/requests/new", "/requests/new", &APPLY);
    assert_eq!((answer.status, answer.header("location")), (303, "/requests/r3?done=applied"));
    let done = world.daemon.done();
    assert!(
        matches!(&done[..], [(who, Request::RequestApply { account: None, .. })] if who == "alice"),
        "{done:?}"
    );
}

#[test]
fn a_name_that_was_made_to_point_here_is_refused() {
    let world = World::new();
    let own = format!("127.100.{}.1:{}", world.net[2], world.port);
    for good in ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", own.as_str()] {
        let mut browser = world.alice();
        browser.host = good.into();
        assert_eq!(browser.get("/").status, 200, "{good}");
    }
    let other = format!("127.100.{}.2:{}", world.net[2], world.port);
    for bad in ["evil.example:8000", "localhost.evil.example", other.as_str(), ""] {
        let mut browser = world.alice();
        browser.host = bad.into();
        let answer = browser.get("/");
        assert_eq!(answer.status, 403, "{bad}");
        assert!(!answer.body.contains("Alice"), "{}", answer.body);
    }
    let two =
        "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert!(matches!(world.alice().exchange(two).status, 400 | 403));
    let proxied =
        "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(world.alice().exchange(proxied).status, 403);
}

#[test]
fn a_form_from_elsewhere_or_without_its_token_does_nothing() {
    let world = World::new();
    let mut browser = world.alice();
    let token = browser.get("/requests/new").token();
    let good = [&[("token", token.as_str())], &APPLY[..]].concat();
    let refused = |answer: crate::browser::Answer, why: &str| {
        assert_eq!(answer.status, 403, "{why}: {}", answer.body);
    };
    refused(browser.post_raw("/requests/new", &good, false), "no origin");
    refused(browser.post_raw("/requests/new", &APPLY, true), "no token");
    let wrong = "0".repeat(64);
    let fields = [&[("token", wrong.as_str())], &APPLY[..]].concat();
    refused(browser.post_raw("/requests/new", &fields, true), "a wrong token");
    refused(world.alice().post_raw("/requests/new", &good, true), "without the cookie");
    browser.headers.insert("Sec-Fetch-Site".into(), "same-site".into());
    refused(browser.post_raw("/requests/new", &good, true), "another port of localhost");
    browser.headers.clear();
    for origin in ["http://evil.example", "null", "http://localhost:9000", "https://localhost:8000"]
    {
        let body = format!("token={token}&template=macro&hours=8&purpose=x");
        refused(browser.send("POST", "/requests/new", &body, &[("Origin", origin)]), origin);
    }
    assert_eq!(world.daemon.done(), []);
    assert_eq!(browser.post_raw("/requests/new", &good, true).status, 303);
}

#[test]
fn a_token_of_one_account_is_worth_nothing_at_anothers_address() {
    let world = World::new();
    let (mut alice, mut sato) = (world.alice(), world.sato());
    alice.get("/");
    // One browser with two tunnels: cookies of localhost are shared by all ports.
    sato.headers.insert("Cookie".into(), {
        let set = world.alice().get("/");
        set.header("set-cookie").split(';').next().expect("a cookie").to_string()
    });
    let token = alice.get("/requests/new").token();
    let answer = sato.post_raw("/requests/r3/approve", &[("token", &token)], true);
    assert_eq!((answer.status, world.daemon.done()), (403, vec![]));
}

#[test]
fn a_researcher_gets_no_page_of_the_staff() {
    let world = World::new();
    for path in ["/accounts", "/accounts/new", "/accounts/bob", "/trace"] {
        assert_eq!(world.alice().get(path).status, 403, "{path}");
    }
    for path in ["/requests/r3/approve", "/requests/r3/refuse", "/accounts/bob/suspend"] {
        let answer = world.alice().post("/", path, &[("reason", "x")]);
        assert_eq!(answer.status, 403, "{path}");
    }
    assert_eq!(world.daemon.done(), []);
}

#[test]
fn every_answer_carries_the_headers_that_keep_a_page_to_itself() {
    let world = World::new();
    for path in ["/", "/style.css", "/no-such-page", "/requests/r3", "/environments/e1/rdp/analyst"]
    {
        let answer = world.alice().get(path);
        let policy = answer.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "style-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "same-origin");
        let kept = if path == "/style.css" { "private, max-age=86400" } else { "no-store" };
        assert_eq!(answer.header("cache-control"), kept, "{path}");
        let cookie = answer.header("set-cookie");
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    }
}

#[test]
fn too_much_is_refused_and_other_methods_do_nothing() {
    let world = World::new();
    let mut alice = world.alice();
    let token = alice.get("/requests/new").token();
    let large = "x".repeat(70_000);
    let answer = alice.post_raw("/requests/new", &[("token", &token), ("purpose", &large)], true);
    assert_eq!(answer.status, 413);
    for method in ["PUT", "DELETE", "PATCH"] {
        assert_eq!(alice.send(method, "/requests/r3", "", &[]).status, 400, "{method}");
    }
    let answer = alice.get("/requests/r3/approve");
    assert!(answer.status == 405 && answer.body.contains("<h1>"), "{answer:?}");
    assert_eq!(world.daemon.done(), []);
}

#[test]
fn one_accounts_silent_connections_delay_nobody_else() {
    let world = World::new();
    let silent: Vec<_> = (0..40)
        .map(|_| {
            let mut socket = TcpStream::connect(world.address(1)).expect("queued");
            socket.write_all(b"GET / HTTP/1.1\r\nHost: local").expect("written");
            socket
        })
        .collect();
    assert_eq!(world.sato().get("/").status, 200);
    // Half-said requests are dropped after 15 s; then the person gets in again.
    assert_eq!(world.alice().get("/").status, 200);
    drop(silent);
}

#[test]
fn the_portal_listens_on_accounts_addresses_and_nowhere_else() {
    let world = World::new();
    let [a, b, c] = world.net;
    for other in [Ipv4Addr::new(a, b, c, 3), Ipv4Addr::LOCALHOST] {
        let taken = TcpListener::bind((other, world.port));
        assert!(taken.is_ok(), "{other} is listened on");
    }
}

#[test]
fn without_the_daemon_pages_say_so_and_listeners_stay() {
    let world = World::new();
    world.daemon.fall_silent();
    // Longer than it takes to ask for addresses again.
    std::thread::sleep(Duration::from_millis(2500));
    let answer = world.alice().japanese().get("/");
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("ラボが応答していません"), "{}", answer.body);
    assert!(answer.body.contains("http-equiv=\"refresh\""));
}
