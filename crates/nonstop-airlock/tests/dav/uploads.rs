//! An upload is there whole, or nothing of it is.

use crate::{Ground, http::Client};
use nonstop_airlock::target::Side;
use nonstop_model::Root;
use std::{io::Read, net::Shutdown, thread, time::Duration};

#[test]
fn an_upload_that_breaks_off_leaves_what_was_there() {
    let ground = Ground::new(Side::Outside);
    let mut client = Client::to(ground.address);
    assert_eq!(client.ask("PUT", "/dav/e7/import/a", &[], b"old").status, 201);
    let head = "HTTP/1.1\r\nHost: localhost\r\n";
    for sent in [
        format!("PUT /dav/e7/import/a {head}Content-Length: 9\r\n\r\nnew"),
        format!("PUT /dav/e7/import/b {head}Content-Length: 9\r\n\r\n"),
        format!("PUT /dav/e7/import/c {head}Transfer-Encoding: chunked\r\n\r\n3\r\nnew\r\n"),
        format!("PUT /dav/e7/import/d {head}Transfer-Encoding: chunked\r\n\r\n3\r\nnew\r\nzz"),
        format!(
            "PUT /dav/e7/import/e {head}Transfer-Encoding: chunked\r\n\
             X-Expected-Entity-Length: 9\r\n\r\n3\r\nnew\r\n0\r\n\r\n"
        ),
    ] {
        let mut client = Client::to(ground.address);
        client.send(sent.as_bytes());
        client.stream.get_ref().shutdown(Shutdown::Write).expect("shut down");
        let mut rest = Vec::new();
        client.stream.read_to_end(&mut rest).expect("an end");
        assert!(rest.starts_with(b"HTTP/1.1 400"), "{sent}: {}", String::from_utf8_lossy(&rest));
    }
    assert_eq!(ground.daemon.names(Root::Import), ["a"]);
    assert_eq!(ground.daemon.content(Root::Import, "a"), b"old");
}

#[test]
fn whoever_waits_for_leave_is_told_at_once_what_is_in_the_way() {
    let ground = Ground::new(Side::Outside);
    ground.daemon.set_room(10);
    let fields = |length: usize| {
        format!("Host: localhost\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n")
    };
    for (path, length, status) in [
        ("/dav/e7/import/a", 11, 507),
        ("/dav/e7/export/a", 3, 403),
        ("/dav/e7/import/no/a", 3, 409),
    ] {
        let mut client = Client::to(ground.address);
        client.send(format!("PUT {path} HTTP/1.1\r\n{}", fields(length)).as_bytes());
        let got = client.answer(false);
        assert_eq!((got.status, got.field("connection")), (status, "close"), "{path}");
    }
    let mut client = Client::to(ground.address);
    client.send(format!("PUT /dav/e7/import/a HTTP/1.1\r\n{}", fields(3)).as_bytes());
    assert_eq!(client.answer(false).status, 100);
    client.send(b"abc");
    assert_eq!(client.answer(false).status, 201);
    // Nobody can know how long this is before it has come.
    let chunks = "PUT /dav/e7/import/b HTTP/1.1\r\nHost: localhost\r\n\
                  Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n6\r\n678901\r\n0\r\n\r\n";
    client.send(chunks.as_bytes());
    assert_eq!(client.answer(false).status, 507);
    assert_eq!(ground.daemon.names(Root::Import), ["a"]);
}

#[test]
fn a_refused_upload_hears_why_though_it_does_not_wait() {
    let ground = Ground::new(Side::Outside);
    ground.daemon.set_room(1 << 20);
    let mut client = Client::to(ground.address);
    let length = 64 << 20;
    client.send(
        format!(
            "PUT /dav/e7/import/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
        )
        .as_bytes(),
    );
    for _ in 0..64 {
        client.send(&vec![7; 1 << 20]);
    }
    assert_eq!(client.answer(false).status, 507);
}

#[test]
fn silent_connections_keep_nobody_out() {
    let ground = Ground::new(Side::Outside);
    let silent: Vec<Client> = (0..100)
        .map(|_| {
            let mut client = Client::to(ground.address);
            client.send(b"PUT /dav/e7/import/a HTTP/1.1\r\nHost: localhost\r\n");
            client
        })
        .collect();
    let mut client = Client::to(ground.address);
    assert_eq!(client.ask("PUT", "/dav/e7/import/b", &[], b"x").status, 201);
    drop(silent);
    thread::sleep(Duration::from_millis(200));
    assert_eq!(client.ask("GET", "/dav/e7/import/b", &[], b"").body, b"x");
}

#[test]
fn an_upload_during_which_the_daemon_is_restarted_is_to_be_sent_again() {
    let ground = Ground::new(Side::Outside);
    ground.daemon.put(Root::Import, "a", b"old");
    let mut client = Client::to(ground.address);
    let head = "PUT /dav/e7/import/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\n";
    client.send(format!("{head}abc").as_bytes());
    // Its file is there to be written before the daemon goes.
    let begun = std::time::Instant::now();
    while ground.daemon.writing() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "no upload began");
        thread::sleep(Duration::from_millis(10));
    }
    ground.daemon.restart();
    client.send(b"def");
    let got = client.answer(false);
    assert_eq!((got.status, got.field("retry-after")), (503, "5"), "{}", got.text());
    assert!(got.text().contains("send it again"), "{}", got.text());
    assert_eq!(ground.daemon.content(Root::Import, "a"), b"old");
    client.send(format!("{head}abcdef").as_bytes());
    assert_eq!(client.answer(false).status, 204);
    assert_eq!(ground.daemon.content(Root::Import, "a"), b"abcdef");
}

#[test]
fn a_copy_that_is_refused_leaves_what_was_there_and_nothing_beside_it() {
    let ground = Ground::new(Side::Outside);
    let daemon = &ground.daemon;
    for (root, path) in [(Root::Import, "keep"), (Root::Import, "own"), (Root::Export, "d")] {
        daemon.make_folder(root, path);
    }
    for (root, path, bytes) in [
        (Root::Import, "keep.txt", &b"keep"[..]),
        (Root::Import, "keep/inner.txt", b"keep"),
        (Root::Import, "own/bad", b"own"),
        (Root::Export, "x", b"0123456789"),
        (Root::Export, "d/x", b"0123456789"),
        (Root::Export, "d/y", b"1"),
    ] {
        daemon.put(root, path, bytes);
    }
    let mut client = Client::to(ground.address);
    let before = daemon.names(Root::Import);
    let copies = [("x", "keep.txt"), ("x", "keep"), ("d", "keep.txt"), ("d", "keep")];
    daemon.set_room(5);
    for (from, to) in copies {
        let to = format!("/dav/e7/import/{to}");
        let from = format!("/dav/e7/export/{from}");
        let got = client.ask("COPY", &from, &[("Destination", &to)], b"");
        assert_eq!(got.status, 507, "{from} to {to}: {}", got.text());
        assert_eq!(daemon.names(Root::Import), before, "{from} to {to}");
        assert_eq!(daemon.content(Root::Import, "keep.txt"), b"keep");
        assert_eq!(daemon.content(Root::Import, "keep/inner.txt"), b"keep");
    }
    // Within one tree a folder is copied name by name, too.
    daemon.refuse_copies_of("own/bad");
    let got =
        client.ask("COPY", "/dav/e7/import/own", &[("Destination", "/dav/e7/import/keep")], b"");
    assert_eq!(got.status, 507, "{}", got.text());
    assert_eq!(daemon.names(Root::Import), before);
    daemon.set_room(1 << 20);
    let to = |name: &str| format!("/dav/e7/import/{name}");
    for (from, into) in copies {
        let from = format!("/dav/e7/export/{from}");
        let got = client.ask("COPY", &from, &[("Destination", &to(into))], b"");
        assert_eq!(got.status, 204, "{from} to {into}: {}", got.text());
    }
    let after =
        ["keep", "keep.txt", "keep.txt/x", "keep.txt/y", "keep/x", "keep/y", "own", "own/bad"];
    assert_eq!(daemon.names(Root::Import), after);
}
